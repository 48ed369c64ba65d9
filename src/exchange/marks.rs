//! The marks of what is ours in bytes that are no proper form: the grant's URN, the name
//! `subject_token`, and a refresh token of ours, in whatever spelling some parser could read them.
//!
//! What is decided here from another reading of the same bytes than the upstream's would be a way
//! around us, so every reading counts: percent-decoding more than once, escapes of JSON and HTML,
//! UTF-16, overlong UTF-8, any case. What can be written so that no such reading finds it is not
//! looked into but refused: other charsets, other media types, parts that are encoded once more.

use super::family;
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

/// Charsets in which ASCII is ASCII.
const ASCII_CHARSETS: [&str; 5] = ["utf-8", "utf8", "us-ascii", "iso-8859-1", "windows-1252"];

/// Whether [`stand_in`] can read a body of this `Content-Type`: not one in a charset that hides
/// ASCII, and not one of a media type, such as XML, in which a text can come in pieces.
pub(super) fn can_read(content_type: &[u8]) -> bool {
    let lower = content_type.to_ascii_lowercase();
    let essence = lower.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let known: [&[u8]; 5] = [
        b"",
        b"application/x-www-form-urlencoded",
        b"application/json",
        b"multipart/form-data",
        b"text/plain",
    ];
    let of_json = essence.strip_prefix(b"application/").is_some_and(|subtype| {
        subtype.ends_with(b"+json") && subtype.iter().all(u8::is_ascii_graphic)
    });
    (known.contains(&essence) || of_json) && charsets_are_ascii(&lower)
}

/// Whether every `charset` parameter in `text`, a header or a body of parts with headers, names one
/// in which [`stand_in`] can read.
pub(super) fn charsets_are_ascii(text: &[u8]) -> bool {
    const NAME: &str = "charset";
    let lower = text.to_ascii_lowercase();
    memchr::memmem::find_iter(&lower, NAME).all(|at| {
        let after = lower.get(at + NAME.len()..).unwrap_or_default().trim_ascii_start();
        match after {
            [b'=', value @ ..] => {
                let mut words = value.trim_ascii_start().split(|b| b"\"';, \t\r\n".contains(b));
                let first = words.next().unwrap_or_default();
                let quoted = value.trim_ascii_start().starts_with(b"\"");
                let charset = if quoted { words.next().unwrap_or_default() } else { first };
                ASCII_CHARSETS.iter().any(|known| known.as_bytes() == charset)
            }
            // RFC 2231 §4.
            [b'*', ..] => false,
            _ => true,
        }
    })
}

fn is_marked(text: &[u8]) -> bool {
    let lower = text.to_ascii_lowercase();
    let has = |needle: &str| memchr::memmem::find(&lower, needle.as_bytes()).is_some();
    has(SUBJECT_TOKEN)
        || has(grant_type::TOKEN_EXCHANGE)
        || has(family::PREFIX)
        // A field that says in which charset all others are (RFC 7578 §4.6).
        || has("_charset_")
        // A part of a multipart body that is encoded once more can't be looked into.
        || (has("content-transfer-encoding") && (has("base64") || has("quoted-printable")))
}

/// Undoes one layer of every escape at once. NULs vanish, and with them the difference between
/// UTF-16 and ASCII.
fn decode_once(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let (byte, after) = escape(rest)
            .or_else(|| sequence(rest))
            .and_then(|(code, after)| Some((fold(code)?, after)))
            .or_else(|| percent(rest))
            .unwrap_or((*first, tail));
        rest = after;
        if byte != 0 {
            out.push(byte);
        }
    }
    out
}

/// `%73`, whatever byte it stands for.
fn percent(text: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, after @ ..] = text else { return None };
    Some((u8::try_from(hex([*high, *low])?).ok()?, after))
}

/// An escape that stands for a character, and what comes after it.
fn escape(text: &[u8]) -> Option<(u32, &[u8])> {
    match text {
        // `\u0073` of JSON; `%u0073`, a spelling of old web servers.
        [b'%' | b'\\', b'u' | b'U', a, b, c, d, after @ ..] => {
            Some((hex([*a, *b, *c, *d])?, after))
        }
        // What readers of more than JSON take.
        [b'\\', b'x' | b'X', high, low, after @ ..] => Some((hex([*high, *low])?, after)),
        [b'&', b'#', b'x' | b'X', digits @ ..] => reference(digits, 16),
        [b'&', b'#', digits @ ..] => reference(digits, 10),
        _ => None,
    }
}

