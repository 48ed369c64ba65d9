//! `cambio dev`, as somebody meets it first.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::process::command;
use super::support::{PATIENCE, folder, install_crypto};

/// The command, with its temporary files in this folder.
fn dev(folder: &Path, more: &[&str]) -> Child {
    let mut command = command(folder, &[&["dev"], more].concat());
    command.env("TMPDIR", folder).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// What is printed up to and with these words.
async fn printed(child: &mut Child, last: &str) -> String {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&text).contains(last) {
            assert_ne!(out.read_buf(&mut text).await.unwrap(), 0, "it ended");
        }
    };
    timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("never said: {last}"));
    String::from_utf8(text).unwrap()
}

/// Does what one of the printed commands does.
async fn paste(curl: &str) -> (u16, Value) {
    // What stands between quotes: the URL, two header fields, and the parameters.
    let mut quoted = curl.split('\'').skip(1).step_by(2);
    let mut request = reqwest::Client::new().post(quoted.next().unwrap());
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (at, text) in quoted.enumerate() {
        if at < 2 {
            let (name, value) = text.split_once(": ").unwrap();
            request = request.header(name, value);
        } else {
            let (name, value) = text.split_once('=').unwrap();
            form.append_pair(name, value);
        }
    }
    let answer = request.body(form.finish()).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

fn is_empty(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    !names.any(|name| name.starts_with("cambio-dev-"))
}

#[tokio::test]
async fn a_rehearsal_exchanges_and_refreshes_and_leaves_nothing_behind() {
    let folder = folder();
    let child = dev(folder.path(), &["--once"]);
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    for step in [
        "1. A token of the third party",
        "400 {\"error\":\"unsupported_grant_type\"",
        "4. The token that Cambio minted",
        "6. The refresh token of that answer, used:\n\n   200 {",
        "7. The identity provider's own client_credentials grant",
    ] {
        assert!(told.contains(step), "{step}: {told}");
    }
    // Of a refresh token nobody could make use of what is shown.
    let shown = told.split("cambio_rt_").nth(1).unwrap();
    assert_eq!(shown.find('…'), Some(6), "{told}");
    assert!(is_empty(folder.path()));
}

#[tokio::test]
async fn the_printed_commands_do_what_they_say() {
    install_crypto();
    let folder = folder();
    let mut child = dev(folder.path(), &[]);
    let told = printed(&mut child, "Ctrl-C ends it.").await;
    let commands: Vec<&str> = told.split("\n\n").filter(|part| part.contains("curl -")).collect();
    let [exchange, refresh] = commands.as_slice() else { panic!("{told}") };

    let (status, exchanged) = paste(exchange).await;
    assert_eq!(status, 200, "{exchanged}");
    let (status, refreshed) = paste(refresh).await;
    assert_eq!(status, 200, "{refreshed}");
    assert!(refreshed["access_token"].as_str().unwrap().starts_with("eyJ"));
    // A token that was used counts no more, and ends its family.
    let (status, refused) = paste(refresh).await;
    assert_eq!((status, &refused["error"]), (400, &"invalid_grant".into()));
    let next = |token: &Value| {
        let token = token["refresh_token"].as_str().unwrap();
        let (before, rest) = refresh.split_once("refresh_token=").unwrap();
        let (_, after) = rest.split_once('\'').unwrap();
        format!("{before}refresh_token={token}'{after}")
    };
    assert_eq!(paste(&next(&refreshed)).await.0, 400);
    // The other exchange is none of its business.
    assert_eq!(paste(&next(&exchanged)).await.0, 200);

    let process = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &process]).status().await.unwrap().success());
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(is_empty(folder.path()));
}
