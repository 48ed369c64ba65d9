//! Metadata (RFC 8414 §2, OpenID Connect Discovery §3): the upstream's with our grants and the
//! endpoints that it lacks, or our own.

use serde_json::{Value, json};
use url::Url;

use super::NotMerged;
use super::object::{Object, append, elements, string, written};
use crate::config::{Config, Endpoints};
use crate::oauth::grant_type;

/// RFC 8414 §2: what a server that does not say supports.
const DEFAULT_GRANTS: [&str; 2] = ["authorization_code", "implicit"];

/// What we say of ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    issuer: String,
    /// Names and URLs.
    endpoints: Vec<(&'static str, String)>,
    grants: Vec<&'static str>,
    /// Where the upstream's keys are, when they are not behind our own path.
    upstream_jwks: Option<Url>,
}

impl Advertised {
    pub fn of(config: &Config) -> Self {
        let policy = &config.policy;
        let refreshes = policy.applications().any(|application| application.gets_refresh_tokens());
        let issuer = policy.authorization_server();
        let advertised = Self::new(issuer, &config.endpoints, refreshes);
        let upstream_jwks = config.upstream_jwks.as_ref().map(|endpoint| endpoint.url.clone());
        Self { upstream_jwks, ..advertised }
    }

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
        Self { issuer: issuer.to_owned(), endpoints, grants, upstream_jwks: None }
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
        let object = Object::parse(document).ok_or(NotMerged::Unlike)?;
        let issuer = object.get("issuer").and_then(string).ok_or(NotMerged::Unlike)?;
        if object.given("signed_metadata").is_some() {
            return Err(NotMerged::Signed);
        }
        let grants = self.grants_after(object.get("grant_types_supported"));
        let mut changes = vec![("grant_types_supported", grants.ok_or(NotMerged::Unlike)?)];
        for (name, url) in &self.endpoints {
            let theirs = object.given(name);
            let is_replaced = *name == "jwks_uri" && self.has_keys_of(&issuer, theirs);
            if theirs.is_none() || is_replaced {
                changes.push((name, written(url)));
            }
        }
        object.with(&changes).map(String::into_bytes).ok_or(NotMerged::Unlike)
    }

    /// As [`Advertised::merge`], where nobody has said that it is this issuer's metadata that stand
    /// there: of another issuer they are not for us to change (RFC 8414 §3.3).
    pub fn merge_own(&self, document: &[u8]) -> Result<Vec<u8>, NotMerged> {
        let issuer = Object::parse(document).and_then(|object| string(object.get("issuer")?));
        if issuer.as_ref() != Some(&self.issuer) {
            return Err(NotMerged::Unlike);
        }
        self.merge(document)
    }

    /// Theirs as far as it says anything, with ours after them. Real servers have it mistyped.
    fn grants_after(&self, theirs: Option<&str>) -> Option<String> {
        let quoted = |grants: &[&str]| -> Vec<String> { grants.iter().map(written).collect() };
        if let Some((array, elements)) = theirs.and_then(|array| Some((array, elements(array)?))) {
            let theirs: Vec<String> = elements.into_iter().filter_map(string).collect();
            let is_missing = |ours: &&str| !theirs.iter().any(|grant| grant == ours);
            let missing: Vec<&str> = self.grants.iter().copied().filter(is_missing).collect();
            return append(array, &quoted(&missing));
        }
        let listed = theirs.and_then(string);
        let mut all: Vec<&str> = match &listed {
            Some(listed) => listed.split_ascii_whitespace().collect(),
            None => DEFAULT_GRANTS.to_vec(),
        };
        let missing: Vec<&str> =
            self.grants.iter().copied().filter(|ours| !all.contains(ours)).collect();
        all.extend(missing);
        append("[]", &quoted(&all))
    }

    /// Whether the keys that a document leads to are those that we merge ours into, though they lie
    /// elsewhere: its readers are then to come to us instead.
    fn has_keys_of(&self, issuer: &str, jwks_uri: Option<&str>) -> bool {
        let Some(upstream_jwks) = &self.upstream_jwks else { return false };
        let theirs = jwks_uri.and_then(string).and_then(|uri| Url::parse(&uri).ok());
        issuer == self.issuer || theirs.as_ref() == Some(upstream_jwks)
    }

    pub(super) const fn upstream_jwks(&self) -> Option<&Url> {
        self.upstream_jwks.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                r#"{"z":1e2,"issuer":"https://x","grant_types_supported":["password","urn:ietf:params:oauth:grant-type:token-exchange" ],"#,
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
            (r#"{"issuer":null}"#, NotMerged::Unlike),
            ("", NotMerged::Unlike),
            ("\u{feff}{\"issuer\":\"a\"}", NotMerged::Unlike),
            (r#"{"issuer":"a","signed_metadata":"ey"}"#, NotMerged::Signed),
        ] {
            assert_eq!(advertised(true).merge(document.as_bytes()), Err(why), "{document}");
        }
    }

    #[test]
    fn grants_that_are_mistyped_are_mended_and_nothing_that_they_say_is_lost() {
        const OURS: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
        for (theirs, merged) in [
            (json!(null), json!(["authorization_code", "implicit", OURS])),
            (json!(7), json!(["authorization_code", "implicit", OURS])),
            (json!({}), json!(["authorization_code", "implicit", OURS])),
            (json!("password"), json!(["password", OURS])),
            (json!("password refresh_token"), json!(["password", "refresh_token", OURS])),
            (json!(OURS), json!([OURS])),
            (json!(["password", 7, null]), json!(["password", 7, null, OURS])),
        ] {
            let document = json!({"issuer": "https://x", "grant_types_supported": theirs});
            let document = advertised(false).merge(document.to_string().as_bytes()).unwrap();
            let document: Value = serde_json::from_slice(&document).unwrap();
            assert_eq!(document["grant_types_supported"], merged);
        }
    }

    #[test]
    fn an_endpoint_that_is_null_is_lacking_and_any_other_is_theirs() {
        let document =
            json!({"issuer": "https://x", "revocation_endpoint": null, "token_endpoint": 7});
        let document = advertised(false).merge(document.to_string().as_bytes()).unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["revocation_endpoint"], "https://idp.example/oauth2/revoke");
        assert_eq!(document["token_endpoint"], 7);
        // Neither configured nor theirs.
        assert_eq!(document.get("introspection_endpoint"), None);
    }

    #[test]
    fn all_that_is_not_ours_stays_to_the_byte() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let theirs = format!(
            "{{\n  \"issuer\" : \"https:\\/\\/x\", \"n\":1e400,\"m\":-0.00, \"d\": {deep},\n  \"o\":{{\"a\":1,\"a\":2}}, \"s\":\"\\ud800\""
        );
        let merged = advertised(false).merge(format!("{theirs}\n}}\n").as_bytes()).unwrap();
        let merged = String::from_utf8(merged).unwrap();
        assert!(merged.starts_with(&theirs));
        assert!(merged.ends_with("/oauth2/revoke\"\n}\n"), "{}", &merged[theirs.len()..]);
    }

    #[test]
    fn of_another_issuer_only_what_was_named_is_merged() {
        let own = br#"{"issuer":"https://idp.example/realm/token"}"#;
        assert_eq!(advertised(false).merge_own(own), advertised(false).merge(own));
        assert!(advertised(false).merge_own(own).is_ok());
        for other in [
            r#"{"issuer":"https://idp.example/realm/token/"}"#,
            r#"{"issuer":"https://idp.example/other"}"#,
            r#"{"issuer":"HTTPS://idp.example/realm/token"}"#,
        ] {
            assert_eq!(advertised(false).merge_own(other.as_bytes()), Err(NotMerged::Unlike));
            assert!(advertised(false).merge(other.as_bytes()).is_ok());
        }
        let signed = br#"{"issuer":"https://idp.example/realm/token","signed_metadata":"e"}"#;
        assert_eq!(advertised(false).merge_own(signed), Err(NotMerged::Signed));
    }

    #[test]
    fn keys_that_are_fetched_elsewhere_are_looked_for_here() {
        let upstream_jwks = Url::parse("https://keys.example/jwks").ok();
        let advertised = Advertised { upstream_jwks, ..advertised(false) };
        let jwks_uri = |issuer: &str, jwks_uri: &str| {
            let document = json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string();
            let document = advertised.merge(document.as_bytes()).unwrap();
            let document: Value = serde_json::from_slice(&document).unwrap();
            document["jwks_uri"].as_str().unwrap().to_owned()
        };
        let (ours, theirs) = ("https://idp.example/realm/token", "https://x");
        let here = "https://idp.example/oauth2/jwks";
        assert_eq!(jwks_uri(ours, "https://keys.example/jwks"), here);
        assert_eq!(jwks_uri(ours, "https://other.example/jwks"), here);
        assert_eq!(jwks_uri(theirs, "https://keys.example:443/jwks"), here);
        // Those of another issuer are other keys.
        assert_eq!(jwks_uri(theirs, "https://other.example/jwks"), "https://other.example/jwks");
    }
}
