//! A resource server in C: Apache with `mod_oauth2`, which learns of its authorization server by the
//! issuer alone.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::port::Port;
use crate::software::{APACHE, APACHE_MODULES, idps};

/// What it protects: a page that says who is let in, as the server tells it.
const PAGE: &str = r#"{"sub":"<!--#echo encoding="none" var="OAUTH2_CLAIM_sub" -->"}"#;

/// A running Apache. It ends when it is dropped.
pub struct Apache {
    process: Child,
    port: Port,
    folder: TempDir,
    http: reqwest::Client,
}

impl Drop for Apache {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Apache {
    /// It lets in whom `issuer` gave a token.
    pub async fn start(issuer: &str) -> Self {
        let port = Port::reserve();
        let folder = TempDir::new().unwrap();
        // Where root starts it, it goes on as somebody else.
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everybody).unwrap();
        std::fs::write(folder.path().join("page"), PAGE).unwrap();
        let config = folder.path().join("apache.conf");
        std::fs::write(&config, configuration(&port, folder.path(), issuer)).unwrap();
        let process = tokio::task::block_in_place(|| {
            idps();
            // One process, so that it ends as a whole.
            Command::new(APACHE)
                .args(["-X", "-f"])
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        });
        let mut running = Self { process, port, folder, http: reqwest::Client::new() };
        let Self { process, port, folder, .. } = &mut running;
        port.listened(|| {
            let status = process.try_wait().unwrap()?;
            let log = std::fs::read_to_string(folder.path().join("error.log"));
            Some(format!("{status}\n{}", log.unwrap_or_default()))
        })
        .await;
        running
    }

    /// The subject whom the page is shown to, or the status of the refusal.
    pub async fn lets_in(&self, token: &str) -> Result<String, u16> {
        let request = self.http.get(format!("{}/page", self.port.origin()));
        let answer = request.bearer_auth(token).send().await.unwrap();
        if answer.status() != 200 {
            return Err(answer.status().as_u16());
        }
        let page: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        Ok(page["sub"].as_str().unwrap().to_owned())
    }
}

fn configuration(port: &Port, folder: &Path, issuer: &str) -> String {
    let (folder, number) = (folder.display(), port.number());
    let mut text = String::new();
    for module in ["mpm_event", "authn_core", "authz_core", "authz_user", "include", "oauth2"] {
        writeln!(text, "LoadModule {module}_module {APACHE_MODULES}/mod_{module}.so").unwrap();
    }
    text + &format!(
        "\
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{number}
User nobody
Group nogroup
PidFile {folder}/pid
DefaultRuntimeDir {folder}
Mutex file:{folder}
ErrorLog {folder}/error.log
DocumentRoot {folder}
<Location />
  Require all denied
</Location>
<Location /page>
  AuthType oauth2
  OAuth2TokenVerify metadata {issuer}/.well-known/openid-configuration
  Require oauth2_claim iss:{issuer}
  Options +Includes
  SetOutputFilter INCLUDES
</Location>
"
    )
}
