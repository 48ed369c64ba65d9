//! A small estate with everything valid, of which a test changes one thing.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as sig;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cambio::exchange::client::{
    AccessTokenSettings, Application, ApplicationType, AuthenticatedClient, Authentication,
    ClientError, Format,
};
use cambio::exchange::credentials::Credentials;
use cambio::exchange::error::{Reason, Refusal};
use cambio::exchange::family::RefreshTokenSettings;
use cambio::exchange::policy::{Policy, UnknownIssuers};
use cambio::exchange::subject::{ClaimMapping, SubjectTokenError, TrustedIssuer};
use cambio::exchange::token_id::Entropy;
use cambio::exchange::{self, Granted, Record};
use cambio::jwt::algorithm::{Algorithm, AlgorithmSet};
use cambio::jwt::key_set::KeySet;
use cambio::jwt::sign::{SigningKey, SigningKeys, generate_pem};
use cambio::jwt::verify::{MediaType, Rules};
use cambio::oauth::form::Form;
use cambio::oauth::scope::Scope;
use cambio::secret::StoredSecret;
use cambio::time::Timestamp;
use serde_json::{Value, json};

pub const NOW: u64 = 1_800_000_000;
pub const OURS: &str = "https://idp.example.com/oauth2/token";
pub const PARTNER: &str = "https://third-party-token-issuers.io/oauth2/token";
pub const ALIAS: &str = "https://partner.example/our-name";
pub const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
pub const SECRET: &str = "portal-secret-of-many-bytes";
/// What every random number is made of.
pub const RANDOM: [u8; Entropy::OCTETS] = [7; Entropy::OCTETS];

/// A private key that signs whatever it is given, however wrong.
pub struct Forge {
    pub algorithm: Algorithm,
    pub pkcs8: Vec<u8>,
    pub jwk: Value,
}

impl Forge {
    pub fn new(algorithm: Algorithm, kid: &str) -> Self {
        // PS384 and PS512 are only ever verified here, with the RSA keys of the others.
        let only_verified = matches!(algorithm, Algorithm::PS384 | Algorithm::PS512);
        let generated = if only_verified { Algorithm::PS256 } else { algorithm };
        let pem = generate_pem(generated).unwrap();
        let kid = Some(kid.to_owned());
        let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), generated, kid, None).unwrap();
        let mut jwk = serde_json::to_value(key.jwk()).unwrap();
        jwk["alg"] = json!(algorithm.as_str());
        Self { algorithm, pkcs8: pkcs8(&pem), jwk }
    }

    pub fn kid(&self) -> &str {
        self.jwk["kid"].as_str().unwrap()
    }

    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm.as_str(), "typ": "JWT", "kid": self.kid()})
    }

    /// Signs header and payload as they stand.
    pub fn sign_text(&self, header: &str, payload: &str) -> String {
        let input =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = URL_SAFE_NO_PAD.encode(self.signature(input.as_bytes()));
        format!("{input}.{signature}")
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub fn signature(&self, input: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn sig::RsaEncoding| {
            let pair = sig::RsaKeyPair::from_pkcs8(&self.pkcs8).unwrap();
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &random, input, &mut signature).unwrap();
            signature
        };
        let ec = |curve| {
            let pair = sig::EcdsaKeyPair::from_pkcs8(curve, &self.pkcs8).unwrap();
            pair.sign(&random, input).unwrap().as_ref().to_vec()
        };
        match self.algorithm {
            Algorithm::RS256 => rsa(&sig::RSA_PKCS1_SHA256),
            Algorithm::RS384 => rsa(&sig::RSA_PKCS1_SHA384),
            Algorithm::RS512 => rsa(&sig::RSA_PKCS1_SHA512),
            Algorithm::PS256 => rsa(&sig::RSA_PSS_SHA256),
            Algorithm::PS384 => rsa(&sig::RSA_PSS_SHA384),
            Algorithm::PS512 => rsa(&sig::RSA_PSS_SHA512),
            Algorithm::ES256 => ec(&sig::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => ec(&sig::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::EdDSA => {
                let pair = sig::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&self.pkcs8).unwrap();
                pair.sign(input).as_ref().to_vec()
            }
        }
    }
}

/// The octets of a private key in PEM.
pub fn pkcs8(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

/// The partner's key for each algorithm, made once.
pub fn forge(algorithm: Algorithm) -> &'static Forge {
    static FORGES: LazyLock<Vec<Forge>> = LazyLock::new(|| {
        Algorithm::ALL.map(|algorithm| Forge::new(algorithm, &format!("k-{algorithm}"))).into()
    });
    FORGES.iter().find(|forge| forge.algorithm == algorithm).unwrap()
}

/// A key that the partner does not know.
pub fn stranger() -> &'static Forge {
    static STRANGER: LazyLock<Forge> = LazyLock::new(|| Forge::new(Algorithm::ES256, "k-ES256"));
    &STRANGER
}

