//! Our keys and grants merged into the upstream's own documents: pure, and to the byte in all that
//! is not ours.
//!
//! JSON objects are taken apart into names and raw values and put together again, so that order,
//! numbers and blanks stay as the upstream wrote them.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use url::Url;

use crate::config::Endpoints;
use crate::jwt::sign::PublicJwk;
use crate::oauth::grant_type;

/// RFC 8414 §2: what a server that does not say supports.
const DEFAULT_GRANTS: [&str; 2] = ["authorization_code", "implicit"];

/// Why a document is not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMerged {
    /// It is not such a document: not JSON, not an object, ambiguous, or without what makes it one.
    Unlike,
    /// It is signed (RFC 8414 §2.1): to whoever reads the signed form, what we add would be missing,
    /// and we can't sign for the upstream.
    Signed,
}

/// An object in the order in which it was written.
struct Object(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Object {
    /// Names must be unique: whoever reads such an object may take either value (RFC 8259 §4).
    fn parse(document: &[u8]) -> Option<Self> {
        let object: Self = serde_json::from_slice(document).ok()?;
        let mut names = HashSet::new();
        object.0.iter().all(|(name, _)| names.insert(name.as_str())).then_some(object)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.get())
    }

    fn set(&mut self, name: &str, value: String) -> Option<()> {
        let value = RawValue::from_string(value).ok()?;
        match self.0.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Some(())
    }

    fn write(&self) -> Option<Vec<u8>> {
        let mut text = String::from("{");
        for (at, (name, value)) in self.0.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            text += &serde_json::to_string(name).ok()?;
            text.push(':');
            text += value.get();
        }
        text.push('}');
        Some(text.into_bytes())
    }
}

/// Appends elements to an array as it was written.
fn append(array: &str, elements: &[String]) -> Option<String> {
    let open = array.trim_end().strip_suffix(']')?.trim_end();
    if elements.is_empty() {
        return Some(array.to_owned());
    }
    let is_empty = open.trim() == "[";
    Some(format!("{open}{}{}]", if is_empty { "" } else { "," }, elements.join(",")))
}

/// The upstream's keys with ours after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedKeys {
    pub body: Vec<u8>,
    /// The `kid`s of ours that the upstream has, too, for other keys. Ours are left out.
    pub clashing: Vec<String>,
}

/// RFC 7517 §5.
pub fn merge_keys<'a>(
    document: &[u8],
    ours: impl Iterator<Item = &'a PublicJwk>,
) -> Result<MergedKeys, NotMerged> {
    /// As much of a key as tells whether it is one of ours.
    #[derive(Deserialize)]
    struct Theirs {
        kid: Option<Value>,
        n: Option<Value>,
        e: Option<Value>,
        x: Option<Value>,
        y: Option<Value>,
    }
    let mut object = Object::parse(document).ok_or(NotMerged::Unlike)?;
    let array = object.get("keys").ok_or(NotMerged::Unlike)?;
    let theirs: Vec<&RawValue> = serde_json::from_str(array).map_err(|_| NotMerged::Unlike)?;
    // One that can't be read is not for us to judge.
    let theirs: Vec<Theirs> =
        theirs.iter().filter_map(|key| serde_json::from_str(key.get()).ok()).collect();
    let is = |theirs: &Option<Value>, own: &Option<String>| {
        theirs.as_ref().and_then(Value::as_str) == own.as_deref()
    };
    let mut clashing = Vec::new();
    let mut added = Vec::new();
    for own in ours {
        let kid = Some(own.kid.clone());
        let same_kid: Vec<&Theirs> = theirs.iter().filter(|key| is(&key.kid, &kid)).collect();
        let is_published = |key: &&Theirs| {
            is(&key.n, &own.n) && is(&key.e, &own.e) && is(&key.x, &own.x) && is(&key.y, &own.y)
        };
        if same_kid.is_empty() {
            added.push(serde_json::to_string(own).map_err(|_| NotMerged::Unlike)?);
        } else if !same_kid.iter().all(is_published) {
            clashing.push(own.kid.clone());
        }
    }
    let keys = append(array, &added).ok_or(NotMerged::Unlike)?;
    object.set("keys", keys).ok_or(NotMerged::Unlike)?;
    let body = object.write().ok_or(NotMerged::Unlike)?;
    Ok(MergedKeys { body, clashing })
}

