//! Ways to write the parameters of a token request: each turns pairs into header fields and a body.

use super::documents_codings::{brotli, deflate, zstd};

/// Names and values.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

/// What becomes of a request that is written so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is legal: an exchange is granted, another grant passes.
    Legal,
    /// Some server might read it so: an exchange is refused, another grant passes.
    Odd,
    /// Nobody can look into it: refused, whatever it is.
    Opaque,
}

use Fate::{Legal, Odd, Opaque};

pub struct Form {
    pub name: &'static str,
    pub fate: Fate,
    /// `Content-Type` and `Content-Encoding`, with their line ends.
    pub fields: &'static str,
    pub body: fn(Pairs) -> Vec<u8>,
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "Content-Type: application/json\r\n";
const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=b\r\n";
const TEXT: &str = "Content-Type: text/plain\r\n";

const fn form(name: &'static str, fate: Fate, body: fn(Pairs) -> Vec<u8>) -> Form {
    Form { name, fate, fields: FORM, body }
}

const fn other(
    name: &'static str,
    fate: Fate,
    fields: &'static str,
    body: fn(Pairs) -> Vec<u8>,
) -> Form {
    Form { name, fate, fields, body }
}

/// What RFC 6749 appendix B lets stand as it is.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Every byte escaped.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Pairs with a writing of names and of values, and what stands between them.
fn joined(
    pairs: Pairs,
    name: impl Fn(&str) -> String,
    value: impl Fn(&str) -> String,
    between: &str,
) -> Vec<u8> {
    let pairs: Vec<String> =
        pairs.iter().map(|(n, v)| format!("{}={}", name(n), value(v))).collect();
    pairs.join(between).into_bytes()
}

pub fn plain(pairs: Pairs) -> Vec<u8> {
    joined(pairs, encoded, encoded, "&")
}

/// With another writing of values.
fn values(pairs: Pairs, value: impl Fn(&str) -> String) -> Vec<u8> {
    joined(pairs, str::to_owned, value, "&")
}

/// With another writing of names.
fn names(pairs: Pairs, name: impl Fn(&str) -> String) -> Vec<u8> {
    joined(pairs, name, encoded, "&")
}

/// With something before and after.
fn with(pairs: Pairs, before: &str, after: &str) -> Vec<u8> {
    [before.as_bytes(), &plain(pairs), after.as_bytes()].concat()
}

fn json(pairs: Pairs, text: impl Fn(&str) -> String) -> String {
    let members: Vec<String> =
        pairs.iter().map(|(n, v)| format!("\"{}\":\"{}\"", text(n), text(v))).collect();
    format!("{{{}}}", members.join(","))
}

fn code_units(text: &[u8], is_big: bool) -> Vec<u8> {
    text.iter().flat_map(|byte| if is_big { [0, *byte] } else { [*byte, 0] }).collect()
}

fn parts(pairs: Pairs, fields: &str, content: impl Fn(&str) -> String) -> Vec<u8> {
    let part = |(name, value): &(&str, &str)| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n{fields}\r\n{}\r\n",
            content(value)
        )
    };
    format!("{}--b--\r\n", pairs.iter().map(part).collect::<String>()).into_bytes()
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Code page 37, as far as tokens and forms need it.
fn ebcdic(text: &[u8]) -> Vec<u8> {
    let one = |byte: &u8| match byte {
        b'a'..=b'i' => byte - b'a' + 0x81,
        b'j'..=b'r' => byte - b'j' + 0x91,
        b's'..=b'z' => byte - b's' + 0xa2,
        b'A'..=b'I' => byte - b'A' + 0xc1,
        b'J'..=b'R' => byte - b'J' + 0xd1,
        b'S'..=b'Z' => byte - b'S' + 0xe2,
        b'0'..=b'9' => byte - b'0' + 0xf0,
        b'&' => 0x50,
        b'=' => 0x7e,
        b'_' => 0x6d,
        b'-' => 0x60,
        b'%' => 0x6c,
        b'.' => 0x4b,
        _ => 0x40,
    };
    text.iter().map(one).collect()
}

/// A gzip member with one stored block.
fn gzip(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    [&head[..], &length.to_le_bytes(), &(!length).to_le_bytes(), content, &[0; 8]].concat()
}

