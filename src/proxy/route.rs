//! Whose a request is, by the path of its target: the exact paths of the configuration, and every
//! other spelling that some server might take for a token path.

use std::collections::HashSet;

use crate::config::Endpoints;
use crate::oauth::form::hex;

/// Up to this length the readings of an odd path are played through. A longer one is suspect as it
/// is: to play it through would cost more than it is worth.
const MAX_PLAYED: usize = 1024;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A token path to the byte.
    Token,
    /// Not a token path to the byte, but a server that decodes, folds or resolves paths could take
    /// it for one. It counts as a token path for whatever bears the marks of an exchange.
    Suspect,
    Introspection,
    Revocation,
    Jwks,
    /// The metadata document of this index.
    Metadata(usize),
    /// A place where the metadata of our issuer can stand, too.
    WellKnown,
    /// The upstream's.
    Other,
}

/// The paths of one configuration.
#[derive(Debug)]
pub struct Routes {
    exact: Vec<(String, Route)>,
    /// The token paths, folded.
    folded: Vec<Vec<u8>>,
}

impl Routes {
    /// `well_known` are places of metadata as far as they are nothing else.
    pub fn new(endpoints: &Endpoints, well_known: &[String]) -> Self {
        let optional = |path: &Option<String>, route| path.clone().map(|path| (path, route));
        let exact = (endpoints.token.iter().map(|path| (path.clone(), Route::Token)))
            .chain(optional(&endpoints.introspection, Route::Introspection))
            .chain(optional(&endpoints.revocation, Route::Revocation))
            .chain(optional(&endpoints.jwks, Route::Jwks))
            .chain(endpoints.metadata.iter().cloned().zip((0..).map(Route::Metadata)))
            .chain(well_known.iter().map(|path| (path.clone(), Route::WellKnown)))
            .collect();
        let folded = endpoints.token.iter().map(|path| fold(path.as_bytes())).collect();
        Self { exact, folded }
    }

    /// The route of a request target (RFC 9112 §3.2) in origin-form or absolute-form. The query is
    /// never part of the match.
    pub fn of(&self, target: &[u8]) -> Route {
        let path = path_of(target);
        if let Some((_, route)) = self.exact.iter().find(|(exact, _)| exact.as_bytes() == path) {
            return *route;
        }
        // A fragment has no place in a request target; where one stands nevertheless, the server
        // behind may cut the path there, or not.
        if self.is_suspect(path) { Route::Suspect } else { Route::Other }
    }

    fn is_suspect(&self, path: &[u8]) -> bool {
        if is_plain(path) {
            let path = trim_end(path, |b| b == b'/');
            return self.folded.iter().any(|token| token.eq_ignore_ascii_case(path));
        }
        let spellings = match path.len() {
            0..=MAX_PLAYED => spellings(path),
            _ => return true,
        };
        self.folded.iter().any(|token| spellings.contains(token))
    }
}

/// The path of a request target as it stands there, without its query.
pub fn path_of(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
    let target = target.get(..end).unwrap_or_default();
    if target.first() == Some(&b'/') {
        return target;
    }
    let Some(at) = target.windows(3).position(|window| window == b"://") else { return target };
    let rest = target.get(at + 3..).unwrap_or_default();
    match rest.iter().position(|b| matches!(b, b'/' | b'\\' | b'#')) {
        Some(at) => rest.get(at..).unwrap_or_default(),
        None => b"/",
    }
}

/// The query of a request target, without `?`.
pub fn query_of(target: &[u8]) -> Option<&[u8]> {
    let at = target.iter().position(|b| *b == b'?')?;
    target.get(at + 1..)
}

/// Whether a path can be read in one way only, but for case and a trailing slash.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = b'x';
    for &byte in path {
        match byte {
            0..=b' ' | 0x7f.. | b'%' | b'\\' | b';' | b'#' => return false,
            b'/' | b'.' if previous == b'/' => return false,
            b'/' if previous == b'.' => return false,
            _ => {}
        }
        previous = byte;
    }
    previous != b'.' && path.first() == Some(&b'/')
}

/// Every folded path that a server might make of `path`. Servers differ in how often they decode,
/// in whether they resolve `..` before or after that, and in whether an empty segment counts when
/// they do: so every order is tried.
fn spellings(path: &[u8]) -> HashSet<Vec<u8>> {
    let mut seen = HashSet::from([path.to_vec()]);
    let mut last = vec![path.to_vec()];
    for _round in 0..=2 {
        let mut next = Vec::new();
        for path in &last {
            let decoded = decode(path);
            let slashed = with_slashes(path);
            let readings = [
                cut(path),
                resolve(&slashed, true),
                resolve(&slashed, false),
                without_authority(&slashed),
                cut(&decoded),
                decoded,
            ];
            next.extend(readings.into_iter().filter(|path| seen.insert(path.clone())));
        }
        last = next;
    }
    seen.iter().map(|path| fold(path)).collect()
}