/// What we say of ourselves in metadata (RFC 8414 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    issuer: String,
    /// Names and URLs.
    endpoints: Vec<(&'static str, String)>,
    grants: Vec<&'static str>,
}

impl Advertised {
    /// URLs lie on the origin of the issuer: what clients call us by. `refreshes` is whether anybody
    /// gets refresh tokens from us.
    pub fn new(issuer: &str, configured: &Endpoints, refreshes: bool) -> Self {
        let origin = Url::parse(issuer).ok().map(|issuer| issuer.origin().ascii_serialization());
        let endpoints = [
            ("token_endpoint", configured.token.first()),
            ("jwks_uri", configured.jwks.as_ref()),
            ("introspection_endpoint", configured.introspection.as_ref()),
            ("revocation_endpoint", configured.revocation.as_ref()),
        ];
        let url = |path: &String| origin.as_ref().map(|origin| format!("{origin}{path}"));
        let endpoints = endpoints.into_iter();
        let endpoints = endpoints.filter_map(|(name, path)| Some((name, url(path?)?))).collect();
        let mut grants = vec![grant_type::TOKEN_EXCHANGE];
        grants.extend(refreshes.then_some(grant_type::REFRESH_TOKEN));
        Self { issuer: issuer.to_owned(), endpoints, grants }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The whole document, where there is no other one.
    pub fn document(&self) -> Vec<u8> {
        let mut members: Vec<(&str, Value)> = vec![("issuer", self.issuer.clone().into())];
        members.extend(self.endpoints.iter().map(|(name, url)| (*name, url.clone().into())));
        members.push(("response_types_supported", json!([])));
        members.push(("grant_types_supported", json!(self.grants)));
        let methods = json!(["client_secret_basic", "client_secret_post", "none"]);
        members.push(("token_endpoint_auth_methods_supported", methods));
        let document: serde_json::Map<String, Value> =
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Value::Object(document).to_string().into_bytes()
    }

    /// The upstream's document with our grants, and with the endpoints that it lacks.
    pub fn merge(&self, document: &[u8]) -> Result<Vec<u8>, NotMerged> {
        let mut object = Object::parse(document).ok_or(NotMerged::Unlike)?;
        let issuer = object.get("issuer").ok_or(NotMerged::Unlike)?;
        serde_json::from_str::<String>(issuer).map_err(|_| NotMerged::Unlike)?;
        if object.get("signed_metadata").is_some() {
            return Err(NotMerged::Signed);
        }
        let quoted = |grants: &[&str]| -> Vec<String> {
            grants.iter().map(|grant| format!("\"{grant}\"")).collect()
        };
        let grants = if let Some(array) = object.get("grant_types_supported") {
            let theirs: Vec<String> = serde_json::from_str(array).map_err(|_| NotMerged::Unlike)?;
            let is_missing = |ours: &&str| !theirs.iter().any(|grant| grant == ours);
            let missing: Vec<&str> = self.grants.iter().copied().filter(is_missing).collect();
            append(array, &quoted(&missing))
        } else {
            append("[]", &[quoted(&DEFAULT_GRANTS), quoted(&self.grants)].concat())
        };
        object
            .set("grant_types_supported", grants.ok_or(NotMerged::Unlike)?)
            .ok_or(NotMerged::Unlike)?;
        for (name, url) in &self.endpoints {
            if object.get(name).is_none() {
                let url = serde_json::to_string(url).map_err(|_| NotMerged::Unlike)?;
                object.set(name, url).ok_or(NotMerged::Unlike)?;
            }
        }
        object.write().ok_or(NotMerged::Unlike)
    }
}

/// Our keys alone, where there are no others.
pub fn own_keys<'a>(ours: impl Iterator<Item = &'a PublicJwk>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Keys<'a> {
        keys: Vec<&'a PublicJwk>,
    }
    serde_json::to_vec(&Keys { keys: ours.collect() }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(kid: &str) -> PublicJwk {
        PublicJwk {
            kty: "EC",
            usage: "sig",
            alg: "ES256",
            kid: kid.to_owned(),
            crv: Some("P-256"),
            n: None,
            e: None,
            x: Some("xx".to_owned()),
            y: Some("yy".to_owned()),
        }
    }

    const OWN: &str =
        r#"{"kty":"EC","use":"sig","alg":"ES256","kid":"own","crv":"P-256","x":"xx","y":"yy"}"#;

    fn merged(document: &str) -> Result<MergedKeys, NotMerged> {
        merge_keys(document.as_bytes(), [own("own")].iter())
    }

    fn body(document: &str) -> String {
        String::from_utf8(merged(document).unwrap().body).unwrap()
    }

    #[test]
    fn our_keys_come_after_theirs_and_theirs_stay_to_the_byte() {
        let theirs = r#"{"kty":"RSA","kid":"a", "big":1.50e+3,  "x5c":["\u0041\/"]}"#;
        let document = format!("{{\"x\" : 1.0, \"keys\": [ {theirs} ] ,\"y\":{{}}}}");
        assert_eq!(body(&document), format!("{{\"x\":1.0,\"keys\":[ {theirs},{OWN}],\"y\":{{}}}}"));
        assert_eq!(body(r#"{"keys":[]}"#), format!("{{\"keys\":[{OWN}]}}"));
        assert_eq!(body("{\"keys\":[ \n ]}"), format!("{{\"keys\":[{OWN}]}}"));
        // A key that nobody can read is theirs all the same.
        assert_eq!(
            body(r#"{"keys":[5,{"kid":7}]}"#),
            format!("{{\"keys\":[5,{{\"kid\":7}},{OWN}]}}")
        );
    }

    #[test]
    fn a_kid_that_both_have_leaves_ours_out() {
        let clash = merged(r#"{"keys":[{"kid":"own","kty":"RSA","n":"n","e":"AQAB"}]}"#).unwrap();
        assert_eq!(clash.clashing, ["own"]);
        assert!(!String::from_utf8(clash.body).unwrap().contains("P-256"));
        let other_kid = merged(r#"{"keys":[{"kid":"Own","kty":"RSA"}]}"#).unwrap();
        assert!(other_kid.clashing.is_empty());
    }

    #[test]
    fn a_key_of_ours_that_the_upstream_publishes_already_is_not_published_twice() {
        let document = format!("{{\"keys\":[{OWN}]}}");
        assert_eq!(body(&document), document);
        assert!(merged(&document).unwrap().clashing.is_empty());
    }

    #[test]
    fn what_is_no_key_set_is_not_merged() {
        for document in [
            "",
            "null",
            "[]",
            "<html>",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":null}"#,
            r#"{"keys":[],"keys":[]}"#,
            r#"{"keys":[]"#,
            "\u{feff}{\"keys\":[]}",
            r#"{"keys":[]} x"#,
        ] {
            assert_eq!(merged(document), Err(NotMerged::Unlike), "{document}");
        }
    }

    fn advertised(refreshes: bool) -> Advertised {
        Advertised::new(
            "https://idp.example/realm/token",
            &Endpoints {
                token: vec!["/oauth2/token".into(), "/other".into()],
                jwks: Some("/oauth2/jwks".into()),
                metadata: vec!["/meta".into()],
                introspection: None,
                revocation: Some("/oauth2/revoke".into()),
            },
            refreshes,
        )
    }

    #[test]
    fn our_own_metadata_lie_on_the_issuers_origin() {
        let document: serde_json::Value =
            serde_json::from_slice(&advertised(false).document()).unwrap();
        assert_eq!(
            document,
            json!({
                "issuer": "https://idp.example/realm/token",
                "token_endpoint": "https://idp.example/oauth2/token",
                "jwks_uri": "https://idp.example/oauth2/jwks",
                "revocation_endpoint": "https://idp.example/oauth2/revoke",
                "response_types_supported": [],
                "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"],
                "token_endpoint_auth_methods_supported":
                    ["client_secret_basic", "client_secret_post", "none"],
            })
        );
    }

    #[test]
    fn metadata_get_our_grant_and_the_endpoints_that_they_lack() {
        let merged = |document: &str| {
            String::from_utf8(advertised(false).merge(document.as_bytes()).unwrap()).unwrap()
        };
        assert_eq!(
            merged(
                r#"{"z":1e2,"issuer":"https://x","grant_types_supported":["password" ],"token_endpoint":"https://x/t"}"#
            ),
            concat!(
                r#"{"z":1e2,"issuer":"https://x","grant_types_supported":["password","urn:ietf:params:oauth:grant-type:token-exchange"],"#,
                r#""token_endpoint":"https://x/t","jwks_uri":"https://idp.example/oauth2/jwks","revocation_endpoint":"https://idp.example/oauth2/revoke"}"#
            )
        );
        let document: serde_json::Value =
            serde_json::from_str(&merged(r#"{"issuer":"https://x"}"#)).unwrap();
        // RFC 8414 §2: what it supported without saying, it still supports.
        assert_eq!(
            document["grant_types_supported"],
            json!([
                "authorization_code",
                "implicit",
                "urn:ietf:params:oauth:grant-type:token-exchange"
            ])
        );
        let once = merged(r#"{"issuer":"https://x"}"#);
        assert_eq!(merged(&once), once);
    }

    #[test]
    fn whoever_refreshes_here_finds_the_grant_in_the_metadata_once() {
        const OURS: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
        let document: serde_json::Value =
            serde_json::from_slice(&advertised(true).document()).unwrap();
        assert_eq!(document["grant_types_supported"], json!([OURS, "refresh_token"]));
        for (theirs, merged) in [
            (json!(["password"]), json!(["password", OURS, "refresh_token"])),
            (json!(["refresh_token", "password"]), json!(["refresh_token", "password", OURS])),
            (json!([OURS]), json!([OURS, "refresh_token"])),
            (json!([]), json!([OURS, "refresh_token"])),
        ] {
            let document = json!({"issuer": "https://x", "grant_types_supported": theirs});
            let grants = |advertised: &Advertised| {
                let merged = advertised.merge(document.to_string().as_bytes()).unwrap();
                let merged: serde_json::Value = serde_json::from_slice(&merged).unwrap();
                merged["grant_types_supported"].clone()
            };
            assert_eq!(grants(&advertised(true)), merged);
            // What the upstream has of its own is not taken from it.
            let refreshes_itself = theirs.as_array().unwrap().contains(&json!("refresh_token"));
            let says_so =
                grants(&advertised(false)).as_array().unwrap().contains(&json!("refresh_token"));
            assert_eq!(says_so, refreshes_itself, "{theirs}");
        }
        let document = advertised(true).merge(br#"{"issuer":"https://x"}"#).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        let all = json!(["authorization_code", "implicit", OURS, "refresh_token"]);
        assert_eq!(document["grant_types_supported"], all);
    }

    #[test]
    fn what_is_no_metadata_or_signed_is_not_merged() {
        for (document, why) in [
            (r#"{"issuer":7}"#, NotMerged::Unlike),
            ("{}", NotMerged::Unlike),
            (r#"{"issuer":"a","issuer":"b"}"#, NotMerged::Unlike),
            (r#"{"issuer":"a","grant_types_supported":"x"}"#, NotMerged::Unlike),
            (r#"{"issuer":"a","signed_metadata":"ey"}"#, NotMerged::Signed),
        ] {
            assert_eq!(advertised(true).merge(document.as_bytes()), Err(why), "{document}");
        }
    }
}