/// All of them.
pub const FORMS: &[Form] = &[
    form("plain", Legal, plain),
    form("nothing encoded that need not be", Legal, |p| {
        values(p, |v| encoded(v).replace("%3A", ":"))
    }),
    form("every byte of values escaped", Legal, |p| values(p, escaped)),
    form("every byte of names escaped", Legal, |p| names(p, escaped)),
    form("lower-case escapes", Legal, |p| values(p, |v| escaped(v).to_ascii_lowercase())),
    form("empty pairs", Legal, |p| with(p, "&&", "&&&")),
    form("parameters that nobody knows", Legal, |p| with(p, "x=y&", "&z&=w")),
    form("a method that overrides, by parameter", Legal, |p| with(p, "_method=PUT&", "")),
    form("an empty parameter beside it", Legal, |p| with(p, "actor_token=&", "")),
    form("in another order", Legal, |p| {
        let reversed: Vec<_> = p.iter().rev().copied().collect();
        plain(&reversed)
    }),
    other(
        "a charset",
        Legal,
        "Content-Type: application/x-www-form-urlencoded;charset=UTF-8\r\n",
        plain,
    ),
    other(
        "a quoted charset",
        Legal,
        "content-type:APPLICATION/x-www-form-urlencoded ; Charset=\"utf-8\";\r\n",
        plain,
    ),
    other(
        "the coding identity",
        Legal,
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: identity\r\n",
        plain,
    ),
    // Repeated parameters: some take the first, some the last, some all.
    form("another grant first", Odd, |p| with(p, "grant_type=client_credentials&", "")),
    form("another grant last", Odd, |p| with(p, "", "&grant_type=client_credentials")),
    form("another grant first, escaped", Odd, |p| with(p, "grant%5ftype=password&", "")),
    form("an empty grant first", Odd, |p| with(p, "grant_type=&", "")),
    form("twice the same", Odd, |p| [plain(p), plain(p)].join(&b'&')),
    form("the second parameter twice", Odd, |p| with(p, &format!("{}=x&", p[1].0), "")),
    form("too many parameters", Odd, |p| with(p, &"p=&".repeat(70), "")),
    form("more than may be", Odd, |p| {
        let many: String = (0..70).map(|n| format!("p{n}=&")).collect();
        with(p, &many, "")
    }),
    // Names that some frameworks fold into another.
    form("arrays", Odd, |p| names(p, |n| format!("{n}[]"))),
    form("indices", Odd, |p| names(p, |n| format!("{n}[0]"))),
    form("objects", Odd, |p| names(p, |n| format!("a[{n}]"))),
    form("dots", Odd, |p| names(p, |n| format!("form.{n}"))),
    form("upper-case names", Odd, |p| names(p, str::to_ascii_uppercase)),
    form("blanks around names", Odd, |p| names(p, |n| format!("%20{n}+"))),
    form("names that end with NUL", Odd, |p| names(p, |n| format!("{n}%00"))),
    form("tabs in front of names", Odd, |p| names(p, |n| format!("%09{n}"))),
    form("zero-width blanks", Odd, |p| names(p, |n| format!("%E2%80%8B{n}"))),
    form("names in quotes", Odd, |p| names(p, |n| format!("\"{n}\""))),
    // Values.
    form("upper-case values", Odd, |p| values(p, |v| encoded(&v.to_ascii_uppercase()))),
    form("blanks around values", Odd, |p| {
        joined(p, str::to_owned, |v| format!("%0a{}%0a%0b", encoded(v)), "&")
    }),
    form("values in quotes", Odd, |p| values(p, |v| format!("\"{v}\""))),
    form("values that end with NUL", Odd, |p| values(p, |v| format!("{}%00x", encoded(v)))),
    form("escaped twice", Odd, |p| values(p, |v| escaped(&escaped(v)))),
    form("names and values escaped twice", Odd, |p| {
        let twice = |text: &str| escaped(&escaped(text));
        joined(p, twice, twice, "&")
    }),
    form("escaped three times", Odd, |p| names(p, |n| escaped(&escaped(&escaped(n))))),
    form("a broken escape at the end", Odd, |p| with(p, "", "&x=%")),
    form("a broken escape at the front", Odd, |p| with(p, "%zz&", "")),
    form("escapes of old servers", Odd, |p| {
        names(p, |n| n.bytes().map(|b| format!("%u{b:04x}")).collect())
    }),
    form("overlong UTF-8, escaped", Odd, |p| {
        names(p, |n| n.bytes().map(|b| format!("%C{}%{:02X}", b >> 6, b & 0x3f | 0x80)).collect())
    }),
    form("overlong UTF-8", Odd, |p| {
        let name: Vec<u8> = p[1].0.bytes().flat_map(|b| [0xc0 | b >> 6, b & 0x3f | 0x80]).collect();
        [&name[..], b"=", p[1].1.as_bytes(), b"&", &plain(&p[..1])].concat()
    }),
    form("full-width letters", Odd, |p| {
        let wide = |c: char| char::from_u32(u32::from(c) + 0xfee0).unwrap();
        names(p, |n| encoded(&n.chars().map(wide).collect::<String>()))
    }),
    form("letters that fold to ASCII", Odd, |p| {
        names(p, |n| n.replace('s', "\u{17f}").replace('k', "\u{212a}"))
    }),
    form("bytes that are no UTF-8", Odd, |p| [&b"x=\xff&"[..], &plain(p)].concat()),
    form("entities of HTML", Odd, |p| names(p, |n| n.replace('_', "%26%23x5F%3B"))),
    // What stands between.
    form("semicolons", Odd, |p| joined(p, str::to_owned, encoded, ";")),
    form("a semicolon first", Odd, |p| with(p, "a=b;", "")),
    form("line ends", Odd, |p| joined(p, str::to_owned, encoded, "\r\n")),
    form("ampersands of HTML", Odd, |p| joined(p, str::to_owned, encoded, "&amp;")),
    form("escaped separators", Odd, |p| joined(p, str::to_owned, encoded, "%26")),
    form("a question mark first", Odd, |p| with(p, "?x&y?", "")),
    form("in another parameter", Odd, |p| {
        [
            b"grant_type=client_credentials&scope=",
            escaped(&String::from_utf8(plain(p)).unwrap()).as_bytes(),
        ]
        .concat()
    }),
    // Bytes before and between.
    form("a byte order mark", Odd, |p| [b"\xef\xbb\xbf", &plain(p)[..]].concat()),
    form("UTF-16, little end first", Odd, |p| code_units(&plain(p), false)),
    form("UTF-16 with its mark", Odd, |p| [vec![0xfe, 0xff], code_units(&plain(p), true)].concat()),
    form("UTF-32", Odd, |p| code_units(&code_units(&plain(p), true), true)),
    form("NULs between", Odd, |p| {
        plain(p).iter().flat_map(|b| if *b == b'_' { vec![0, *b] } else { vec![*b] }).collect()
    }),
    form("a field that names the charset", Opaque, |p| {
        [b"_charset_=ibm037&", &ebcdic(&plain(p))[..]].concat()
    }),
    form("JSON as a form", Odd, |p| json(p, str::to_owned).into_bytes()),
    form("parts as a form", Odd, |p| parts(p, "", str::to_owned)),
    // JSON.
    other("JSON", Odd, JSON, |p| json(p, str::to_owned).into_bytes()),
    other("JSON with escapes", Odd, JSON, |p| {
        json(p, |t| t.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect()).into_bytes()
    }),
    other("JSON with one escape", Odd, JSON, |p| {
        json(p, |t| t.replace('_', "\\u005F").replace('-', "\\u002d")).into_bytes()
    }),
    other("JSON in JSON", Odd, JSON, |p| {
        format!("{{\"a\":[{}]}}", json(p, str::to_owned)).into_bytes()
    }),
    other("JSON with a mark", Odd, JSON, |p| {
        [b"\xef\xbb\xbf", json(p, str::to_owned).as_bytes()].concat()
    }),
    other("JSON in UTF-16", Odd, JSON, |p| code_units(json(p, str::to_owned).as_bytes(), true)),
    other(
        "JSON that names UTF-16",
        Opaque,
        "Content-Type: application/json; charset=utf-16le\r\n",
        |p| code_units(json(p, str::to_owned).as_bytes(), false),
    ),
    other("a subtype of JSON", Odd, "Content-Type: application/token+json\r\n", |p| {
        json(p, str::to_owned).into_bytes()
    }),
    other("JSON with hexadecimal escapes", Odd, JSON, |p| {
        json(p, |t| t.replace('_', "\\x5f")).into_bytes()
    }),
    other("text/json", Opaque, "Content-Type: text/json\r\n", |p| {
        json(p, str::to_owned).into_bytes()
    }),
    // Parts.
    other("parts", Odd, MULTIPART, |p| parts(p, "", str::to_owned)),
    other("parts with a charset", Odd, MULTIPART, |p| {
        parts(p, "Content-Type: text/plain; charset=utf-8\r\n", str::to_owned)
    }),
    other("parts in EBCDIC", Opaque, MULTIPART, |p| {
        parts(p, "Content-Type: text/plain; charset=ibm037\r\n", str::to_owned)
    }),
    other("parts in base64", Opaque, MULTIPART, |p| {
        parts(p, "Content-Transfer-Encoding: base64\r\n", base64)
    }),
    other("quoted-printable parts", Opaque, MULTIPART, |p| {
        parts(p, "Content-Transfer-Encoding: Quoted-Printable\r\n", |v| v.replace('e', "=65"))
    }),
    other("parts with names of RFC 8187", Odd, MULTIPART, |p| {
        let text = String::from_utf8(parts(p, "", str::to_owned)).unwrap();
        text.replace("name=\"", "name*=\"utf-8''").into_bytes()
    }),
    other("mixed parts", Opaque, "Content-Type: multipart/mixed; boundary=b\r\n", |p| {
        parts(p, "", str::to_owned)
    }),
    // Other types, none, and several.
    other("text", Odd, TEXT, plain),
    other("no type", Odd, "", plain),
    other("an empty type", Odd, "Content-Type:\r\n", plain),
    other(
        "two types",
        Odd,
        "Content-Type: text/plain\r\nContent-Type: application/x-www-form-urlencoded\r\n",
        plain,
    ),
    other(
        "two types in one",
        Opaque,
        "Content-Type: text/plain, application/x-www-form-urlencoded\r\n",
        plain,
    ),
    other("octets", Opaque, "Content-Type: application/octet-stream\r\n", plain),
    other("XML", Opaque, "Content-Type: application/xml\r\n", |p| {
        format!("<a>{}</a>", p.iter().map(|(n, v)| format!("<{n}>{v}</{n}>")).collect::<String>())
            .into()
    }),
    other("YAML", Opaque, "Content-Type: application/yaml\r\n", |p| {
        p.iter().map(|(n, v)| format!("{n}: {v}\n")).collect::<String>().into()
    }),
    other(
        "a type that is none",
        Opaque,
        "Content-Type: application/x-www-form-urlencodedx\r\n",
        plain,
    ),
    other(
        "ISO 8859-1",
        Odd,
        "Content-Type: application/x-www-form-urlencoded; charset=iso-8859-1\r\n",
        plain,
    ),
    other(
        "UTF-16 by name",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded; charset=utf-16\r\n",
        |p| code_units(&plain(p), true),
    ),
    other(
        "UTF-7",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded; charset=utf-7\r\n",
        |p| names(p, |n| n.replace('_', "+AF8-")),
    ),
    other(
        "EBCDIC",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded; charset=ibm037\r\n",
        |p| ebcdic(&plain(p)),
    ),
    other(
        "a charset of RFC 2231",
        Opaque,
        "Content-Type: text/plain; charset*=us-ascii''ibm037\r\n",
        |p| ebcdic(&plain(p)),
    ),
    // Codings.
    other(
        "gzip",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n",
        |p| gzip(&plain(p)),
    ),
    other(
        "gzip that is none",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n",
        plain,
    ),
    other(
        "gzip of JSON",
        Opaque,
        "Content-Type: application/json\r\nContent-Encoding: GZip\r\n",
        |p| gzip(json(p, str::to_owned).as_bytes()),
    ),
    other(
        "deflate",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: deflate\r\n",
        |p| deflate(&plain(p)),
    ),
    other(
        "Brotli",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: br\r\n",
        |p| brotli(&plain(p)),
    ),
    other(
        "Zstandard",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: zstd\r\n",
        |p| zstd(&plain(p)),
    ),
    other(
        "a coding of JSON",
        Opaque,
        "Content-Type: application/json\r\nContent-Encoding: br\r\n",
        |p| brotli(json(p, str::to_owned).as_bytes()),
    ),
    other(
        "a coding that nobody knows",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: x-none\r\n",
        plain,
    ),
    other(
        "two codings",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: identity, gzip\r\n",
        |p| gzip(&plain(p)),
    ),
    other(
        "two fields of codings",
        Opaque,
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: identity\r\nContent-Encoding: x-gzip\r\n",
        |p| gzip(&plain(p)),
    ),
];
