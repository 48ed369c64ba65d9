//! What `Debug` shows of whatever holds a secret: nothing of it. And what is left of it.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cambio::config::{Admin, Endpoint, RedisSettings, RedisTopology};
use cambio::exchange::credentials::{Credentials, Presented};
use cambio::exchange::cut_off::Ancestor;
use cambio::exchange::family::RefreshToken;
use cambio::exchange::grant::CopiedClaim;
use cambio::exchange::inquiry::InquiryRequest;
use cambio::exchange::opaque::{OpaqueAccessToken, OpaqueId};
use cambio::exchange::request::TokenPathRequest;
use cambio::exchange::token_id::Entropy;
use cambio::exchange::vouching::{Attempt, BindingKey};
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::compact::Compact;
use cambio::jwt::sign::{SigningKey, SigningKeys, generate_pem};
use cambio::jwt::unverified::{UnverifiedJws, UnverifiedToken};
use cambio::oauth::form::Form;
use cambio::oauth::response::TokenResponse;
use cambio::proxy::answer::Answer;
use cambio::proxy::authentication::Calling;
use cambio::secret::{StoredSecret, hash};
use cambio::time::Timestamp;
use serde_json::json;
use url::Url;
use zeroize::ZeroizeOnDrop;

use crate::refresh_support::Refreshing;
use crate::support::{Exchange, signing_keys};

const CANARY: &str = "canary-in-a-value";

/// Texts that may not be seen, and what was looked through for them.
#[derive(Default)]
struct Hidden {
    texts: Vec<String>,
    looked_at: Vec<&'static str>,
}

impl Hidden {
    fn also(&mut self, text: impl Into<String>) {
        self.texts.push(text.into());
    }

    /// Holds a type to it, in both forms. A number of octets shows as a list of decimals.
    fn in_(&mut self, name: &'static str, value: &dyn Debug) {
        for shown in [format!("{value:?}"), format!("{value:#?}")] {
            for text in &self.texts {
                assert!(!shown.contains(text), "{name} shows {text}: {shown}");
                let octets = format!("{:?}", text.as_bytes());
                let octets = octets.trim_matches(['[', ']']);
                let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(!flat.contains(octets), "{name} shows octets of {text}: {shown}");
            }
        }
        self.looked_at.push(name);
    }
}

#[test]
fn debug_shows_nothing_of_a_secret() {
    let mut hidden = Hidden::default();
    hidden.also(CANARY);
    requests_and_client_secrets(&mut hidden);
    tokens(&mut hidden);
    keys_and_settings(&mut hidden);
    assert!(hidden.looked_at.len() > 30, "{:?}", hidden.looked_at);
}

/// Client secrets as they come and as they are kept, and what they come in.
fn requests_and_client_secrets(hidden: &mut Hidden) {
    let body = format!("client_id=portal&client_secret={CANARY}&subject_token={CANARY}");
    let form = Form::parse(body.as_bytes()).unwrap();
    hidden.in_("Form", &form);
    let credentials = Credentials::present(&[], &form).unwrap();
    hidden.in_("Credentials", &credentials);
    hidden.in_("Presented", &credentials.presented().unwrap());
    let attempt = Attempt::of(&credentials).unwrap();
    hidden.in_("Attempt", &attempt);
    hidden.in_("AskedWith", &attempt.asking_about(CANARY));
    let phc = hash(CANARY.as_bytes(), &[1; 16]).unwrap();
    let salted = phc.rsplit('$').next().unwrap().to_owned();
    hidden.also(salted);
    hidden.in_("StoredSecret, a hash", &StoredSecret::from_hash(&phc).unwrap());
    let plain = StoredSecret::from_plain(CANARY.as_bytes());
    hidden.also(format!("{:?}", plain.fingerprint()).trim_matches(['[', ']']));
    hidden.in_("StoredSecret, plain", &plain);
    let key = [0xc4; 32];
    hidden.also(format!("{key:?}").trim_matches(['[', ']']));
    hidden.in_("BindingKey", &BindingKey::from_octets(&key));

    let authorization: [&[u8]; 1] = [CANARY.as_bytes()];
    let types: [&[u8]; 1] = [b"application/x-www-form-urlencoded"];
    let token_path = TokenPathRequest {
        method: "POST",
        query: Some(CANARY.as_bytes()),
        content_types: &types,
        is_encoded: false,
        body: body.as_bytes(),
    };
    hidden.in_("TokenPathRequest", &token_path);
    hidden.in_("Calling", &Calling { authorization: &authorization, address: None });
    let inquiry = InquiryRequest {
        method: "POST",
        query: Some(CANARY.as_bytes()),
        is_overridden: false,
        content_types: &types,
        is_encoded: false,
        body: body.as_bytes(),
    };
    hidden.in_("InquiryRequest", &inquiry);
}

