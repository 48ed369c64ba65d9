//! What is wrong with the upstream's documents, or with what the configuration says of them: pure,
//! and told with what to change.

use std::fmt;

use url::Url;

use super::keys::keys_of;
use super::metadata::Advertised;
use super::object::{Object, elements, string};
use crate::config::{Config, Endpoints};
use crate::jwt::sign::{PublicJwk, SigningKey};

/// Something that keeps clients or relying parties from finding what they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The path is configured, and the upstream has nothing there.
    NotServed {
        status: u16,
    },
    /// It is no metadata document.
    NoMetadata,
    /// Nothing can be merged (RFC 8414 §2.1).
    SignedMetadata,
    OtherIssuer {
        theirs: String,
        ours: String,
    },
    /// On our origin, but on a path that is not ours to answer.
    KeysOnOtherPath {
        path: String,
    },
    /// Where nobody comes through here.
    KeysElsewhere {
        jwks_uri: String,
    },
    /// An endpoint that is configured, and that the metadata have elsewhere.
    EndpointElsewhere {
        name: &'static str,
        setting: &'static str,
        url: String,
    },
    GrantsMistyped,
    /// It is no key set.
    NoKeySet,
    /// The keys are asked for here, and lie elsewhere.
    KeysRedirected {
        location: String,
    },
    /// The upstream has another key under the name of ours.
    KidClash {
        kid: String,
    },
    /// The upstream publishes a private or a symmetric key.
    PrivateKey {
        index: usize,
        kid: Option<String>,
    },
}

impl Finding {
    /// Its name for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotServed { .. } => "not_served",
            Self::NoMetadata => "no_metadata",
            Self::SignedMetadata => "signed_metadata",
            Self::OtherIssuer { .. } => "other_issuer",
            Self::KeysOnOtherPath { .. } => "keys_on_other_path",
            Self::KeysElsewhere { .. } => "keys_elsewhere",
            Self::EndpointElsewhere { .. } => "endpoint_elsewhere",
            Self::GrantsMistyped => "grants_mistyped",
            Self::NoKeySet => "no_key_set",
            Self::KeysRedirected { .. } => "keys_redirected",
            Self::KidClash { .. } => "kid_clash",
            Self::PrivateKey { .. } => "private_key",
        }
    }

    /// Whether somebody fails for it, or worse. The others are odd, and provided for.
    pub const fn is_error(&self) -> bool {
        !matches!(self, Self::GrantsMistyped | Self::EndpointElsewhere { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotServed { status } => {
                write!(f, "the identity provider answers {status}: check the path in `endpoints`")
            }
            Self::NoMetadata => f.write_str(
                "what is served there is no metadata document: check `endpoints.metadata`",
            ),
            Self::SignedMetadata => f.write_str(
                "the metadata are signed (signed_metadata): they are passed on without our grant, \
                 since what we added would be missing in the signed form; have the identity \
                 provider leave the signature out",
            ),
            Self::OtherIssuer { theirs, ours } => write!(
                f,
                "the metadata say that the issuer is {theirs}, and minted tokens that it is {ours}: \
                 relying parties refuse them; set `authorization_server.issuer` to the former, or \
                 `overlay: false`"
            ),
            Self::KeysOnOtherPath { path } => write!(
                f,
                "relying parties look for keys on the path {path}, where ours are not: set \
                 `endpoints.jwks` to it"
            ),
            Self::KeysElsewhere { jwks_uri } => write!(
                f,
                "relying parties look for keys at {jwks_uri}, past Cambio, where ours are not: name \
                 that URL in `authorization_server.upstream_jwks`, so that its keys are served on \
                 `endpoints.jwks` with ours, and the metadata lead there"
            ),
            Self::EndpointElsewhere { name, setting, url } => write!(
                f,
                "the metadata have the {name} at {url}, which `endpoints.{setting}` does not name: \
                 clients that go by the metadata don't find us there"
            ),
            Self::GrantsMistyped => f.write_str(
                "grant_types_supported is no array of strings: what it says is kept, as an array",
            ),
            Self::NoKeySet => {
                f.write_str("what is served there is no key set: check `endpoints.jwks`")
            }
            Self::KeysRedirected { location } => write!(
                f,
                "the keys' path leads on to {location}, where ours are not: name that URL in \
                 `authorization_server.upstream_jwks`"
            ),
            Self::KidClash { kid } => write!(
                f,
                "the identity provider publishes another key as {kid}: ours is neither published \
                 nor used to sign; give it another `kid`"
            ),
            Self::PrivateKey { index, kid } => {
                write!(f, "keys[{index}]")?;
                if let Some(kid) = kid {
                    write!(f, " ({kid})")?;
                }
                f.write_str(
                    " of the identity provider's key set is a private or a symmetric key, which \
                     everybody can read and sign with: it is passed on as it came; have it replaced",
                )
            }
        }
    }
}

