//! A user who logs in at an identity provider, so that its client gets a refresh token.

use std::collections::BTreeMap;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use url::Url;

use crate::answered::{Answered, Tokens};
use crate::estate::Caller;
use crate::idp::{Facts, Kind, secret};

/// Where the browser is sent with a code. Nobody has to be there.
const CALLBACK: &str = "http://127.0.0.1:9/cb";

/// Returns each answer on the way, and what the client got in the end.
pub async fn log_in(
    caller: &Caller,
    facts: &Facts,
    kind: Kind,
) -> (Vec<(String, Answered)>, Tokens) {
    let mut steps = Vec::new();
    let form = match kind {
        Kind::Glewlwyd => {
            "grant_type=password&username=alice&password=alicepassword&scope=svc".to_owned()
        }
        Kind::OidcProvider | Kind::OidcProviderOpaque => {
            let code = Browser::of(caller).authorize(facts.application, &mut steps).await;
            format!("grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}")
        }
    };
    let client = facts.application;
    let answer = caller.ask(client, &secret(client), facts.token, &form).await;
    let tokens = Tokens::of(&answer);
    assert!(!tokens.refresh.is_empty(), "{}", answer.text);
    steps.push(("log in".to_owned(), answer));
    (steps, tokens)
}

/// As much of a browser as a login takes.
struct Browser<'a> {
    caller: &'a Caller,
    cookies: BTreeMap<String, String>,
}

impl<'a> Browser<'a> {
    fn of(caller: &'a Caller) -> Self {
        Self { caller, cookies: BTreeMap::new() }
    }

    /// Authorizes a client, and returns the code that it is given.
    async fn authorize(&mut self, client: &str, steps: &mut Vec<(String, Answered)>) -> String {
        let mut at = format!(
            "/auth?client_id={client}&response_type=code&redirect_uri={CALLBACK}\
             &scope=openid%20offline_access%20svc&prompt=consent&state=here"
        );
        let mut form = None;
        loop {
            let answer = self.go(&at, form.take()).await;
            let name = format!("step {}", steps.len());
            steps.push((name, answer.clone()));
            if answer.status == 200 {
                // A page with a form: who it is, or that they agree.
                let prompt = ["login", "consent"]
                    .into_iter()
                    .find(|prompt| answer.text.contains(&format!("value=\"{prompt}\"")));
                let prompt = prompt.unwrap_or_else(|| panic!("{}", answer.text));
                form = Some(format!("prompt={prompt}&login=alice&password=x"));
                continue;
            }
            assert_eq!(answer.status, 303, "{at}: {}", answer.text);
            let location = answer.field("location").unwrap();
            if location.starts_with(CALLBACK) {
                let url = Url::parse(location).unwrap();
                let mut pairs = url.query_pairs();
                return pairs.find(|(name, _)| name == "code").unwrap().1.into_owned();
            }
            at = path_of(location);
        }
    }

    async fn go(&mut self, path: &str, form: Option<String>) -> Answered {
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let pairs: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self.caller.request(method, path).header(COOKIE, pairs.join("; "));
        if let Some(form) = form {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        }
        let answer = Answered::to(request).await;
        for cookie in answer.fields.get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }
}

/// Of an absolute URL, or of a path.
fn path_of(location: &str) -> String {
    let base = Url::parse("http://somewhere.example").unwrap();
    let url = base.join(location).unwrap();
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}