/// Percent-decodes once, the `%uXXXX` of old servers included.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        rest = match rest {
            [b'%', high, low, tail @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                tail
            }
            [b'%', b'u' | b'U', a, b, c, d, tail @ ..]
                if [a, b, c, d].iter().all(|digit| hex(**digit).is_some()) =>
            {
                let unit = [a, b, c, d]
                    .iter()
                    .fold(0, |unit, digit| unit << 4 | u32::from(hex(**digit).unwrap_or(0)));
                if let Ok(byte) = u8::try_from(unit) {
                    out.push(byte);
                } else {
                    // Half of a pair is no character.
                    let character = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
                    out.extend(character.encode_utf8(&mut [0; 4]).bytes());
                }
                tail
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
            [] => break,
        };
    }
    out
}

/// Bytes beyond ASCII that some servers fold into ASCII: overlong UTF-8, full-width forms, and the
/// letters whose other case is an ASCII letter.
fn to_ascii(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        let (byte, tail) = match rest {
            [first @ (0xc0 | 0xc1), second @ 0x80..=0xbf, tail @ ..] => {
                ((first & 1) << 6 | (second & 0x3f), tail)
            }
            [0xe0, second @ (0x80 | 0x81), third @ 0x80..=0xbf, tail @ ..]
            | [0xf0, 0x80, second @ (0x80 | 0x81), third @ 0x80..=0xbf, tail @ ..] => {
                ((second & 1) << 6 | (third & 0x3f), tail)
            }
            [0xef, 0xbc, third @ 0x81..=0xbf, tail @ ..] => (third - 0x60, tail),
            [0xef, 0xbd, third @ 0x80..=0x9e, tail @ ..] => (third - 0x20, tail),
            [0xe2, 0x84, 0xaa, tail @ ..] => (b'k', tail),
            [0xc5, 0xbf, tail @ ..] => (b's', tail),
            [0xc4, 0xb0 | 0xb1, tail @ ..] => (b'i', tail),
            [byte, tail @ ..] => (*byte, tail),
            [] => break,
        };
        out.push(byte);
        rest = tail;
    }
    out
}

fn with_slashes(path: &[u8]) -> Vec<u8> {
    to_ascii(path).iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect()
}

/// Up to the first control character, query or fragment.
fn cut(path: &[u8]) -> Vec<u8> {
    path.iter()
        .copied()
        .take_while(|b| !b.is_ascii_control() && !matches!(b, b'?' | b'#'))
        .collect()
}

/// `//authority/path` as a URL parser reads it that takes a path for a reference (RFC 3986 §4.2).
fn without_authority(path: &[u8]) -> Vec<u8> {
    if !path.starts_with(b"//") {
        return path.to_vec();
    }
    let rest: Vec<u8> = path.iter().copied().skip_while(|b| *b == b'/').collect();
    rest.iter().copied().skip_while(|b| *b != b'/').collect()
}

/// Removes dot segments (RFC 3986 §5.2.4) and path parameters. `collapse` drops empty segments
/// first, so that `..` can't be spent on them.
fn resolve(path: &[u8], collapse: bool) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|b| *b == b'/').skip(1) {
        let end = segment.iter().position(|b| *b == b';').unwrap_or(segment.len());
        match segment.get(..end).unwrap_or_default() {
            b".." => {
                segments.pop();
            }
            b"." => {}
            b"" if collapse => {}
            segment => segments.push(segment),
        }
    }
    segments.iter().fold(Vec::with_capacity(path.len()), |mut out, segment| {
        out.push(b'/');
        out.extend_from_slice(segment);
        out
    })
}

/// One spelling for all that differ in slashes, parameters, case, blanks, control characters and
/// what stands at the end of a segment.
fn fold(path: &[u8]) -> Vec<u8> {
    let path = with_slashes(path);
    let mut out = Vec::with_capacity(path.len());
    for segment in path.split(|b| *b == b'/') {
        let end = segment.iter().position(|b| *b == b';').unwrap_or(segment.len());
        let kept: Vec<u8> = (segment.get(..end).unwrap_or_default().iter())
            .filter(|b| !b.is_ascii_control() && **b != b' ')
            .map(u8::to_ascii_lowercase)
            .collect();
        let kept = match kept.as_slice() {
            b".." => &kept[..],
            kept => trim_end(kept, |b| b == b'.'),
        };
        if !kept.is_empty() {
            out.push(b'/');
            out.extend_from_slice(kept);
        }
    }
    out
}

