//! A key set as it is kept on disk: bytes under a tag that nobody without our secrets can make.
//!
//! The tag is over all that the set stands for: whose it is, where it was fetched, when that was
//! last confirmed, and the document to the byte. So a file that was changed, cut off, put under
//! another issuer's name or given another date is none of ours.

use std::time::Duration;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::jwt::key_set::{KeySetError, MAX_DOCUMENT};
use crate::jwt::sign::SigningKeys;
use crate::secret::sha256;
use crate::time::Timestamp;

const MAGIC: &[u8] = b"cambio: an issuer's keys, 1\n";
const TAG: usize = 32;
const DATE: usize = 8;
/// The largest record.
pub(super) const MAX_RECORD: usize = MAGIC.len() + TAG + DATE + MAX_DOCUMENT;
/// What the secrets are derived for: nothing else is ever derived under this name.
const PURPOSE: &[u8] = b"cambio: keys of trusted token issuers, kept on disk, 1";

/// Why what is kept is not used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    #[error("it is no regular file")]
    NotAFile,
    #[error("others than its owner can use it, or it has another owner than its folder")]
    Shared,
    #[error("it is larger than any that is kept")]
    TooLarge,
    #[error("it is cut off, or a file of something else")]
    Malformed,
    #[error(
        "its tag is not ours: it was changed, or is another issuer's or another source's, or was \
         written under a signing key that is no longer configured"
    )]
    Tag,
    #[error("it was confirmed in the future: the clock was set back")]
    Future,
    #[error("it is older than `max_stale`")]
    TooOld,
    #[error(transparent)]
    Set(#[from] KeySetError),
    #[error("it can't be read ({0})")]
    Io(std::io::ErrorKind),
}

/// Secrets that stand in the configuration and not beside what they protect: derived from each of
/// our signing keys. Whoever has one of these mints tokens without any issuer's key.
#[derive(Clone)]
pub(super) struct Secrets(Vec<Zeroizing<[u8; 32]>>);

impl Secrets {
    pub(super) fn of(signing_keys: &SigningKeys) -> Option<Self> {
        let derived: Option<Vec<_>> = signing_keys.iter().map(|key| key.derive(PURPOSE)).collect();
        derived.filter(|secrets| !secrets.is_empty()).map(Self)
    }

    fn keys(&self) -> impl Iterator<Item = hmac::Key> {
        self.0.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, &**secret))
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        let equal = |(one, two): (&Zeroizing<[u8; 32]>, &Zeroizing<[u8; 32]>)| {
            one.as_slice().ct_eq(two.as_slice()).into()
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(equal)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// Whose keys, and where from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(Vec<u8>);

impl Label {
    /// From all that tells one source from another. Which part ends where is part of it.
    pub(in crate::keys) fn new<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut label = Vec::new();
        for part in parts {
            label.extend_from_slice(&(part.len() as u64).to_be_bytes());
            label.extend_from_slice(part);
        }
        Self(label)
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        sha256(&self.0)
    }
}

/// What the tag is over. Each part but the last has a known length.
fn tagged(label: &Label, confirmed_at: [u8; DATE], document: &[u8]) -> Vec<u8> {
    [MAGIC, &label.digest(), &confirmed_at, document].concat()
}

/// A record of a document that was confirmed then.
pub(super) fn seal(
    secrets: &Secrets,
    label: &Label,
    confirmed_at: Timestamp,
    document: &[u8],
) -> Option<Vec<u8>> {
    let date = confirmed_at.as_secs().to_be_bytes();
    let tag = hmac::sign(&secrets.keys().next()?, &tagged(label, date, document));
    Some([MAGIC, tag.as_ref(), &date, document].concat())
}