/// Subject tokens, what is minted for them, and what is kept of that.
fn tokens(hidden: &mut Hidden) {
    let exchange = Exchange::new();
    let subject_token = exchange.token();
    for part in subject_token.split('.') {
        hidden.also(part);
    }
    hidden.also("alice");
    hidden.in_("Compact", &Compact::parse(&subject_token).unwrap());
    hidden.in_("UnverifiedJws", &UnverifiedJws::parse(&subject_token).unwrap());
    hidden.in_("UnverifiedToken", &UnverifiedToken::parse(&subject_token).unwrap());
    hidden.in_("Form, with a token", &exchange.form());
    let (granted, record) = exchange.run_with(&signing_keys());
    let granted = granted.unwrap();
    hidden.also(granted.access_token.as_str());
    hidden.in_("Granted", &granted);
    hidden.in_("Record", &record);
    hidden.in_("Answer", &Answer::granted(&granted, "decision"));
    let response = TokenResponse {
        access_token: &granted.access_token,
        issued_token_type: Some(CANARY),
        token_type: "Bearer",
        expires_in: 1,
        scope: None,
        refresh_token: Some(CANARY),
    };
    hidden.in_("TokenResponse", &response);

    let refreshing = Refreshing::new();
    hidden.also(refreshing.token.trim_start_matches("cambio_rt_"));
    let token = RefreshToken::parse(&refreshing.token).unwrap();
    hidden.in_("RefreshToken", &token);
    let mut family = refreshing.family.clone().unwrap();
    family.grant.claims.push(CopiedClaim {
        minted: "email".to_owned(),
        subject: "email".to_owned(),
        value: json!(CANARY),
    });
    hidden.in_("Family", &family);
    hidden.in_("Grant", &family.grant);
    hidden.in_("CopiedClaim", &family.grant.claims.last().unwrap());
    let opaque = OpaqueAccessToken {
        id: OpaqueId { locator: [1; 16], hash: [2; 32] },
        claims: CANARY.as_bytes().to_vec(),
        expires_at: Timestamp::from_secs(1),
    };
    hidden.in_("OpaqueAccessToken", &opaque);
    hidden.in_("Entropy", &Entropy::from_octets([0xc4; Entropy::OCTETS]));
    let ancestor = Ancestor::Subject(CANARY.to_owned());
    hidden.in_("Ancestor", &ancestor);
}

/// Keys of ours, and what we show to others.
fn keys_and_settings(hidden: &mut Hidden) {
    let pem = generate_pem(Algorithm::ES256).unwrap();
    for line in pem.lines().filter(|line| !line.starts_with('-')) {
        hidden.also(line);
    }
    let key = || SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, None, None).unwrap();
    hidden.in_("SigningKey", &key());
    hidden.in_("SigningKeys", &SigningKeys::new(vec![key()]));
    let url = Url::parse("https://k.example/").unwrap();
    let endpoint = Endpoint { url: url.clone(), ca: None, bearer_token: Some(CANARY.into()) };
    hidden.in_("Endpoint", &endpoint);
    let address = "127.0.0.1:0".parse().unwrap();
    hidden.in_("Admin", &Admin { address, metric_labels_max: 1, token: Some(CANARY.into()) });
    hidden.in_("RedisSettings", &redis(url));
}

fn redis(url: Url) -> RedisSettings {
    RedisSettings {
        urls: vec![url],
        topology: RedisTopology::Single,
        username: None,
        password: Some(CANARY.into()),
        ca: None,
        connect_timeout: Duration::ZERO,
        command_timeout: Duration::ZERO,
        prefix: String::new(),
    }
}

/// Without unsafe code nobody sees whether a secret was overwritten. That its type does it, the
/// type says.
fn is_wiped<T: ZeroizeOnDrop>(_: &T) {}

