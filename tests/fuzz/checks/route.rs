//! No target is passed on for another path that some chain of servers takes for a token path; and
//! none is held up that can be read in one way only, which is another.
//!
//! The readings are written down here once more, from what servers do rather than from our code.

use std::sync::LazyLock;

use cambio::config::Endpoints;
use cambio::proxy::route::{Route, Routes};

const TOKEN: &str = "/oauth2/token";

static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    let endpoints = Endpoints {
        token: vec![TOKEN.to_owned()],
        jwks: Some("/oauth2/jwks".to_owned()),
        metadata: vec!["/.well-known/openid-configuration".to_owned()],
        introspection: Some("/oauth2/introspect".to_owned()),
        revocation: Some("/oauth2/revoke".to_owned()),
    };
    Routes::new(&endpoints, &["/.well-known/oauth-authorization-server".to_owned()])
});

pub fn check(data: &[u8]) -> bool {
    let route = ROUTES.of(data);
    let path = data.split(|b| *b == b'?').next().unwrap_or_default();
    // The query decides nothing.
    assert_eq!(ROUTES.of(path), route);
    assert_eq!(ROUTES.of(&[path, b"?x=/../%2e"].concat()), route);
    assert_eq!(route == Route::Token, path == TOKEN.as_bytes() || is_absolute_form(path));
    if path.starts_with(b"/") {
        let is_ours = matches!(route, Route::Token | Route::Suspect);
        if route == Route::Other {
            let reading = reading(path);
            assert!(reading.is_none(), "passed on, and {reading:?} takes it");
        }
        if is_plain(path) {
            let name = path.strip_suffix(b"/").unwrap_or(path);
            assert_eq!(is_ours, name.eq_ignore_ascii_case(TOKEN.as_bytes()), "held up");
        }
    }
    matches!(route, Route::Token | Route::Suspect)
}

/// RFC 9112 §3.2.2: `http://authority/oauth2/token`.
fn is_absolute_form(target: &[u8]) -> bool {
    let target = String::from_utf8_lossy(target);
    let Some((before, rest)) = target.split_once("://") else { return false };
    let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
    !before.starts_with('/')
        && !authority.contains(['\\', '#'])
        && rest.get(authority.len()..) == Some(TOKEN)
}

/// Whether nobody reads the path but as it stands: letters, digits and hyphens between single
/// slashes.
fn is_plain(path: &[u8]) -> bool {
    path.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-'))
        && !path.windows(2).any(|two| two == b"//")
}

/// What some server does to a path before it looks it up.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is had or not by itself")]
struct Server {
    /// RFC 3986 §5.2.4, before it decodes or after that.
    resolves_first: bool,
    resolves_last: bool,
    decodes: usize,
    /// `//` is `/`.
    merges_slashes: bool,
    /// `\` is `/`.
    takes_backslashes: bool,
    /// Servlet containers drop `;x`.
    drops_parameters: bool,
    /// NUL and the like: dropped, or the end.
    control: Control,
}

#[derive(Clone, Copy, Debug)]
enum Control {
    Kept,
    Dropped,
    Ends,
}

/// A server that takes the path for the token path.
fn reading(path: &[u8]) -> Option<Server> {
    const BOTH: [bool; 2] = [false, true];
    for decodes in 0..=2 {
        for control in [Control::Kept, Control::Dropped, Control::Ends] {
            for bits in 0..32_usize {
                let bit = |at: usize| BOTH[bits >> at & 1];
                let server = Server {
                    resolves_first: bit(0),
                    resolves_last: bit(1),
                    merges_slashes: bit(2),
                    takes_backslashes: bit(3),
                    drops_parameters: bit(4),
                    decodes,
                    control,
                };
                if server.read(path).eq_ignore_ascii_case(TOKEN.as_bytes()) {
                    return Some(server);
                }
            }
        }
    }
    None
}

impl Server {
    fn read(self, path: &[u8]) -> Vec<u8> {
        let mut path = path.to_vec();
        if self.resolves_first {
            path = without_dot_segments(&path);
        }
        for _ in 0..self.decodes {
            path = percent_decoded(&path);
        }
        match self.control {
            Control::Kept => {}
            Control::Dropped => path.retain(|b| !b.is_ascii_control()),
            Control::Ends => {
                let end = path.iter().position(u8::is_ascii_control).unwrap_or(path.len());
                path.truncate(end);
            }
        }
        if self.takes_backslashes {
            path.iter_mut().filter(|b| **b == b'\\').for_each(|b| *b = b'/');
        }
        if self.drops_parameters {
            let segments = path.split(|b| *b == b'/');
            let bare = segments.map(|one| one.split(|b| *b == b';').next().unwrap_or_default());
            path = bare.collect::<Vec<_>>().join(&b'/');
        }
        if self.merges_slashes {
            path.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
        }
        if self.resolves_last {
            path = without_dot_segments(&path);
        }
        if path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        path
    }
}

fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        let digits = path.get(at + 1..at + 3).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let decoded =
            digits.filter(|_| *byte == b'%').and_then(|two| std::str::from_utf8(two).ok());
        if let Some(decoded) = decoded.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            out.push(decoded);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    out
}

/// RFC 3986 §5.2.4, step by step.
fn without_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut input = path;
    let mut output: Vec<u8> = Vec::new();
    let pop = |output: &mut Vec<u8>| {
        let end = output.iter().rposition(|b| *b == b'/').unwrap_or(0);
        output.truncate(end);
    };
    loop {
        input = match input {
            [] | b"." | b".." => return output,
            [b'.', b'.', b'/', rest @ ..] | [b'.', b'/', rest @ ..] => rest,
            b"/." => b"/",
            [b'/', b'.', b'/', ..] => &input[2..],
            b"/.." => {
                pop(&mut output);
                b"/"
            }
            [b'/', b'.', b'.', b'/', ..] => {
                pop(&mut output);
                &input[3..]
            }
            _ => {
                let next = input.iter().skip(1).position(|b| *b == b'/');
                let (segment, rest) = input.split_at(next.map_or(input.len(), |at| at + 1));
                output.extend_from_slice(segment);
                rest
            }
        }
    }
}
