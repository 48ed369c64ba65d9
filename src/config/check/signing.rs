//! Our own keys.

use super::reference::Privacy;
use super::{Check, given};
use crate::config::document::NodeId;
use crate::config::raw::{self, List};
use crate::config::scalar::Text;
use crate::jwt::sign::{SigningKey, SigningKeyError};
use crate::jwt::unverified::MAX_KID;
use crate::time::Timestamp;

/// The most keys: more than a rotation ever needs, and a document that relying parties still read.
const MAX_KEYS: usize = 20;

impl Check<'_> {
    pub(super) fn signing_keys(
        &self,
        node: NodeId,
        list: &List<raw::SigningKey>,
    ) -> Vec<SigningKey> {
        let mut keys: Vec<(SigningKey, NodeId)> = Vec::new();
        if list.len() > MAX_KEYS {
            self.fault(node, format!("has more than {MAX_KEYS} keys: remove old ones"));
        }
        for (node, raw) in self.items(node, list) {
            let Some(key) = self.signing_key(node, raw) else { continue };
            if let Some((_, first)) = keys.iter().find(|(other, _)| other.kid() == key.kid()) {
                let line = self.line(*first);
                self.fault(node, format!("has the `kid` of the key on line {line}: keep one"));
                continue;
            }
            keys.push((key, node));
        }
        let now = self.surroundings.now;
        let may_sign = |key: &SigningKey| key.not_before().is_none_or(|begin| begin <= now);
        if !keys.is_empty() && !keys.iter().any(|(key, _)| may_sign(key)) {
            self.warn(
                node,
                "no key may sign yet: until the first `not_before` has come, nothing is minted",
            );
        }
        keys.into_iter().map(|(key, _)| key).collect()
    }

    fn signing_key(&self, node: NodeId, raw: &raw::SigningKey) -> Option<SigningKey> {
        let algorithm = self.need(node, "algorithm", "such as `algorithm: ES256`", &raw.algorithm);
        let pem = self
            .need(node, "private_key", "such as { file: signing.pem }", &raw.private_key)
            .and_then(|(node, key)| self.secret_reference(node, key, Privacy::Private));
        let kid = given(&raw.kid).map(|(node, kid)| self.kid(node, kid));
        let not_before = given(&raw.not_before).map(|(node, text)| self.rfc3339(node, text));
        let ((_, algorithm), (key_node, pem)) = (algorithm?, pem?);
        let (kid, not_before) = (kid.flatten(), not_before.flatten());
        match SigningKey::from_pkcs8_pem(&pem, (*algorithm).into(), kid, not_before) {
            Ok(key) => Some(key),
            Err(error) => {
                let mend = match error {
                    SigningKeyError::NotPkcs8 => {
                        ": convert it with `openssl pkcs8 -topk8 -nocrypt`"
                    }
                    SigningKeyError::AlgorithmMismatch => ": change the one or the other",
                    SigningKeyError::TooShort => ": generate a longer one",
                    SigningKeyError::Unsupported => "",
                };
                self.fault(key_node, format!("what is named here {error}{mend}"));
                None
            }
        }
    }

    fn kid(&self, node: NodeId, kid: &Text) -> Option<String> {
        let kid = kid.as_str();
        if kid.len() > MAX_KID || !kid.bytes().all(|b| b.is_ascii_graphic()) {
            self.fault(
                node,
                format!("must be up to {MAX_KID} printable ASCII characters without blanks"),
            );
            return None;
        }
        Some(kid.to_owned())
    }

    fn rfc3339(&self, node: NodeId, text: &Text) -> Option<Timestamp> {
        let parsed = text.as_str().parse::<jiff::Timestamp>().ok();
        let seconds = parsed.and_then(|timestamp| u64::try_from(timestamp.as_second()).ok());
        if seconds.is_none() {
            self.fault(node, "must be a time as in 2026-12-01T00:00:00Z (RFC 3339), after 1970");
        }
        seconds.map(Timestamp::from_secs)
    }
}