fn trim_end(mut bytes: &[u8], is_trimmed: impl Fn(u8) -> bool) -> &[u8] {
    while let [head @ .., last] = bytes {
        if !is_trimmed(*last) {
            break;
        }
        bytes = head;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes() -> Routes {
        let endpoints = Endpoints {
            token: vec!["/oauth2/token".into(), "/realms/R/protocol/openid-connect/token".into()],
            jwks: Some("/oauth2/jwks".into()),
            metadata: vec!["/.well-known/openid-configuration".into(), "/meta".into()],
            introspection: Some("/oauth2/introspect".into()),
            revocation: Some("/oauth2/revoke".into()),
        };
        let well_known =
            ["/.well-known/openid-configuration", "/oauth2/token/.well-known/openid-configuration"];
        Routes::new(&endpoints, &well_known.map(str::to_owned))
    }

    #[test]
    fn exact_paths_have_their_routes_and_the_query_is_no_part_of_them() {
        let cases = [
            ("/oauth2/token", Route::Token),
            ("/oauth2/token?x=1", Route::Token),
            ("/oauth2/token?", Route::Token),
            ("http://idp.example/oauth2/token", Route::Token),
            ("http://idp.example/oauth2/token?a=/b", Route::Token),
            ("/realms/R/protocol/openid-connect/token", Route::Token),
            ("/oauth2/introspect", Route::Introspection),
            ("/oauth2/revoke", Route::Revocation),
            ("/oauth2/jwks?v=2", Route::Jwks),
            ("/.well-known/openid-configuration", Route::Metadata(0)),
            ("/meta", Route::Metadata(1)),
            ("/oauth2/token/.well-known/openid-configuration?x", Route::WellKnown),
        ];
        for (target, route) in cases {
            assert_eq!(routes().of(target.as_bytes()), route, "{target}");
        }
    }

    #[test]
    fn everything_else_is_the_upstreams() {
        for target in [
            "/",
            "*",
            "",
            "/oauth2",
            "/oauth2/",
            "/oauth2/tokens",
            "/oauth2/token/x",
            "/oauth2/tokenx",
            "/x/oauth2/token",
            "/oauth2/x/token",
            "/token",
            "/oauth2/authorize?next=/oauth2/token",
            "/oauth2/..%2ftoken%2fx",
            "/oauth2/jwks/",
            "/JWKS",
            "http://idp.example",
            "http://idp.example?/oauth2/token",
            "/oauth2/to%6Ben%2525",
            "/static/app.js",
            "/a.b/c..d/e",
        ] {
            assert_eq!(routes().of(target.as_bytes()), Route::Other, "{target}");
        }
    }

    /// Spellings that some server takes for `/oauth2/token`. Shared with the test over sockets.
    const SUSPECTS: &[&[u8]] = include!("../../tests/e2e/suspect_paths.in");

    #[test]
    fn other_spellings_of_a_token_path_are_suspect() {
        assert!(SUSPECTS.len() >= 60, "{}", SUSPECTS.len());
        for target in SUSPECTS {
            assert_eq!(routes().of(target), Route::Suspect, "{}", target.escape_ascii());
        }
    }

    /// A change to a path that leaves it the same path for some server.
    fn disguise() -> impl Strategy<Value = fn(Vec<u8>) -> Vec<u8>> {
        fn every(path: &[u8], from: u8, to: &[u8]) -> Vec<u8> {
            path.iter().flat_map(|b| if *b == from { to.to_vec() } else { vec![*b] }).collect()
        }
        let all: Vec<fn(Vec<u8>) -> Vec<u8>> = vec![
            |path| every(&path, b'/', b"//"),
            |path| every(&path, b'/', b"/./"),
            |path| every(&path, b'/', b"/x/../"),
            |path| every(&path, b'/', b"\\"),
            |path| every(&path, b'o', b"O"),
            |path| every(&path, b't', b"%74"),
            |path| every(&path, b'k', b"%4B"),
            |path| [path, b"/".to_vec()].concat(),
            |path| [path, b";v=1".to_vec()].concat(),
            |path| [path, b"%20".to_vec()].concat(),
            |path| [path, b"%00".to_vec()].concat(),
            |path| [path, b"#x".to_vec()].concat(),
        ];
        prop::sample::select(all)
    }

    proptest! {
        #[test]
        fn no_two_disguises_together_make_a_token_path_anything_else(
            first in disguise(), second in disguise(), query in prop::option::of("[a-z/=&]{0,8}")
        ) {
            let mut target = second(first(b"/oauth2/token".to_vec()));
            // A fragment hides what comes after it from those that cut there.
            prop_assume!(!target.windows(3).any(|window| window == b"#x/" || window == b"#x;"));
            if let Some(query) = query {
                target.extend_from_slice(format!("?{query}").as_bytes());
            }
            prop_assert_eq!(routes().of(&target), Route::Suspect, "{}", target.escape_ascii());
        }

        #[test]
        fn no_target_panics(target in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = routes().of(&target);
        }

        #[test]
        fn a_query_never_changes_the_route(path in "/[a-zA-Z0-9/.;%\\\\]{0,24}", query in "[ -~]{0,16}") {
            let with_query = format!("{path}?{query}");
            prop_assert_eq!(routes().of(path.as_bytes()), routes().of(with_query.as_bytes()));
        }
    }
}