/// Of the upstream's metadata document, as relying parties get it that know us by our issuer.
pub fn of_metadata(document: &[u8], config: &Config) -> Vec<Finding> {
    metadata_findings(document, &Advertised::of(config), &config.endpoints)
}

/// Of the upstream's key set.
pub fn of_keys(document: &[u8], config: &Config) -> Vec<Finding> {
    keys_findings(document, config.signing_keys.iter().map(SigningKey::jwk))
}

/// As [`of_metadata`].
pub fn metadata_findings(
    document: &[u8],
    advertised: &Advertised,
    endpoints: &Endpoints,
) -> Vec<Finding> {
    let object = Object::parse(document);
    let issuer = object.as_ref().and_then(|object| string(object.get("issuer")?));
    let (Some(object), Some(issuer)) = (object, issuer) else { return vec![Finding::NoMetadata] };
    let mut findings = Vec::new();
    if object.given("signed_metadata").is_some() {
        findings.push(Finding::SignedMetadata);
    }
    if issuer != advertised.issuer() {
        let (theirs, ours) = (shown(&issuer), shown(advertised.issuer()));
        findings.push(Finding::OtherIssuer { theirs, ours });
    }
    let ours = Url::parse(advertised.issuer()).ok();
    let path_here = |url: &str| -> Option<String> {
        let url = Url::parse(url).ok()?;
        let is_here = ours.as_ref().is_some_and(|ours| ours.origin() == url.origin());
        (is_here && url.query().is_none()).then(|| url.path().to_owned())
    };
    let named = |name: &str| object.get(name).and_then(string);
    if let Some(jwks_uri) = named("jwks_uri").filter(|_| advertised.upstream_jwks().is_none()) {
        match path_here(&jwks_uri) {
            Some(path) if endpoints.jwks.as_ref() == Some(&path) => {}
            Some(path) => findings.push(Finding::KeysOnOtherPath { path: shown(&path) }),
            None => findings.push(Finding::KeysElsewhere { jwks_uri: shown(&jwks_uri) }),
        }
    }
    let one = |path: &Option<String>| path.iter().cloned().collect::<Vec<_>>();
    for (name, setting, configured) in [
        ("token_endpoint", "token", endpoints.token.clone()),
        ("introspection_endpoint", "introspection", one(&endpoints.introspection)),
        ("revocation_endpoint", "revocation", one(&endpoints.revocation)),
    ] {
        let Some(url) = named(name).filter(|_| !configured.is_empty()) else { continue };
        if !path_here(&url).is_some_and(|path| configured.contains(&path)) {
            findings.push(Finding::EndpointElsewhere { name, setting, url: shown(&url) });
        }
    }
    if let Some(grants) = object.get("grant_types_supported") {
        let all = elements(grants);
        if !all.is_some_and(|all| all.into_iter().all(|grant| string(grant).is_some())) {
            findings.push(Finding::GrantsMistyped);
        }
    }
    findings
}

/// As [`of_keys`].
pub fn keys_findings<'a>(
    document: &[u8],
    ours: impl Iterator<Item = &'a PublicJwk>,
) -> Vec<Finding> {
    /// RFC 7518 §6.2.2, §6.3.2, §6.4.1, RFC 8037 §2.
    const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    let Ok(merged) = super::keys::merge_keys(document, ours) else {
        return vec![Finding::NoKeySet];
    };
    let object = Object::parse(document);
    let theirs = object.as_ref().and_then(keys_of).unwrap_or_default();
    let is_private = |key: &super::keys::Theirs<'_>| {
        key.is_of_type("oct") || PRIVATE.iter().any(|member| key.has(member))
    };
    let clashes = merged.clashing.iter().map(|kid| Finding::KidClash { kid: shown(kid) });
    let private =
        theirs.iter().enumerate().filter(|(_, key)| is_private(key)).map(|(index, key)| {
            Finding::PrivateKey { index, kid: key.kid().map(|kid| shown(&kid)) }
        });
    clashes.chain(private.take(SHOWN)).collect()
}

/// A key set is asked for, and the answer leads elsewhere.
pub fn redirected(location: &str) -> Finding {
    Finding::KeysRedirected { location: shown(location) }
}

/// So many of a kind tell enough.
const SHOWN: usize = 10;

