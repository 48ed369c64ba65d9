//! The JWS Compact Serialization, taken apart strictly (RFC 7515 §7.1, RFC 8725bis §3.14).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

/// The longest token, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
/// The longest decoded header, in bytes.
pub const MAX_HEADER: usize = 4 * 1024;

/// Why a text is no compact JWS.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CompactError {
    #[error("the token is longer than {MAX_TOKEN} bytes, or its header than {MAX_HEADER}")]
    TooLarge,
    #[error("the token is not three base64url parts")]
    Malformed,
}

/// A compact JWS whose three parts are canonical base64url. The payload may be empty.
#[derive(Clone)]
pub struct Compact {
    text: String,
    /// Where the signing input ends in `text`.
    signed: usize,
    header: Vec<u8>,
    payload: Vec<u8>,
}

impl Compact {
    pub fn parse(text: &str) -> Result<Self, CompactError> {
        if text.len() > MAX_TOKEN {
            return Err(CompactError::TooLarge);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CompactError::Malformed);
        };
        // Without padding, so many letters have so many octets and no more.
        if header.len() > (MAX_HEADER * 4).div_ceil(3) {
            return Err(CompactError::TooLarge);
        }
        if header.is_empty() || signature.is_empty() {
            return Err(CompactError::Malformed);
        }
        let header = decode(header)?;
        let payload = decode(payload)?;
        // The primitive decodes the signature again; here it is only held to be canonical.
        decode(signature)?;
        let signed = text.len() - signature.len() - 1;
        Ok(Self { text: text.to_owned(), signed, header, payload })
    }

    /// The octets of the protected header.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The octets of the payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What was signed: `BASE64URL(header) '.' BASE64URL(payload)`.
    pub fn signing_input(&self) -> &str {
        self.text.get(..self.signed).unwrap_or_default()
    }

    /// The signature, in base64url.
    pub fn signature(&self) -> &str {
        self.text.get(self.signed + 1..).unwrap_or_default()
    }
}

impl std::fmt::Debug for Compact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compact(…)")
    }
}

fn decode(part: &str) -> Result<Vec<u8>, CompactError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| CompactError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_are_taken_apart() {
        let compact = Compact::parse("e30.e30.AA").unwrap();
        assert_eq!((compact.header(), compact.payload()), (&b"{}"[..], &b"{}"[..]));
        assert_eq!((compact.signing_input(), compact.signature()), ("e30.e30", "AA"));
        assert_eq!(Compact::parse("e30..AA").unwrap().payload(), b"");
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for bad in [
            "",
            ".",
            "..",
            "e30.e30",
            "e30.e30.",
            ".e30.AA",
            "e30.e30.AA.AA",
            "e30.e30.AA.AA.AA",
            "e30=.e30.AA",
            "e30.e30.AB",
            "e30.e30.A",
            "e3 0.e30.AA",
            "e30.e30.AA\n",
            "e30.e+0.AA",
            "e30.e/0.AA",
            "{}.{}.{}",
            "ｅ30.e30.AA",
        ] {
            assert_eq!(Compact::parse(bad).unwrap_err(), CompactError::Malformed, "{bad:?}");
        }
    }

    #[test]
    fn size_is_bounded_before_anything_is_decoded() {
        let token = |header: usize, payload: usize| {
            format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(vec![b' '; header]), "A".repeat(payload))
        };
        let longest = |signature: &str| {
            let fill = MAX_TOKEN - "e30..AAA".len();
            format!("e30.{}.{signature}", "A".repeat(fill))
        };
        assert_eq!(longest("AAA").len(), MAX_TOKEN);
        assert!(Compact::parse(&longest("AAA")).is_ok());
        assert_eq!(Compact::parse(&longest("AAAA")).unwrap_err(), CompactError::TooLarge);
        assert_eq!(Compact::parse(&".".repeat(1 << 20)).unwrap_err(), CompactError::TooLarge);
        assert!(Compact::parse(&token(MAX_HEADER, 4)).is_ok());
        for longer in [MAX_HEADER + 1, MAX_HEADER + 2, MAX_HEADER + 3] {
            assert_eq!(Compact::parse(&token(longer, 4)).unwrap_err(), CompactError::TooLarge);
        }
    }
}
