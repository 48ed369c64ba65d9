//! panva's oidc-provider as the identity provider.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::idp::Facts;
use crate::port::Port;
use crate::software::{node, tree};

/// What its tokens are for.
const AUDIENCE: &str = "urn:example:legacy-api";

/// A running oidc-provider. It ends when it is dropped.
pub struct Provider {
    process: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _port: Port,
    facts: Facts,
}

impl Provider {
    /// Whoever calls it knows it as `public`. Its access tokens are JWTs.
    pub fn start(public: &str) -> Self {
        Self::start_in(public, &[])
    }

    /// Its access tokens are opaque.
    pub fn start_with_opaque_tokens(public: &str) -> Self {
        Self::start_in(public, &[("OPAQUE", "1")])
    }

    fn start_in(public: &str, environment: &[(&str, &str)]) -> Self {
        let port = Port::reserve();
        let facts = facts(port.origin(), public);
        tokio::task::block_in_place(|| {
            let mut process = node()
                .arg(tree().join("tests/idp/oidc-provider/server.mjs"))
                .env("ISSUER", public)
                .env("PORT", port.number().to_string())
                .env("NODE_ENV", "production")
                .envs(environment.iter().copied())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let commands = process.stdin.take().unwrap();
            let lines = BufReader::new(process.stdout.take().unwrap()).lines();
            let mut running = Self { process, commands, lines, _port: port, facts };
            running.hears("up");
            running
        })
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
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
            self.hears(command);
        });
    }

    fn hears(&mut self, word: &str) {
        assert_eq!(self.lines.next().expect("oidc-provider ended").unwrap(), word);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn facts(origin: String, public: &str) -> Facts {
    Facts {
        origin,
        issuer: public.to_owned(),
        token: "/token",
        jwks: "/jwks",
        metadata: "/.well-known/openid-configuration",
        introspection: "/token/introspection",
        revocation: "/token/revocation",
        application: "by-basic",
        by_post: "by-post",
        resource_server: "api",
        stranger: "stranger",
        audience: AUDIENCE,
    }
}