/// The digits of a numeric character reference of HTML, which some read in forms.
fn reference(digits: &[u8], radix: u32) -> Option<(u32, &[u8])> {
    let mut code = None;
    let mut rest = digits;
    while let [first, tail @ ..] = rest
        && let Some(digit) = char::from(*first).to_digit(radix)
    {
        code = Some(code.unwrap_or(0_u32).saturating_mul(radix).saturating_add(digit));
        rest = tail;
    }
    Some((code?, rest.strip_prefix(b";").unwrap_or(rest)))
}

/// A sequence of UTF-8 of two to four bytes, also where fewer would do.
fn sequence(text: &[u8]) -> Option<(u32, &[u8])> {
    let (first, tail) = text.split_first()?;
    let (bits, more) = match first {
        0xC0..=0xDF => (first & 0x1F, 1),
        0xE0..=0xEF => (first & 0x0F, 2),
        0xF0..=0xF7 => (first & 0x07, 3),
        _ => return None,
    };
    let (continued, after) = tail.split_at_checked(more)?;
    let code = continued.iter().try_fold(u32::from(bits), |code, byte| {
        matches!(byte, 0x80..=0xBF).then(|| code << 6 | u32::from(byte & 0x3F))
    })?;
    Some((code, after))
}

/// The ASCII that a character is, or that it becomes where case or width are not told apart.
fn fold(code: u32) -> Option<u8> {
    let ascii = match code {
        0x0130 | 0x0131 => u32::from(b'i'),
        0x017F => u32::from(b's'),
        0x212A => u32::from(b'k'),
        0xFF01..=0xFF5E => code - 0xFEE0,
        other => other,
    };
    u8::try_from(ascii).ok().filter(u8::is_ascii)
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
            b"%E0%81%B3ubject_token".to_vec(),
            b"\xF0\x80\x81\xB3ubject_token".to_vec(),
            br"{'subject\x5ftoken':1}".to_vec(),
            b"subject_to%E2%84%AAen".to_vec(),
            "\u{17F}ubject_token".as_bytes().to_vec(),
            "\u{FF53}ubject_token".as_bytes().to_vec(),
            b"%uff53ubject_token".to_vec(),
            b"subject%26%2300095%3Btoken=x".to_vec(),
            b"<a>subject&#x5F;token</a>".to_vec(),
            b"_charset_=ibm037&x=1".to_vec(),
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
            b"\\x5",
            b"\xC1",
            b"\xE2\x84",
            b"&#",
            b"&#x;&#99999999999999999999;",
            b"Content-Transfer-Encoding: 8bit\r\n\r\nx",
            b"encoding=base64&other=quoted-printable",
        ] {
            assert!(!stand_in(text), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_nobody_can_look_into_is_not_readable() {
        for good in [
            "",
            "application/json",
            "application/problem+json",
            "text/plain; charset=\"UTF-8\"",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded; Charset = ISO-8859-1; x=1",
        ] {
            assert!(can_read(good.as_bytes()), "{good}");
        }
        for bad in [
            "text/plain; charset=utf-7",
            "text/plain;x=1; Charset = IBM037",
            "text/plain; charset=\"utf-16\"",
            "text/plain; charset=utf-8; charset=utf-7",
            "text/plain; charset=utf-8, charset=utf-7",
            "text/plain; charset*=us-ascii'en'utf-7",
            "text/plain charset=utf-7",
            "text/plain; charset=",
            "application/xml",
            "application/soap+xml",
            "application/yaml",
            "application/json, text/plain",
            "multipart/mixed; boundary=x",
        ] {
            assert!(!can_read(bad.as_bytes()), "{bad}");
        }
        let part = |charset: &str| {
            format!("--b\r\nContent-Type: text/plain; CHARSET={charset}\r\n\r\n\x7f\r\n--b--")
        };
        assert!(charsets_are_ascii(part("utf-8").as_bytes()));
        assert!(!charsets_are_ascii(part("ibm037").as_bytes()));
    }
}
