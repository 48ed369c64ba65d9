//! Two issuers, clients that refresh, and what was granted to them.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cambio::clock;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use serde_json::Value;

use crate::inquiry_support::{INTROSPECT, Idp, its_secret};
use crate::leap::until;
use crate::support::{Connection, get, install_crypto, post};

const OURS: &str = "https://idp.example/oauth2/token";
/// The audience of every token.
pub const API: &str = "https://api.example.com";

/// Whoever stands around a Cambio.
pub struct Partners {
    partner: StandInIssuer,
    other: StandInIssuer,
    idp: Idp,
}

impl Partners {
    pub async fn start() -> Self {
        install_crypto();
        Self {
            partner: StandInIssuer::start(&[Algorithm::ES256]).await.unwrap(),
            other: StandInIssuer::start(&[Algorithm::ES256]).await.unwrap(),
            idp: Idp::start().await,
        }
    }

    /// Of the identity provider.
    pub fn url(&self) -> String {
        self.idp.upstream.url()
    }

    pub fn upstream(&self) -> SocketAddr {
        self.idp.upstream.address
    }

    /// The issuers `partner` and `other`, whose subjects are `p:…` and `o:…`; the clients `portal`,
    /// which gets JWTs, and `kiosk`, which gets opaque tokens. Both refresh. `api` may introspect all.
    pub fn lines(&self) -> String {
        let issuer = |name: &str, prefix: &str| {
            let issuer = self.issuer(name);
            format!(
                "  - {{ name: {name}, issuer: \"{}\", jwks_endpoint: \"{}\", subject_prefix: \"{prefix}\" }}\n",
                issuer.issuer(),
                issuer.jwks_url()
            )
        };
        let application = |name: &str, client_id: &str, format: &str| {
            format!(
                "  - name: {name}\n    client_id: {client_id}\n    type: mobile\n    \
                 allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\", refresh_token]\n    \
                 audiences: [\"{API}\"]\n    access_token: {{ format: {format} }}\n"
            )
        };
        [
            "trusted_token_issuers:\n",
            &issuer("partner", "p:"),
            &issuer("other", "o:"),
            "applications:\n",
            &application("Portal", "portal", "jwt"),
            &application("Kiosk", "kiosk", "opaque"),
            &format!("resource_servers: [{{ client_id: api, audiences: [\"{API}\"] }}]\n"),
        ]
        .concat()
    }

    pub fn issuer(&self, name: &str) -> &StandInIssuer {
        match name {
            "partner" => &self.partner,
            "other" => &self.other,
            _ => panic!("there is no issuer {name}"),
        }
    }

    /// A grant that begins with an exchange.
    pub async fn grant(
        &self,
        address: SocketAddr,
        issuer: &'static str,
        subject: &'static str,
        client: &'static str,
    ) -> Grant {
        let stand_in = self.issuer(issuer);
        let claims = stand_in.claims(subject, OURS, clock::now().as_secs());
        let token = stand_in.mint(Algorithm::ES256, &claims).unwrap();
        let answer = ask(
            address,
            &[
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("subject_token", &token),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
                ("client_id", client),
            ],
        )
        .await;
        let answer = answer.unwrap_or_else(|refused| panic!("{refused:?}"));
        let mut grant = Grant {
            issuer,
            subject,
            client,
            refresh_token: String::new(),
            access_token: String::new(),
        };
        grant.take(&answer);
        grant
    }
}

/// What a client has.
#[derive(Debug)]
pub struct Grant {
    pub issuer: &'static str,
    /// As the issuer calls it.
    pub subject: &'static str,
    pub client: &'static str,
    pub refresh_token: String,
    pub access_token: String,
}

impl Grant {
    fn take(&mut self, answer: &Value) {
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (self.refresh_token, self.access_token) = (text("refresh_token"), text("access_token"));
    }

    /// Rotates the refresh token; or else status and error.
    pub async fn refresh(&mut self, address: SocketAddr) -> Result<(), (u16, String)> {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &self.refresh_token),
            ("client_id", self.client),
        ];
        let answer = ask(address, &fields).await?;
        self.take(&answer);
        Ok(())
    }
}

/// Whether an access token is active, as its resource server is told.
pub async fn is_active(address: SocketAddr, token: &str) -> bool {
    let basic = STANDARD.encode(format!("api:{}", its_secret("api")));
    let fields = format!("Authorization: Basic {basic}\r\nConnection: close\r\n");
    let request = post(INTROSPECT, &fields, &form(&[("token", token)]));
    let response = Connection::open(address).await.request(request).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["active"].as_bool().unwrap()
}

/// The answer of the token endpoint; or else status and error.
async fn ask(address: SocketAddr, fields: &[(&str, &str)]) -> Result<Value, (u16, String)> {
    let body = form(fields);
    let request = post("/oauth2/token", "Connection: close\r\n", &body);
    let response = Connection::open(address).await.request(request).await;
    let answer = response.json();
    if response.status == 200 {
        return Ok(answer);
    }
    Err((response.status, answer["error"].as_str().unwrap_or_default().to_owned()))
}

pub fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// How many refreshes ended so, by the metrics of a Cambio.
pub async fn refreshes(admin: SocketAddr, outcome: &str, reason: &str) -> u64 {
    let metrics = Connection::open(admin).await.request(get("/metrics", "")).await;
    let name = format!("cambio_refreshes_total{{outcome=\"{outcome}\",reason=\"{reason}\"}} ");
    let found = metrics.text().lines().find_map(|line| line.strip_prefix(&name));
    found.map_or(0, |count| count.parse().unwrap())
}

/// Waits until the next second.
pub async fn next_second() {
    let now = clock::now();
    until(|| clock::now() > now).await;
}
