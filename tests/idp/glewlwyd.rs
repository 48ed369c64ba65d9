//! Glewlwyd as the identity provider: written in C, with a database, and strict in its own way.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::generate_pem;
use reqwest::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::idp::Facts;
use crate::port::Port;
use crate::software::{GLEWLWYD, complete, idps};

/// Where Debian's package keeps what the database begins with.
const SCHEMA: &str = "/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3";
/// Its clients. A secret is the name with `-secret-at-the-idp`.
const CLIENTS: [&str; 3] = ["svc1", "api", "stranger"];

/// A running glewlwyd with a database of its own. Both end when it is dropped.
pub struct Glewlwyd {
    process: Child,
    port: Port,
    folder: TempDir,
    facts: Facts,
}

impl Drop for Glewlwyd {
    fn drop(&mut self) {
        self.go_down();
    }
}

impl Glewlwyd {
    /// With clients, and `alice` as a user. Whoever calls it knows it as `public`.
    pub async fn start(public: &str) -> Self {
        let (port, folder) = (Port::reserve(), TempDir::new().unwrap());
        let mut schema = Command::new("sqlite3");
        schema.arg(folder.path().join("glewlwyd.db")).arg(format!(".read {SCHEMA}"));
        let text = configuration(port.number(), folder.path(), public);
        std::fs::write(folder.path().join("glewlwyd.conf"), text).unwrap();
        let process = tokio::task::block_in_place(|| {
            idps();
            complete(schema);
            spawn(folder.path())
        });
        let facts = facts(port.origin(), public);
        let mut running = Self { process, port, folder, facts };
        running.listens().await;
        running.furnish().await;
        running
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub fn go_down(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts again on the same port, with the same database.
    pub async fn come_up(&mut self) {
        self.process = spawn(self.folder.path());
        self.listens().await;
    }

    async fn listens(&mut self) {
        let Self { process, port, .. } = self;
        port.listened(|| process.try_wait().unwrap().map(|status| status.to_string())).await;
    }

    /// As its administrator does in the browser.
    async fn furnish(&self) {
        let http = reqwest::Client::new();
        let api = |path: &str| format!("{}/api/{path}", self.port.origin());
        let login = json!({"username": "admin", "password": "password"}).to_string();
        let request = http.post(api("auth/")).header(CONTENT_TYPE, "application/json").body(login);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        // What is named comes before what names it.
        let scope = json!({
            "name": "svc", "display_name": "svc", "description": "svc",
            "password_required": false, "scheme": {},
        });
        let alice = json!({
            "username": "alice", "name": "Alice", "email": "alice@example.test",
            "password": "alicepassword", "scope": ["g_profile", "openid", "svc"], "enabled": true,
        });
        let mut all =
            vec![("scope/", scope), ("mod/plugin/", plugin(&self.facts.issuer)), ("user/", alice)];
        all.extend(CLIENTS.map(|name| ("client/", client(name))));
        for (path, value) in all {
            let request = http.post(api(path)).header(COOKIE, &cookie);
            let request = request.header(CONTENT_TYPE, "application/json").body(value.to_string());
            let answer = request.send().await.unwrap();
            let status = answer.status();
            assert_eq!(status, 200, "{path}: {}", answer.text().await.unwrap());
        }
    }
}

fn spawn(folder: &Path) -> Child {
    Command::new(GLEWLWYD)
        .arg(format!("--config-file={}", folder.join("glewlwyd.conf").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn facts(origin: String, public: &str) -> Facts {
    Facts {
        origin,
        issuer: format!("{public}/api/oidc"),
        token: "/api/oidc/token",
        jwks: "/api/oidc/jwks",
        metadata: "/api/oidc/.well-known/openid-configuration",
        introspection: "/api/oidc/introspect",
        revocation: "/api/oidc/revoke",
        application: CLIENTS[0],
        by_post: CLIENTS[0],
        resource_server: CLIENTS[1],
        stranger: CLIENTS[2],
        audience: "svc",
    }
}

fn configuration(port: u16, folder: &Path, public: &str) -> String {
    let folder = folder.display();
    let mut text = format!(
        r#"port={port}
bind_address="127.0.0.1"
external_url="{public}"
login_url="login.html"
api_prefix="api"
log_mode="file"
log_level="WARNING"
log_file="{folder}/glewlwyd.log"
cookie_secure=0
session_key="GLEWLWYD2_SESSION_ID"
admin_scope="g_admin"
profile_scope="g_profile"
hash_algorithm="SHA512"
use_secure_connection=false
database = {{ type = "sqlite3"; path = "{folder}/glewlwyd.db"; }};
"#
    );
    for (kind, module) in [
        ("user", "user"),
        ("client", "client"),
        ("user_auth_scheme", "scheme"),
        ("plugin", "plugin"),
    ] {
        writeln!(text, "{kind}_module_path=\"/usr/lib/glewlwyd/{module}\"").unwrap();
    }
    // It wants to know of them even where it uses none.
    for kind in ["key", "pem", "ca"] {
        writeln!(text, "secure_connection_{kind}_file=\"{folder}/none\"").unwrap();
    }
    text
}

fn plugin(issuer: &str) -> Value {
    let private = generate_pem(Algorithm::RS256).unwrap();
    let public = rcgen::KeyPair::from_pem(&private).unwrap();
    let public = rcgen::PublicKeyData::subject_public_key_info(&public);
    let public = pem("PUBLIC KEY", &public);
    json!({
        "module": "oidc", "name": "oidc", "display_name": "OIDC", "order_by": 0, "enabled": true,
        "parameters": {
            "iss": issuer,
            "subject-type": "public",
            "jwt-type": "rsa",
            "jwt-key-size": "256",
            "key": private.as_str(),
            "cert": public,
            "jwks-show": true,
            "access-token-duration": 3600,
            "refresh-token-duration": 86400,
            "code-duration": 600,
            "refresh-token-rolling": true,
            "refresh-token-one-use": "always",
            "allow-non-oidc": true,
            "auth-type-code-enabled": false,
            "auth-type-token-enabled": false,
            "auth-type-id-token-enabled": true,
            "auth-type-none-enabled": false,
            "auth-type-password-enabled": true,
            "auth-type-client-enabled": true,
            "auth-type-refresh-enabled": true,
            "auth-type-device-enabled": false,
            "introspection-revocation-allowed": true,
            "introspection-revocation-allow-target-client": true,
            "introspection-revocation-auth-scope": ["svc"],
            "session-management-allowed": false,
            "pkce-allowed": false,
            "scope": [],
            "claims": [],
            "additional-parameters": [],
            "allowed-scope": ["openid", "svc"],
            "request-parameter-allow": false,
            "client-pubkey-parameter": "pubkey",
            "client-jwks-parameter": "jwks",
            "client-jwks_uri-parameter": "jwks_uri",
        },
    })
}

fn client(name: &str) -> Value {
    let secret = format!("{name}-secret-at-the-idp");
    json!({
        "client_id": name, "name": name, "confidential": true, "enabled": true,
        "password": secret, "client_secret": secret, "scope": ["svc"],
        "redirect_uri": ["http://127.0.0.1:9/cb"],
        "authorization_type": ["client_credentials", "password", "refresh_token", "delete_token"],
        "token_endpoint_auth_method": ["client_secret_basic", "client_secret_post"],
    })
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text += std::str::from_utf8(line).unwrap();
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