/// As much of another's text as fits a line.
fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut shown: String = text.chars().take(LONGEST).map(visible).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::keys::tests::own;

    fn endpoints() -> Endpoints {
        Endpoints {
            token: vec!["/oauth2/token".into(), "/t".into()],
            jwks: Some("/oauth2/jwks".into()),
            metadata: vec!["/meta".into()],
            introspection: Some("/oauth2/introspect".into()),
            revocation: None,
        }
    }

    /// Nothing is wrong with it.
    const FINE: &str = r#"{"issuer":"https://idp.example","jwks_uri":"https://idp.example/oauth2/jwks","token_endpoint":"https://idp.example/t","introspection_endpoint":"https://idp.example:443/oauth2/introspect","revocation_endpoint":"https://other.example/not-configured","grant_types_supported":["password"]}"#;

    fn found(document: &str) -> Vec<Finding> {
        let advertised = Advertised::new("https://idp.example", &endpoints(), false);
        metadata_findings(document.as_bytes(), &advertised, &endpoints())
    }

    #[test]
    fn of_metadata_that_lead_here_there_is_nothing_to_say() {
        assert_eq!(found(FINE), []);
        assert_eq!(found(r#"{"issuer":"https://idp.example"}"#), []);
    }

    #[test]
    fn each_mutation_is_found_and_nothing_else() {
        let here = "https://idp.example/oauth2/jwks";
        let elsewhere = |jwks_uri: &str| Finding::KeysElsewhere { jwks_uri: jwks_uri.to_owned() };
        let of = |name, setting, url: &str| Finding::EndpointElsewhere {
            name,
            setting,
            url: url.to_owned(),
        };
        for (from, to, finding) in [
            (
                r#"{"issuer":"https://idp.example","#,
                r#"{"issuer":"https://idp.example/","#,
                Finding::OtherIssuer {
                    theirs: "https://idp.example/".into(),
                    ours: "https://idp.example".into(),
                },
            ),
            (here, "https://idp.example/keys", Finding::KeysOnOtherPath { path: "/keys".into() }),
            (here, "https://keys.example/k", elsewhere("https://keys.example/k")),
            (
                here,
                "https://idp.example:8443/oauth2/jwks",
                elsewhere("https://idp.example:8443/oauth2/jwks"),
            ),
            (here, "http://idp.example/oauth2/jwks", elsewhere("http://idp.example/oauth2/jwks")),
            (
                here,
                "https://idp.example/oauth2/jwks?x",
                elsewhere("https://idp.example/oauth2/jwks?x"),
            ),
            (here, "/oauth2/jwks", elsewhere("/oauth2/jwks")),
            (
                "https://idp.example/t",
                "https://idp.example/other",
                of("token_endpoint", "token", "https://idp.example/other"),
            ),
            (
                "idp.example:443",
                "mtls.example",
                of(
                    "introspection_endpoint",
                    "introspection",
                    "https://mtls.example/oauth2/introspect",
                ),
            ),
            (r#"["password"]"#, r#""password""#, Finding::GrantsMistyped),
            (r#"["password"]"#, r#"["password",7]"#, Finding::GrantsMistyped),
            (r#"["password"]"#, r#"[],"signed_metadata":"e""#, Finding::SignedMetadata),
            (r#""grant_types"#, r#""issuer":"x","grant_types"#, Finding::NoMetadata),
        ] {
            let document = FINE.replace(from, to);
            assert_ne!(document, FINE, "{from}");
            assert_eq!(found(&document), std::slice::from_ref(&finding), "{document}");
            assert!(!finding.to_string().is_empty() && !finding.code().is_empty());
        }
    }

    #[test]
    fn what_a_key_set_gives_away_or_takes_from_us_is_found() {
        let found = |keys: &str| {
            keys_findings(format!("{{\"keys\":[{keys}]}}").as_bytes(), [own("own")].iter())
        };
        let public = r#"{"kty":"RSA","kid":"a","n":"AQ","e":"AQAB"}"#;
        assert_eq!(found(public), []);
        for private in [
            r#"{"kty":"RSA","kid":"b","n":"AQ","e":"AQAB","d":"AQ"}"#,
            r#"{"kty":"RSA","kid":"b","n":"AQ","e":"AQAB","p":null}"#,
            r#"{"kty":"oct","kid":"b"}"#,
            r#"{"kty":"EC","kty":"oct","kid":"b"}"#,
        ] {
            let finding = Finding::PrivateKey { index: 1, kid: Some("b".into()) };
            assert_eq!(found(&format!("{public},{private}")), [finding]);
        }
        assert_eq!(found(r#"{"kid":"own"}"#), [Finding::KidClash { kid: "own".into() }]);
        assert_eq!(found(&[r#"{"d":1}"#; 50].join(",")).len(), SHOWN);
        assert_eq!(keys_findings(b"{}", [own("own")].iter()), [Finding::NoKeySet]);
    }

    #[test]
    fn what_others_write_fits_a_line() {
        let finding = redirected(&format!("https://x/\n\u{1b}[31m{}", "a".repeat(1000)));
        let text = finding.to_string();
        assert!(text.len() < 500 && !text.contains(['\n', '\u{1b}']), "{text}");
    }
}