/// When the document was confirmed, and the document, if all is as we wrote it.
pub(super) fn open<'a>(
    secrets: &Secrets,
    label: &Label,
    record: &'a [u8],
    now: Timestamp,
    max_stale: Duration,
) -> Result<(Timestamp, &'a [u8]), Refused> {
    if record.len() > MAX_RECORD {
        return Err(Refused::TooLarge);
    }
    let parts = record
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<TAG>())
        .and_then(|(tag, rest)| Some((tag, rest.split_first_chunk::<DATE>()?)));
    let (tag, (date, document)) = parts.ok_or(Refused::Malformed)?;
    let input = tagged(label, *date, document);
    if !secrets.keys().any(|key| hmac::verify(&key, &input, tag).is_ok()) {
        return Err(Refused::Tag);
    }
    let confirmed_at = Timestamp::from_secs(u64::from_be_bytes(*date));
    let age = now.as_secs().checked_sub(confirmed_at.as_secs()).ok_or(Refused::Future)?;
    if age > max_stale.as_secs() {
        return Err(Refused::TooOld);
    }
    Ok((confirmed_at, document))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::algorithm::Algorithm;
    use crate::jwt::sign::{SigningKey, generate_pem};

    const DAY: Duration = Duration::from_hours(24);
    const THEN: Timestamp = Timestamp::from_secs(1_800_000_000);
    const DOCUMENT: &[u8] = b"{\"keys\":[]}";

    fn pem() -> String {
        generate_pem(Algorithm::ES256).unwrap().to_string()
    }

    fn secrets(pems: &[&str]) -> Secrets {
        let key = |pem: &&str| {
            SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, None, None).unwrap()
        };
        Secrets::of(&SigningKeys::new(pems.iter().map(key).collect())).unwrap()
    }

    fn label() -> Label {
        Label::new([&b"partner"[..], b"https://partner.example/jwks"])
    }

    #[test]
    fn what_was_sealed_is_opened_until_it_is_too_old() {
        let secrets = secrets(&[&pem()]);
        let record = seal(&secrets, &label(), THEN, DOCUMENT).unwrap();
        let at = |seconds: i64| {
            let now = Timestamp::from_secs(THEN.as_secs().saturating_add_signed(seconds));
            open(&secrets, &label(), &record, now, DAY)
        };
        assert_eq!(at(0), Ok((THEN, DOCUMENT)));
        assert_eq!(at(86_400), Ok((THEN, DOCUMENT)));
        assert_eq!(at(86_401), Err(Refused::TooOld));
        assert_eq!(at(-1), Err(Refused::Future));
    }

    #[test]
    fn every_changed_bit_is_noticed_and_every_cut() {
        let secrets = secrets(&[&pem()]);
        let record = seal(&secrets, &label(), THEN, DOCUMENT).unwrap();
        for bit in 0..record.len() * 8 {
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let refused = open(&secrets, &label(), &changed, THEN, DAY).unwrap_err();
            let expected = if bit / 8 < MAGIC.len() { Refused::Malformed } else { Refused::Tag };
            assert_eq!(refused, expected, "bit {bit}");
        }
        for length in 0..record.len() {
            let refused = open(&secrets, &label(), &record[..length], THEN, DAY).unwrap_err();
            let is_short = length < MAGIC.len() + TAG + DATE;
            let expected = if is_short { Refused::Malformed } else { Refused::Tag };
            assert_eq!(refused, expected, "{length} bytes");
        }
        let longer = [&record[..], b" "].concat();
        assert_eq!(open(&secrets, &label(), &longer, THEN, DAY), Err(Refused::Tag));
        let huge = vec![0; MAX_RECORD + 1];
        assert_eq!(open(&secrets, &label(), &huge, THEN, DAY), Err(Refused::TooLarge));
    }

    #[test]
    fn a_record_is_for_its_label_alone() {
        let secrets = secrets(&[&pem()]);
        let record = seal(&secrets, &label(), THEN, DOCUMENT).unwrap();
        for other in [
            Label::new([&b"other"[..], b"https://partner.example/jwks"]),
            Label::new([&b"partner"[..], b"https://partner.example/jwks2"]),
            Label::new([&b"partnerh"[..], b"ttps://partner.example/jwks"]),
            Label::new([&b"partner"[..]]),
        ] {
            assert_eq!(open(&secrets, &other, &record, THEN, DAY), Err(Refused::Tag));
        }
    }

    #[test]
    fn a_record_holds_while_the_key_that_it_was_written_under_is_configured() {
        let (old, new) = (pem(), pem());
        let record = seal(&secrets(&[&old]), &label(), THEN, DOCUMENT).unwrap();
        let opened = |pems: &[&str]| open(&secrets(pems), &label(), &record, THEN, DAY);
        assert_eq!(opened(&[&old]), Ok((THEN, DOCUMENT)));
        assert_eq!(opened(&[&new, &old]), Ok((THEN, DOCUMENT)));
        assert_eq!(opened(&[&new]), Err(Refused::Tag));
        assert_eq!(secrets(&[&old, &new]), secrets(&[&old, &new]));
        assert_ne!(secrets(&[&old, &new]), secrets(&[&new, &old]));
    }
}