#[test]
fn what_holds_a_secret_for_longer_says_that_it_wipes_it() {
    // Credentials, and what the upstream is asked with.
    let body = format!("client_id=portal&client_secret={CANARY}");
    let credentials = Credentials::present(&[], &Form::parse(body.as_bytes()).unwrap()).unwrap();
    match credentials.presented().unwrap() {
        Presented::Basic(value) => is_wiped(value),
        Presented::Post(secret) => is_wiped(secret),
    }
    let attempt = Attempt::of(&credentials).unwrap();
    is_wiped(&attempt.binding());
    let asked = attempt.asking_about(CANARY);
    is_wiped(&asked.authorization);
    is_wiped(&asked.body);

    // Tokens, and what they are made of.
    let granted = Exchange::new().run_with(&signing_keys()).0.unwrap();
    is_wiped(&granted.access_token);
    is_wiped(&granted.refresh_token);
    let token = RefreshToken::parse(&Refreshing::new().token).unwrap();
    is_wiped(&token);
    is_wiped(&token.to_text());
    is_wiped(&Entropy::from_octets([0xc4; Entropy::OCTETS]));

    // Keys that are made here, and secrets of the configuration.
    is_wiped(&generate_pem(Algorithm::ES256).unwrap());
    let url = Url::parse("https://k.example/").unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    is_wiped(&Admin { address, metric_labels_max: 1, token: Some(CANARY.into()) }.token);
    let endpoint = Endpoint { url: url.clone(), ca: None, bearer_token: Some(CANARY.into()) };
    is_wiped(&endpoint.bearer_token);
    is_wiped(&redis(url).password);
}

/// What of a text or of octets can be secret. A derived `Debug` shows it.
const KINDS: [&str; 8] = [
    "Vec<u8>",
    "Bytes",
    "[u8",
    "Map<String, Value>",
    "Value",
    "HeaderMap",
    "HeaderValue",
    "Cow<'_, [u8]>",
];
/// Words in names of fields that hold a text not to be shown.
const WORDS: [&str; 9] = [
    "secret",
    "password",
    "token",
    "assertion",
    "authorization",
    "credential",
    "body",
    "form",
    "cookie",
];
/// Types that redact by themselves.
const REDACTED: [&str; 4] = ["SecretString", "Zeroizing<", "StoredSecret", "RefreshToken"];

/// Types with a derived `Debug` and such a field, none of which is secret.
const SHOWN: &[(&str, &str, &str)] = &[
    ("src/admin/status.rs", "ClientAuthenticationStatus", "a word of ours"),
    ("src/app/survey.rs", "Survey", "public metadata"),
    ("src/app/watch.rs", "Contents", "digests of files, to see them change"),
    ("src/config/mod.rs", "Endpoints", "paths"),
    ("src/exchange/client.rs", "Application", "names of issuers"),
    ("src/exchange/opaque.rs", "OpaqueId", "a name, and a hash of 256 random bits"),
    ("src/exchange/subject.rs", "Once", "a hash"),
    ("src/exchange/throttle.rs", "Origin", "a network"),
    ("src/exchange/token_id.rs", "IssuerTag", "a hash"),
    ("src/exchange/token_id.rs", "JwtId", "a name that is logged"),
    ("src/exchange/vouching.rs", "Vouched", "a keyed hash"),
    ("src/keys/fetch.rs", "Answer", "public keys and metadata"),
    ("src/keys/fetch.rs", "Get", "fields of ours, of which none authenticates"),
    ("src/keys/inquiry.rs", "Inquirer", "fields of ours, of which none authenticates"),
    ("src/keys/inquiry.rs", "Seen", "public documents"),
    ("src/keys/keeping.rs", "Written", "public keys"),
    ("src/keys/last_good/mod.rs", "Recalled", "public keys"),
    ("src/keys/last_good/record.rs", "Label", "names, URLs and certificates of issuers"),
    ("src/keys/source.rs", "Document", "public keys"),
    ("src/overlay/keys.rs", "MergedKeys", "public keys"),
    ("src/proxy/client_probe.rs", "ClientProbe", "keyed hashes, and a host"),
    ("src/proxy/client_verdicts.rs", "ClientVerdicts", "keyed hashes"),
    ("src/proxy/document.rs", "Document", "public keys and metadata"),
    ("src/proxy/documents.rs", "Documents", "a host"),
    ("src/proxy/guesses.rs", "Admitted", "a keyed hash"),
    ("src/proxy/guesses.rs", "Guesses", "keyed hashes"),
    ("src/proxy/originals.rs", "Key", "a host and an origin"),
    ("src/proxy/originals.rs", "Original", "public keys and metadata"),
    ("src/proxy/originals.rs", "Wanted", "hosts and origins"),
    ("src/proxy/pace.rs", "Frames", "the header of a frame"),
    ("src/proxy/route.rs", "Routes", "configured paths"),
];

