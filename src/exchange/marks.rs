//! The marks of an exchange in bytes that are no proper form: the grant's URN and the name
//! `subject_token`, in whatever spelling some parser could read them.
//!
//! What is decided here from another reading of the same bytes than the upstream's would be a way
//! around us, so every reading counts: percent-decoding more than once, JSON escapes, UTF-16,
//! overlong UTF-8, any case.

use crate::oauth::grant_type;

const SUBJECT_TOKEN: &str = "subject_token";
/// How often one escape may be wrapped in another.
const ROUNDS: usize = 4;

/// Whether a mark stands anywhere in `bytes`.
pub(super) fn stand_in(bytes: &[u8]) -> bool {
    let mut text = bytes.to_vec();
    for _ in 0..ROUNDS {
        if is_marked(&text) {
            return true;
        }
        let decoded = decode_once(&text);
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    is_marked(&text)
}

/// Whether [`stand_in`] can read a body of this `Content-Type`: not one in a charset that hides
/// ASCII.
pub(super) fn can_read(content_type: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(content_type) else { return false };
    let lower = value.to_ascii_lowercase();
    lower.split(';').skip(1).all(|parameter| match parameter.trim().split_once('=') {
        Some((name, charset)) if name.trim() == "charset" => {
            let charset = charset.trim().trim_matches(['"', '\'']);
            matches!(charset, "utf-8" | "utf8" | "us-ascii" | "iso-8859-1" | "windows-1252")
        }
        _ => true,
    })
}

fn is_marked(text: &[u8]) -> bool {
    let lower = text.to_ascii_lowercase();
    let has = |needle: &str| memchr::memmem::find(&lower, needle.as_bytes()).is_some();
    has(SUBJECT_TOKEN)
        || has(grant_type::TOKEN_EXCHANGE)
        // A part of a multipart body that is encoded once more can't be looked into.
        || (has("content-transfer-encoding") && (has("base64") || has("quoted-printable")))
}

/// Undoes one layer of every escape at once. NULs vanish, and with them the difference between
/// UTF-16 and ASCII.
fn decode_once(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let byte = match (first, tail) {
            (0, _) => continue,
            (b'%', [high, low, after @ ..]) if hex([*high, *low]).is_some() => {
                rest = after;
                hex([*high, *low])
            }
            // `%u0073`, a spelling of old web servers.
            (b'%' | b'\\', [b'u' | b'U', a, b, c, d, after @ ..])
                if hex([*a, *b, *c, *d]).is_some_and(|unit| unit < 0x80) =>
            {
                rest = after;
                hex([*a, *b, *c, *d])
            }
            // JSON may escape a slash.
            (b'\\', [b'/', after @ ..]) => {
                rest = after;
                Some(u32::from(b'/'))
            }
            // Two bytes of UTF-8 for what needs one.
            (0xC0 | 0xC1, [low @ 0x80..=0xBF, after @ ..]) => {
                rest = after;
                Some(u32::from(*first & 1) << 6 | u32::from(*low & 0x3F))
            }
            _ => Some(u32::from(*first)),
        };
        match byte.and_then(|byte| u8::try_from(byte).ok()) {
            Some(0) | None => {}
            Some(byte) => out.push(byte),
        }
    }
    out
}

fn hex<const N: usize>(digits: [u8; N]) -> Option<u32> {
    digits
        .into_iter()
        .try_fold(0, |value, digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_in_every_spelling() {
        let urn = grant_type::TOKEN_EXCHANGE;
        let escaped =
            |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<Vec<_>>().concat();
        let utf16 = |text: &str| text.bytes().flat_map(|b| [b, 0]).collect::<Vec<_>>();
        let spellings: Vec<Vec<u8>> = vec![
            format!("grant_type={urn}").into_bytes(),
            urn.to_uppercase().into_bytes(),
            escaped(urn).into_bytes(),
            escaped(&escaped(urn)).into_bytes(),
            escaped(&escaped(&escaped("subject_token"))).into_bytes(),
            b"subject%5Ftoken=x".to_vec(),
            b"subject%5ftoken_type=x".to_vec(),
            br#"{"subject\u005ftoken":"x"}"#.to_vec(),
            br#"{"grant_type":"urn:ietf:params:oauth:grant-type:token\u002dexchange"}"#.to_vec(),
            b"%u0073ubject_token".to_vec(),
            utf16("subject_token=1"),
            [&[0xFE, 0xFF, 0][..], &utf16("subject_token=1")].concat(),
            b"%C1%B3ubject_token".to_vec(),
            b"\xC1\xB3ubject_token".to_vec(),
            b"Content-Transfer-Encoding: base64\r\n\r\nc3ViamVjdF90b2tlbg==".to_vec(),
        ];
        for spelling in spellings {
            assert!(stand_in(&spelling), "{}", String::from_utf8_lossy(&spelling));
        }
    }

    #[test]
    fn what_is_no_exchange_bears_no_marks() {
        for text in [
            &b""[..],
            b"grant_type=client_credentials&scope=token-exchange",
            b"grant_type=password&username=a%40b&password=100%25%zz",
            b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=x",
            br#"{"grant_type":"authorization_code","code":"\u00e4"}"#,
            b"%",
            b"%u",
            b"\\",
            b"\\u00",
            b"\xC1",
        ] {
            assert!(!stand_in(text), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn charsets_that_hide_ascii_cannot_be_read() {
        for good in ["", "application/json", "text/plain; charset=\"UTF-8\"", "a/b; boundary=x"] {
            assert!(can_read(good.as_bytes()), "{good}");
        }
        for bad in
            ["text/plain; charset=utf-7", "a/b;x=1; Charset = IBM037", "a/b; charset=\"utf-16\""]
        {
            assert!(!can_read(bad.as_bytes()), "{bad}");
        }
    }
}