pub fn jwks(forges: &[&Forge]) -> Vec<u8> {
    let keys: Vec<&Value> = forges.iter().map(|forge| &forge.jwk).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

pub fn partner_rules() -> Rules {
    Rules {
        issuer: PARTNER.to_owned(),
        audiences: vec![OURS.to_owned(), ALIAS.to_owned()],
        algorithms: AlgorithmSet::of(&Algorithm::ALL),
        token_types: vec![MediaType::new("JWT"), MediaType::new("at+jwt")],
        clock_skew: Duration::from_secs(30),
        max_age: None,
        max_lifetime: None,
    }
}

pub fn entropy() -> Entropy {
    Entropy::from_octets(RANDOM)
}

pub fn partner() -> TrustedIssuer {
    TrustedIssuer {
        name: "partner".into(),
        enabled: true,
        rules: partner_rules(),
        claims: Vec::new(),
        subject_prefix: String::new(),
        once: false,
    }
}

pub fn portal() -> Application {
    Application {
        name: "Portal".into(),
        client_id: "portal".to_owned(),
        kind: ApplicationType::TraditionalWeb,
        authentication: Authentication::Secrets(vec![StoredSecret::from_plain(SECRET.as_bytes())]),
        grant_types: vec![EXCHANGE.to_owned()],
        trusted_token_issuers: None,
        audiences: vec!["https://api.example.com".to_owned(), "urn:example:other".to_owned()],
        scopes: Scope::parse("read write").unwrap(),
        access_token: AccessTokenSettings {
            lifetime: Duration::from_secs(3600),
            format: Format::Jwt,
            outlive_subject: false,
        },
        refresh_token: RefreshTokenSettings {
            lifetime: Duration::from_secs(24 * 3600),
            idle: None,
            grace: Duration::ZERO,
        },
    }
}

pub fn mapping(minted: &str, subject: &str) -> ClaimMapping {
    ClaimMapping::new(minted, subject).unwrap()
}

/// Everything that an exchange needs. A new one is valid throughout.
#[derive(Clone)]
pub struct Exchange {
    pub forge: &'static Forge,
    pub header: Value,
    pub claims: Value,
    pub issuer: TrustedIssuer,
    pub application: Application,
    /// What the configuration has beside them.
    pub others: Vec<(TrustedIssuer, Application)>,
    pub unknown_issuers: UnknownIssuers,
    pub keys: KeySet,
    /// How header, claims and the signed token are written.
    pub spelling: Spelling,
    /// Put in place of the token that header and claims make.
    pub token: Option<String>,
    /// What the caller authenticates with: its `client_id` and secret.
    pub basic: Option<(&'static str, &'static str)>,
    pub parameters: Vec<(String, String)>,
    /// Whether the token was exchanged before, as the store would say.
    pub was_exchanged: bool,
    pub now: u64,
}

/// What no value can say, such as a member that stands twice: done to the texts.
#[derive(Clone, Copy)]
pub struct Spelling {
    pub header: fn(String) -> String,
    pub claims: fn(String) -> String,
    pub token: fn(String) -> String,
}

impl Spelling {
    pub const PLAIN: Self =
        Self { header: |header| header, claims: |claims| claims, token: |token| token };
}

impl Exchange {
    pub fn new() -> Self {
        Self::signed_by(Algorithm::ES256)
    }

    pub fn signed_by(algorithm: Algorithm) -> Self {
        let forge = forge(algorithm);
        let all: Vec<&Forge> = Algorithm::ALL.iter().map(|one| self::forge(*one)).collect();
        let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            forge,
            header: forge.header(),
            claims: json!({
                "iss": PARTNER, "sub": "alice", "aud": ALIAS,
                "exp": NOW + 600, "iat": NOW - 10, "nbf": NOW - 10, "jti": "t-1",
                "email": "alice@example.com", "scope": "admin", "client_id": "evil",
            }),
            issuer: partner(),
            application: portal(),
            others: Vec::new(),
            unknown_issuers: UnknownIssuers::Reject,
            keys: KeySet::from_jwks(&jwks(&all)).unwrap().0,
            spelling: Spelling::PLAIN,
            token: None,
            basic: Some(("portal", SECRET)),
            parameters: vec![
                parameter("grant_type", EXCHANGE),
                parameter("subject_token_type", JWT),
            ],
            was_exchanged: false,
            now: NOW,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn claim(self, name: &str, value: Value) -> Self {
        self.with(|exchange| exchange.claims[name] = value)
    }

    pub fn without_claim(self, name: &str) -> Self {
        self.with(|exchange| {
            exchange.claims.as_object_mut().unwrap().remove(name).unwrap();
        })
    }

    pub fn member(self, name: &str, value: Value) -> Self {
        self.with(|exchange| exchange.header[name] = value)
    }

    pub fn parameter(self, name: &str, value: &str) -> Self {
        self.with(|exchange| exchange.parameters.push((name.to_owned(), value.to_owned())))
    }

    pub fn without_parameter(self, name: &str) -> Self {
        self.with(|exchange| exchange.parameters.retain(|(own, _)| own != name))
    }

    pub fn token(&self) -> String {
        let signed = || {
            let Spelling { header, claims, token } = self.spelling;
            let (header, claims) =
                (header(self.header.to_string()), claims(self.claims.to_string()));
            token(self.forge.sign_text(&header, &claims))
        };
        self.token.clone().unwrap_or_else(signed)
    }

    pub fn policy(&self) -> Policy {
        let (issuers, applications): (Vec<_>, Vec<_>) = self.others.iter().cloned().unzip();
        let issuers = issuers.into_iter().chain([self.issuer.clone()]).map(Arc::new);
        let applications = applications.into_iter().chain([self.application.clone()]);
        Policy::new(OURS, self.unknown_issuers, issuers, applications)
    }

    fn body(&self) -> String {
        let mut parameters = self.parameters.clone();
        if !parameters.iter().any(|(name, _)| name == "subject_token") {
            parameters.push(("subject_token".to_owned(), self.token()));
        }
        encode(&parameters)
    }

    pub fn form(&self) -> Form {
        Form::parse(self.body().as_bytes()).unwrap()
    }

    /// The exchange up to where the issuer's keys are needed.
    pub fn pending(&self) -> exchange::Pending {
        let policy = self.policy();
        let client = authenticate(&policy, "portal", SECRET);
        exchange::begin(&self.form(), client, &policy, &mut Record::default()).unwrap()
    }

    /// Runs the whole exchange as the server does, with `signing_keys` of its own.
    pub fn run_with(&self, signing_keys: &SigningKeys) -> (Result<Granted, Refusal>, Record) {
        let mut record = Record::default();
        (self.decide(signing_keys, &mut record), record)
    }

    fn decide(&self, signing_keys: &SigningKeys, record: &mut Record) -> Result<Granted, Refusal> {
        let policy = self.policy();
        let form = Form::parse(self.body().as_bytes())?;
        let client = present(&policy, self.basic, &form)?;
        let pending = exchange::begin(&form, client, &policy, record)?;
        let now = Timestamp::from_secs(self.now);
        let approved = pending.approve(&self.keys, now, record)?;
        let comes_once = approved.once().is_some();
        let issued = approved.mint(signing_keys, &policy, &entropy(), now, record)?;
        // Last of all, so that no token is spent in vain.
        if comes_once && self.was_exchanged {
            return Err(SubjectTokenError::Replayed.into());
        }
        Ok(issued.granted)
    }

    /// The claims of the minted token, or the exact reason why there is none.
    pub fn run(&self) -> Result<Value, Reason> {
        let (result, _) = self.run_with(&signing_keys());
        result
            .map(|granted| decode(&granted.access_token).1)
            .map_err(|refusal| refusal.outcome().reason)
    }

    /// Asserts that it is granted.
    #[track_caller]
    pub fn granted(&self) -> Value {
        match self.run() {
            Ok(claims) => claims,
            Err(reason) => panic!("refused: {reason:?}"),
        }
    }

    /// Asserts that it is refused, for exactly this reason.
    #[track_caller]
    pub fn refused(&self, reason: Reason) {
        match self.run() {
            Ok(claims) => panic!("granted instead of {reason:?}: {claims}"),
            Err(actual) => assert_eq!(actual, reason),
        }
    }
}

pub fn authenticate(policy: &Policy, id: &str, secret: &str) -> AuthenticatedClient {
    present(policy, Some((id, secret)), &Form::parse(b"").unwrap()).unwrap()
}

/// The caller, by what it shows in a field or in the form.
fn present(
    policy: &Policy,
    basic: Option<(&str, &str)>,
    form: &Form,
) -> Result<AuthenticatedClient, ClientError> {
    let field =
        basic.map(|(id, secret)| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))));
    let fields: Vec<&[u8]> = field.iter().map(String::as_bytes).collect();
    let check = policy.secret_check(Credentials::present(&fields, form)?);
    let verdict = check.run();
    check.conclude(verdict)
}

pub fn encode(parameters: &[(String, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

/// Our signing keys, made once.
pub fn signing_keys() -> Arc<SigningKeys> {
    static KEYS: LazyLock<Arc<SigningKeys>> = LazyLock::new(|| {
        let pem = generate_pem(Algorithm::ES256).unwrap();
        let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, None, None).unwrap();
        Arc::new(SigningKeys::new(vec![key]))
    });
    Arc::clone(&KEYS)
}

/// Header and claims of a compact JWS, unverified.
pub fn decode(token: &str) -> (Value, Value) {
    let part = |index| {
        let encoded = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap()
    };
    (part(0), part(1))
}