/// The types of a source that derive `Debug`, each with its fields, one a line.
fn derived(source: &str) -> Vec<(String, Vec<String>)> {
    let shipped = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut found = Vec::new();
    for (at, _) in shipped.match_indices("#[derive(") {
        let rest = &shipped[at..];
        let derives = &rest[..rest.find(")]").unwrap()];
        if !derives.split(|c: char| !c.is_alphanumeric()).any(|name| name == "Debug") {
            continue;
        }
        let mut lines = rest.lines().skip_while(|line| {
            let line = line.trim_start();
            !["pub ", "pub(", "struct ", "enum "].iter().any(|start| line.starts_with(start))
        });
        let head = lines.next().unwrap();
        let after = head.split_once("struct ").or_else(|| head.split_once("enum "));
        let Some((_, named)) = after else { continue };
        let name = named.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
        let mut fields = vec![named.to_owned()];
        if !head.trim_end().ends_with([';', '}']) {
            let indent = head.len() - head.trim_start().len();
            let end = format!("{}}}", " ".repeat(indent));
            let body = lines.take_while(|line| !line.starts_with(&end) && !line.starts_with(')'));
            fields.extend(
                body.map(str::trim)
                    .filter(|line| !line.starts_with("//") && !line.starts_with("#["))
                    .map(str::to_owned),
            );
        }
        found.push((name, fields));
    }
    found
}

/// Whether a derived `Debug` of a type with this field could show a secret.
fn is_telling(field: &str) -> bool {
    if REDACTED.iter().any(|safe| field.contains(safe)) {
        return false;
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_kind = KINDS.iter().any(|kind| {
        field.match_indices(kind).any(|(at, _)| {
            !field[..at].ends_with(is_word) && !field[at + kind.len()..].starts_with(is_word)
        })
    });
    let is_text = field.split_once(": ").is_some_and(|(name, kind)| {
        let name = name.rsplit(' ').next().unwrap();
        let is_text = ["String", "str", "Text"].iter().any(|text| kind.contains(text));
        is_text && WORDS.iter().any(|word| name.contains(word))
    });
    is_kind || is_text
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_type_with_room_for_a_secret_derives_debug_unawares() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let (mut types, mut telling) = (0, Vec::new());
    for file in files {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        for (name, fields) in derived(&fs::read_to_string(&file).unwrap()) {
            types += 1;
            if fields.iter().any(|field| is_telling(field)) {
                telling.push((path.clone(), name));
            }
        }
    }
    assert!(types > 200, "only {types} types were found");
    telling.sort();
    let mut shown: Vec<_> =
        SHOWN.iter().map(|(path, name, _)| ((*path).to_owned(), (*name).to_owned())).collect();
    shown.sort();
    let new: Vec<_> = telling.iter().filter(|one| !shown.contains(one)).collect();
    assert!(new.is_empty(), "write a `Debug` that redacts, or say in SHOWN why not: {new:#?}");
    let gone: Vec<_> = shown.iter().filter(|one| !telling.contains(one)).collect();
    assert!(gone.is_empty(), "no longer so, take it out of SHOWN: {gone:#?}");
}

/// The check above is only as good as its reader.
#[test]
fn what_a_derived_debug_would_show_is_found() {
    let source = "#[derive(Clone, Debug)]\npub struct A {\n    /// A doc: Vec<u8>.\n    name: String,\n    \
                  secret: String,\n}\n#[derive(Debug)]\nstruct B(Vec<u8>);\n#[derive(Clone)]\nstruct C {\n    \
                  secret: String,\n}\n#[derive(Debug)]\n#[serde(x)]\nenum D {\n    One { body: Bytes },\n    \
                  Two(SecretString),\n}\n#[derive(Debug)]\nstruct E;\n#[derive(Debug)]\nstruct F {\n    \
                  token: SecretString,\n    has_token: bool,\n}\n#[cfg(test)]\nmod tests { #[derive(Debug)] struct G; }";
    let found: Vec<_> = derived(source)
        .into_iter()
        .map(|(name, fields)| (name, fields.iter().any(|field| is_telling(field))))
        .collect();
    let expected = [("A", true), ("B", true), ("D", true), ("E", false), ("F", false)];
    let expected = expected.map(|(name, is_telling)| (name.to_owned(), is_telling));
    assert_eq!(found, expected);
}

#[test]
fn neither_tokens_nor_subjects_are_shown() {
    let exchange = Exchange::new();
    let (result, record) = exchange.run_with(&signing_keys());
    let granted = result.unwrap();
    let answer = Answer::granted(&granted, "decision");
    let shown = format!("{answer:?} {granted:?} {record:?}");
    assert!(shown.contains("200") && shown.contains("Portal"), "{shown}");
    for hidden in [granted.access_token.as_str(), &exchange.token(), "alice"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}
