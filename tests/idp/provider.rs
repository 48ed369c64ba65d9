//! panva's oidc-provider as the identity provider.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::front::Facts;
use crate::software::{node, tree};

/// The `issuer` of its metadata and the `iss` of its tokens.
pub const ISSUER: &str = "https://idp.example";
/// What its tokens are for.
pub const AUDIENCE: &str = "urn:example:legacy-api";
/// The key that it signs with.
pub const KID: &str = "oidc-provider-1";
/// Its clients, one for each way of authenticating. A secret is the name with `-secret`.
pub const BY_BASIC: &str = "by-basic";
pub const BY_POST: &str = "by-post";

/// A running oidc-provider. It ends when it is dropped.
pub struct Provider {
    process: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Provider {
    pub fn start() -> Self {
        Self::start_in(&[])
    }

    /// Its access tokens are opaque.
    pub fn start_with_opaque_tokens() -> Self {
        Self::start_in(&[("OPAQUE", "1")])
    }

    fn start_in(environment: &[(&str, &str)]) -> Self {
        tokio::task::block_in_place(|| {
            let mut process = node()
                .arg(tree().join("tests/idp/oidc-provider/server.mjs"))
                .env("ISSUER", ISSUER)
                .env("NODE_ENV", "production")
                .envs(environment.iter().copied())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let commands = process.stdin.take().unwrap();
            let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
            let listening = lines.next().expect("oidc-provider ended at once").unwrap();
            let port = listening.strip_prefix("listening ").unwrap().parse().unwrap();
            Self { process, commands, lines, port }
        })
    }

    pub fn facts(&self) -> Facts {
        Facts {
            origin: self.origin(),
            issuer: ISSUER,
            token: "/token",
            jwks: "/jwks",
            metadata: "/.well-known/openid-configuration",
            introspection: "/token/introspection",
            revocation: "/token/revocation",
            application: BY_BASIC,
            resource_server: "api",
            stranger: "stranger",
        }
    }

    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Closes its port and its connections.
    pub fn go_down(&mut self) {
        self.tell("down");
    }

    /// Listens again on the same port.
    pub fn come_up(&mut self) {
        self.tell("up");
    }

    fn tell(&mut self, command: &str) {
        tokio::task::block_in_place(|| {
            writeln!(self.commands, "{command}").unwrap();
            assert_eq!(self.lines.next().unwrap().unwrap(), command);
        });
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
