//! Key sets (RFC 7517 §5): the upstream's keys with ours after them, or ours alone.

use serde::Serialize;

use super::NotMerged;
use super::object::{Object, append, elements, members, string, written};
use crate::jwt::sign::PublicJwk;

/// The upstream's keys with ours after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedKeys {
    pub body: Vec<u8>,
    /// The `kid`s of ours that the upstream has, too, for other keys. Ours are left out.
    pub clashing: Vec<String>,
}

/// A key of the upstream, whatever it is.
pub(super) struct Theirs<'a>(Vec<(String, &'a str)>);

impl Theirs<'_> {
    /// Every string that a reader could take for this member.
    fn strings(&self, name: &str) -> impl Iterator<Item = String> {
        let all = self.0.iter().filter(move |(own, _)| own == name);
        all.filter_map(|(_, value)| string(value))
    }

    pub(super) fn kid(&self) -> Option<String> {
        self.strings("kid").next()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }

    pub(super) fn is_of_type(&self, kty: &str) -> bool {
        self.strings("kty").any(|own| own == kty)
    }

    /// Whether it is this very key, however it is read.
    fn is(&self, own: &PublicJwk) -> bool {
        let same = |name: &str, own: Option<&str>| {
            let theirs: Vec<&str> = (self.0.iter().filter(|(member, _)| member == name))
                .map(|(_, value)| *value)
                .collect();
            match (own, theirs.as_slice()) {
                (None, []) => true,
                (Some(own), [theirs]) => string(theirs).as_deref() == Some(own),
                (None | Some(_), _) => false,
            }
        };
        same("kty", Some(own.kty))
            && same("crv", own.crv)
            && same("n", own.n.as_deref())
            && same("e", own.e.as_deref())
            && same("x", own.x.as_deref())
            && same("y", own.y.as_deref())
    }
}

/// The keys of a set. What is no object is a key of which nothing is known.
pub(super) fn keys_of<'a>(object: &Object<'a>) -> Option<Vec<Theirs<'a>>> {
    let keys = elements(object.get("keys")?)?;
    Some(keys.into_iter().map(|key| Theirs(members(key))).collect())
}

/// RFC 7517 §5. Theirs stay as they are, whatever they have or lack: of two keys with one `kid`,
/// readers may take either, so of ours none is added that has a name of theirs.
pub fn merge_keys<'a>(
    document: &[u8],
    ours: impl Iterator<Item = &'a PublicJwk>,
) -> Result<MergedKeys, NotMerged> {
    let object = Object::parse(document).ok_or(NotMerged::Unlike)?;
    let theirs = keys_of(&object).ok_or(NotMerged::Unlike)?;
    let mut clashing = Vec::new();
    let mut added = Vec::new();
    for own in ours {
        let has_its_name = |key: &&Theirs<'_>| key.strings("kid").any(|kid| kid == own.kid);
        let mut same_kid = theirs.iter().filter(has_its_name).peekable();
        if same_kid.peek().is_none() {
            added.push(written(own));
        } else if !same_kid.all(|key| key.is(own)) {
            clashing.push(own.kid.clone());
        }
    }
    let keys = object.get("keys").and_then(|array| append(array, &added));
    let body = keys.and_then(|keys| object.with(&[("keys", keys)])).ok_or(NotMerged::Unlike)?;
    Ok(MergedKeys { body: body.into_bytes(), clashing })
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
pub(super) mod tests {
    use super::*;

    pub(in crate::overlay) fn own(kid: &str) -> PublicJwk {
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
        let document = format!("{{\"x\" : 1.0, \"keys\": [ {theirs} ] ,\"y\":{{}}}}\n");
        assert_eq!(
            body(&document),
            format!("{{\"x\" : 1.0, \"keys\": [ {theirs},{OWN} ] ,\"y\":{{}}}}\n")
        );
        assert_eq!(body(r#"{"keys":[]}"#), format!("{{\"keys\":[{OWN}]}}"));
        assert_eq!(body("{\"keys\":[ \n ]}"), format!("{{\"keys\":[{OWN} \n ]}}"));
    }

    /// RFC 7517 §5: whoever reads a set passes over what it does not understand, and so do we.
    #[test]
    fn a_key_of_theirs_may_have_or_lack_anything() {
        for theirs in [
            "5",
            "null",
            "[[]]",
            "{}",
            r#"{"kid":7}"#,
            r#"{"kty":"RSA","n":"AQ","e":"AQAB"}"#,
            r#"{"kty":"RSA","kid":"a","n":"AQ","e":"AQAB"},{"kty":"RSA","kid":"a","n":"Ag","e":"AQAB"}"#,
            r#"{"kty":"AKP","alg":"ML-DSA-65","pub":"AQ","kid":"a"}"#,
            r#"{"kty":"oct","k":"AQ"}"#,
            r#"{"kty":"RSA","n":1e400,"x":-0.0E-999}"#,
            r#"{"kty":"RSA","use":"enc","x5c":["MII","MII"],"x5t":"AQ"}"#,
            r#"{"kty":"RSA","kid":"\ud800","d":"secret"}"#,
        ] {
            let document = format!("{{\"keys\":[{theirs}]}}");
            assert_eq!(body(&document), format!("{{\"keys\":[{theirs},{OWN}]}}"));
        }
        let deep = format!("{{\"keys\":[{}{}]}}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(body(&deep).ends_with(&format!("]],{OWN}]}}")));
    }

    #[test]
    fn a_kid_that_both_have_leaves_ours_out() {
        for theirs in [
            r#"{"kid":"own","kty":"RSA","n":"n","e":"AQAB"}"#,
            r#"{"kid":"own"}"#,
            r#"{"kid":"\u006fwn","kty":"RSA"}"#,
            // Whoever reads these may take either.
            r#"{"kid":"a","kid":"own","kty":"RSA"}"#,
            r#"{"kid":"own","kty":"EC","crv":"P-256","x":"xx","x":"xy","y":"yy"}"#,
            r#"{"kid":"own","kty":"EC","crv":"P-256","x":"xx","y":"yy","n":1e400}"#,
            r#"{"kid":"own","kty":"EC","crv":"P-384","x":"xx","y":"yy"}"#,
            r#"{"kid":"own","kty":"EC","crv":"P-256","x":"xx","y":"yy"},{"kid":"own"}"#,
        ] {
            let document = format!("{{\"keys\":[{theirs}]}}");
            let clash = merged(&document).unwrap();
            assert_eq!(clash.clashing, ["own"], "{document}");
            assert_eq!(clash.body, document.as_bytes());
        }
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
        let not_utf8 = merge_keys(b"{\"keys\":[],\"x\":\"\xff\"}", [own("own")].iter());
        assert_eq!(not_utf8, Err(NotMerged::Unlike));
    }
}
