//! Cambio between its two stand-ins, with a configuration that it wrote itself.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::StandInError;
use super::idp::{CLIENT_ID as IDP_CLIENT, StandInIdp};
use super::issuer::StandInIssuer;
use crate::clock;
use crate::jwt::algorithm::Algorithm;
use crate::jwt::sign::generate_pem;

/// The application that calls.
pub const CLIENT_ID: &str = "portal";
/// What its tokens are for.
pub const AUDIENCE: &str = "https://api.example.com";
/// What its users are called.
pub const SUBJECT: &str = "alice";
/// By this name the third party knows us.
const ALIAS: &str = "https://partner.example/our-name";

/// A folder that nobody else may look into, gone when it is dropped.
#[derive(Debug)]
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("cambio-dev-{}", random::<9>()?));
        // Fails where something has that name already.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The two stand-ins, and what Cambio needs to stand between them.
pub struct Stage {
    pub idp: StandInIdp,
    pub issuer: StandInIssuer,
    client_secret: String,
    cambio: SocketAddr,
    configuration: PathBuf,
    _folder: PrivateFolder,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("cambio", &self.cambio).finish_non_exhaustive()
    }
}

impl Stage {
    /// Starts the stand-ins and writes the configuration of a Cambio at these addresses.
    pub async fn set(cambio: SocketAddr, admin: SocketAddr) -> Result<Self, StandInError> {
        let idp = StandInIdp::start(Some(format!("http://{cambio}"))).await?;
        let issuer = StandInIssuer::start(&[Algorithm::RS256]).await?;
        let client_secret = random::<24>()?;
        // An application of both, as it is where an identity provider gets Cambio before it.
        idp.register(CLIENT_ID, client_secret.clone());
        let folder = PrivateFolder::create()?;
        folder.write("signing.pem", &generate_pem(Algorithm::ES256)?)?;
        folder.write("portal.secret", &client_secret)?;
        let text = configuration(cambio, admin, &idp, &issuer);
        let configuration = folder.write("cambio.yaml", &text)?;
        Ok(Self { idp, issuer, client_secret, cambio, configuration, _folder: folder })
    }

    /// The configuration file.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Cambio's origin, which is the issuer too.
    pub fn origin(&self) -> String {
        format!("http://{}", self.cambio)
    }

    pub fn client_secret(&self) -> &str {
        &self.client_secret
    }

    /// The value of the application's `Authorization` field.
    pub fn authorization(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{CLIENT_ID}:{}", self.client_secret)))
    }

    /// A token of the third party that is good for an hour.
    pub fn subject_token(&self) -> Result<String, StandInError> {
        let mut claims = self.issuer.claims(SUBJECT, ALIAS, clock::now().as_secs());
        if let Some(members) = claims.as_object_mut() {
            members.insert("email".into(), "alice@partner.example".into());
            members.insert("role".into(), "of no concern to us".into());
        }
        self.issuer.mint(Algorithm::RS256, &claims)
    }
}

fn configuration(
    cambio: SocketAddr,
    admin: SocketAddr,
    idp: &StandInIdp,
    issuer: &StandInIssuer,
) -> String {
    let (upstream, partner, jwks) = (idp.origin(), issuer.issuer(), issuer.jwks_url());
    format!(
        "\
# Written by `cambio dev`. It lies in a folder that is removed when the command ends.
listen:
  - address: {cambio}
admin: {{ address: {admin} }}

upstream:
  url: {upstream}

authorization_server:
  issuer: http://{cambio}            # the stand-in identity provider's own
  overlay: true
  endpoints:
    token: [/oauth2/token]
    jwks: /oauth2/jwks
    metadata: [/.well-known/openid-configuration, /.well-known/oauth-authorization-server]
    introspection: /oauth2/introspect
    revocation: /oauth2/revoke

signing_keys:
  - algorithm: ES256
    private_key: {{ file: signing.pem }}

trusted_token_issuers:
  - name: partner
    issuer: {partner}
    alias: {ALIAS}
    jwks_endpoint: {jwks}
    claims: {{ email: email }}

applications:
  - name: Portal
    client_id: {CLIENT_ID}
    client_secret: {{ file: portal.secret }}
    type: traditional_web
    allowed_grant_types: [urn:ietf:params:oauth:grant-type:token-exchange, refresh_token]
    audiences: [{AUDIENCE}]
    scopes: [read, write]
    refresh_token: {{ lifetime: 24h, grace: 0s }}

resource_servers:
  - client_id: {IDP_CLIENT}
    audiences: [{AUDIENCE}]

store:
  embedded: {{ path: state }}
"
    )
}

fn random<const N: usize>() -> io::Result<String> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets)
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(octets))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn what_it_writes_is_private_and_goes_with_it() {
        let nowhere = ([127, 0, 0, 1], 1).into();
        let stage = Stage::set(nowhere, nowhere).await.unwrap();
        let file = stage.configuration().to_owned();
        let folder = file.parent().unwrap().to_owned();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("signing.pem"))), (0o700, 0o600));
        assert_eq!(mode(&folder.join("portal.secret")), 0o600);
        drop(stage);
        assert!(!folder.exists());
    }
}
