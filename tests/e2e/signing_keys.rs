//! Our own keys over time: published before they sign, and as long as the configuration has them.

use cambio::clock;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::key_set::KeySet;
use cambio::jwt::sign::{SigningKey, generate_pem};
use cambio::jwt::unverified::UnverifiedJws;
use cambio::jwt::verify::VerifyError;

use crate::support::{Cambio, Upstream, folder, get, install_crypto, post, write_private};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ALGORITHM: Algorithm = Algorithm::ES256;

struct Estate {
    issuer: StandInIssuer,
    upstream: Upstream,
    cambio: Cambio,
}

impl Estate {
    fn lines(issuer: &StandInIssuer, keys: &[String]) -> String {
        format!(
            "signing_keys:\n{}trusted_token_issuers:\n  - name: partner\n    issuer: {}\n    \
             jwks_endpoint: {}\napplications:\n  - client_id: phone\n    type: mobile\n    \
             allowed_grant_types: [\"{EXCHANGE}\"]\n",
            keys.concat(),
            issuer.issuer(),
            issuer.jwks_url(),
        )
    }

    async fn start(keys: &[String]) -> Self {
        install_crypto();
        let issuer = StandInIssuer::start(&[ALGORITHM]).await.unwrap();
        let upstream = Upstream::start().await;
        let cambio = Cambio::start(&upstream.url(), &Self::lines(&issuer, keys)).await;
        Self { issuer, upstream, cambio }
    }

    async fn reload(&self, keys: &[String]) {
        self.cambio.reload(&self.upstream.url(), &Self::lines(&self.issuer, keys)).await;
    }

    async fn mint(&self) -> String {
        let ours = "https://idp.example/oauth2/token";
        let claims = self.issuer.claims("alice", ours, clock::now().as_secs());
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", EXCHANGE)
            .append_pair("client_id", "phone")
            .append_pair("subject_token", &self.issuer.mint(ALGORITHM, &claims).unwrap())
            .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
            .finish();
        let answer = self.cambio.request(post("/oauth2/token", "", &body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// What a relying party makes of a token, by the keys that are published.
    async fn verify(&self, token: &str) -> Result<(), VerifyError> {
        let published = self.cambio.request(get("/oauth2/jwks", "")).await;
        let keys = KeySet::from_jwks(&published.body).unwrap().0;
        UnverifiedJws::parse(token).unwrap().verify(ALGORITHM, &keys)
    }

    async fn published(&self) -> Vec<String> {
        let set = self.cambio.request(get("/oauth2/jwks", "")).await.json();
        let members = set["keys"].as_array().unwrap().iter();
        members.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }
}

/// RFC 7517 §5, RFC 9068 §4: whoever fetched the keys before a change finds every token's among
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_published_before_it_signs_and_for_as_long_as_it_is_configured() {
    let folder = folder();
    let key = |name: &str| {
        let pem = generate_pem(ALGORITHM).unwrap();
        write_private(&folder.path().join(name), &pem);
        SigningKey::from_pkcs8_pem(pem.as_bytes(), ALGORITHM, None, None).unwrap().kid().to_owned()
    };
    let (old, next) = (key("old.pem"), key("next.pem"));
    let entry = |name: &str, more: &str| {
        let path = folder.path().join(name);
        format!("  - algorithm: ES256\n    private_key: {{ file: {} }}\n{more}", path.display())
    };
    let of_old = || entry("old.pem", "");
    let estate = Estate::start(&[of_old()]).await;
    let first = estate.mint().await;
    assert_eq!(estate.published().await, [old.clone()]);

    let coming = entry("next.pem", "    not_before: 2099-01-01T00:00:00Z\n");
    estate.reload(&[coming, of_old()]).await;
    assert_eq!(estate.published().await, [next.clone(), old.clone()]);
    let second = estate.mint().await;

    let come = entry("next.pem", "    not_before: 2020-01-01T00:00:00Z\n");
    estate.reload(&[come.clone(), of_old()]).await;
    assert_eq!(estate.published().await, [next.clone(), old]);
    let third = estate.mint().await;
    for token in [&first, &second, &third] {
        assert_eq!(estate.verify(token).await, Ok(()));
    }

    // By which key each was signed shows where the old one is gone.
    estate.reload(&[come]).await;
    assert_eq!(estate.published().await, [next]);
    for (token, verdict) in [
        (&first, Err(VerifyError::KeyUnknown)),
        (&second, Err(VerifyError::KeyUnknown)),
        (&third, Ok(())),
    ] {
        assert_eq!(estate.verify(token).await, verdict);
    }
}
