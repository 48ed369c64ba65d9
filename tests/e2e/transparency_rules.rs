//! What may differ between what is sent and what arrives: all of it, with the reason for each.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::transparency_message::{Case, Request, Speech};
use super::transparency_wire::{Fields, Framing, Head};

/// What a field is replaced by, from what was sent of it.
type Put = fn(&Way, &[&[u8]]) -> Option<Vec<u8>>;

/// What becomes of a field.
enum Change {
    /// It ends here.
    Ends,
    /// This comes in its place, or nothing. What was sent is at hand.
    Instead(Put),
    /// It arrives, and after it one more of that name.
    OneMore(fn(&Way) -> &'static str),
    /// From HTTP/2 its values arrive as one. HTTP/1 is left as it is.
    Joined,
    /// One arrives, whatever it says.
    Whatever,
}

use Change::{Ends, Instead, Joined, OneMore, Whatever};

/// `*` at the end of a name stands for any end, with `_` for `-`.
struct Rule(&'static str, Change, &'static str);

/// Fields of requests. Those that no rule names arrive as they were sent: as many of a name, in
/// their order, to the byte, the case of names included.
///
/// Not in here: trailer fields, which the library does not pass on (RFC 9110 §6.5.1 lets it). The
/// test of them is in `transparency_streams.rs`.
const OF_REQUESTS: &[Rule] = &[
    Rule("(named by Connection)", Ends, "RFC 9110 §7.6.1"),
    Rule("connection", Instead(closes_upstream), "RFC 9110 §7.6.1; and see there"),
    Rule("keep-alive", Ends, "RFC 9110 §7.6.1"),
    Rule("proxy-connection", Ends, "RFC 9110 §7.6.1"),
    Rule("te", Ends, "RFC 9110 §10.1.4: it is about the connection"),
    Rule("trailer", Ends, "RFC 9110 §6.6.2: trailers are not passed on"),
    Rule("upgrade", Ends, "RFC 9110 §7.8: only WebSockets pass"),
    Rule("http2-settings", Ends, "RFC 9113 §3.1: obsolete, and was hop-by-hop"),
    Rule("proxy-authorization", Ends, "RFC 9110 §11.7.2: it is for the next proxy"),
    Rule("content-length", Instead(length_upstream), "RFC 9112 §6: framing"),
    Rule("transfer-encoding", Instead(coding_upstream), "RFC 9112 §6.1: framing, hop-by-hop"),
    Rule("expect", Instead(expectation), "RFC 9110 §10.1.1: where we read the body, it is met"),
    Rule("host", Instead(host), "RFC 9112 §3.2, RFC 9113 §8.3.1: the target says it, or we"),
    Rule("cookie", Joined, "RFC 9113 §8.2.3: HTTP/1 takes one field"),
    Rule("max-forwards", Instead(hops), "RFC 9110 §7.6.2"),
    Rule("via", OneMore(via_upstream), "RFC 9110 §7.6.3"),
    Rule("forwarded", Instead(|way, _| Some(forwarded(way))), "RFC 7239: ours, nobody else's"),
    Rule("x-forwarded-for", Instead(|_, _| Some("127.0.0.1".into())), "ours, nobody else's"),
    Rule("x-forwarded-proto", Instead(|way, _| Some(way.scheme.into())), "ours, nobody else's"),
    Rule("x-forwarded-host", Instead(|way, _| way.request().host_bytes()), "ours, nobody else's"),
    Rule("x-forwarded-*", Ends, "nobody is to be told such things by a client"),
];

/// Fields of answers.
const OF_ANSWERS: &[Rule] = &[
    Rule("(named by Connection)", Ends, "RFC 9110 §7.6.1"),
    Rule("connection", Instead(closes_downstream), "RFC 9110 §7.6.1"),
    Rule("keep-alive", Ends, "RFC 9110 §7.6.1"),
    Rule("proxy-connection", Ends, "RFC 9110 §7.6.1"),
    Rule("trailer", Ends, "RFC 9110 §6.6.2: trailers are not passed on"),
    Rule("upgrade", Ends, "RFC 9110 §7.8: what is on offer here is not what is there"),
    Rule("content-length", Instead(length_downstream), "RFC 9112 §6: framing"),
    Rule("transfer-encoding", Instead(coding_downstream), "RFC 9112 §6.1: framing, hop-by-hop"),
    Rule("via", OneMore(via_downstream), "RFC 9110 §7.6.3"),
    Rule("date", Whatever, "RFC 9110 §6.6.1: the library puts the time of its own there"),
];

/// Fields of interim answers.
const OF_HINTS: &[Rule] = &[Rule("via", OneMore(|_| "1.1 cambio"), "RFC 9110 §7.6.3")];

/// A case on its way.
pub struct Way<'a> {
    pub case: &'a Case,
    /// That of the listener.
    pub scheme: &'static str,
    /// Where it leads.
    pub upstream: SocketAddr,
}

impl Way<'_> {
    const fn request(&self) -> &Request {
        &self.case.request
    }

    /// The request line that arrives.
    pub fn request_line(&self) -> Vec<u8> {
        let request = self.request();
        // An origin server takes origin-form (RFC 9112 §3.2.1).
        let target = match request.target.windows(3).position(|window| window == b"://") {
            Some(at) if !matches!(request.target[0], b'/' | b'*') => {
                let from = at + 3 + request.host.as_ref().unwrap().len();
                &request.target[from..]
            }
            _ => &request.target[..],
        };
        [request.method.as_bytes(), b" ", target, b" HTTP/1.1"].concat()
    }

    /// What differs between the fields that were sent and those that arrived upstream.
    pub fn compare_request(&self, arrived: &Head) -> Vec<String> {
        let mut sent = self.request().fields.clone();
        if let Some(host) = self.request().host_bytes().filter(|_| self.is_http_2()) {
            sent.push(("host".into(), host));
        }
        self.compare(OF_REQUESTS, &sent, &arrived.fields)
    }

    pub fn compare_answer(&self, arrived: &Fields) -> Vec<String> {
        self.compare(OF_ANSWERS, &self.case.answer.fields, arrived)
    }

    pub fn compare_hint(&self, nth: usize, arrived: &Fields) -> Vec<String> {
        self.compare(OF_HINTS, &self.case.answer.hints[nth], arrived)
    }

    fn is_http_2(&self) -> bool {
        self.request().speech == Speech::Http2
    }

    /// Whether the connection of the client is kept after this case.
    pub fn keeps(&self) -> bool {
        let request = self.request();
        let said = request.sent("connection");
        // The library keeps that of HTTP/1.0 where it is asked to, and for nothing else.
        let is_asked = said.iter().any(|value| value.eq_ignore_ascii_case(b"keep-alive"));
        let is_told = !said.contains(&&b"close"[..]) && (!request.is_http_10 || is_asked);
        // To HTTP/1.0 the end of a body is told by a length or not at all; and the library closes
        // after a `100 Continue` that it has passed on.
        let is_bounded = !request.is_http_10
            || matches!(self.case.answer.framing, Framing::None | Framing::Length(_));
        is_told && is_bounded && expectation(self, &request.sent("expect")).is_none()
    }

    fn compare(&self, rules: &[Rule], sent: &Fields, arrived: &Fields) -> Vec<String> {
        let nominated = nominated(sent);
        let expected = grouped(sent);
        let mut arrived = grouped(arrived);
        let mut found = Vec::new();
        let mut names: Vec<String> = expected.keys().chain(arrived.keys()).cloned().collect();
        names.extend(rules.iter().map(|rule| rule.0.to_owned()).filter(|name| is_plain(name)));
        names.sort_unstable();
        names.dedup();
        for name in names {
            let own = expected.get(&name).map_or(&[][..], |own| &own[..]);
            let came = arrived.remove(&name).unwrap_or_default();
            let rule = rules.iter().find(|rule| rule.is_about(&name, &nominated));
            let values: Vec<&[u8]> = own.iter().map(|(_, value)| *value).collect();
            let plain: Vec<&[u8]> = came.iter().map(|(_, value)| *value).collect();
            let is_right = match rule.map(|rule| &rule.1) {
                None if self.is_http_2() => values == plain,
                Some(Joined) if self.is_http_2() && own.len() > 1 => {
                    plain == [&values.join(&b"; "[..])[..]]
                }
                // Names keep their case, where their version has one.
                None | Some(Joined) => own == came,
                Some(Ends) => came.is_empty(),
                Some(Instead(instead)) => {
                    let instead = instead(self, &values);
                    plain == instead.iter().map(Vec::as_slice).collect::<Vec<_>>()
                }
                Some(OneMore(more)) => plain == [&values[..], &[more(self).as_bytes()]].concat(),
                Some(Whatever) => came.len() == 1,
            };
            if !is_right {
                let show = |fields: &[(&str, &[u8])]| {
                    let one = |f: &(&str, &[u8])| format!("{}: {}", f.0, f.1.escape_ascii());
                    fields.iter().map(one).collect::<Vec<_>>().join(" | ")
                };
                let why = rule.map_or("no rule", |rule| rule.2);
                found.push(format!("{name} ({why}): sent [{}], came [{}]", show(own), show(&came)));
            }
        }
        found
    }
}

impl Rule {
    fn is_about(&self, name: &str, named: &[String]) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => name.replace('_', "-").starts_with(start),
            None if self.0.starts_with('(') => named.iter().any(|own| own == name),
            None => self.0 == name,
        }
    }
}

fn is_plain(name: &str) -> bool {
    !name.contains(['*', '('])
}

type Grouped<'a> = BTreeMap<String, Vec<(&'a str, &'a [u8])>>;

fn grouped(fields: &Fields) -> Grouped<'_> {
    fields.iter().fold(BTreeMap::new(), |mut all: Grouped, (name, value)| {
        all.entry(name.to_ascii_lowercase()).or_default().push((name, value));
        all
    })
}

fn nominated(fields: &Fields) -> Vec<String> {
    (fields.iter().filter(|f| f.0.eq_ignore_ascii_case("connection")))
        .flat_map(|(_, value)| value.split(|b| *b == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "close")
        .collect()
}

impl Request {
    pub fn host_bytes(&self) -> Option<Vec<u8>> {
        self.host.as_ref().map(|host| host.clone().into_bytes())
    }

    /// Whether the client waits before its body.
    pub fn expects(&self) -> bool {
        !self.sent("expect").is_empty()
    }

    fn sent(&self, name: &str) -> Vec<&[u8]> {
        super::transparency_wire::values(&self.fields, name)
    }

    fn is_bodiless(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "DELETE")
    }

    /// Whether it can't be told from the head that the body is empty.
    fn may_have_body(&self) -> bool {
        let is_empty = self.body.is_empty();
        !is_empty || (self.framing == Framing::Chunked && !self.is_read)
    }
}

/// An upstream that does not wait for a body, or expects none, may take it for the next request.
fn closes_upstream(way: &Way, _: &[&[u8]]) -> Option<Vec<u8>> {
    let request = way.request();
    let expects = expectation(way, &request.sent("expect")).is_some();
    let is_odd = request.is_bodiless() && request.may_have_body();
    if expects || is_odd { Some("close".into()) } else { None }
}

fn length_upstream(way: &Way, sent: &[&[u8]]) -> Option<Vec<u8>> {
    let request = way.request();
    let is_chunkless = request.framing == Framing::Chunked && !request.may_have_body();
    let is_dataless = way.is_http_2() && request.framing == Framing::None;
    let is_empty = request.body.is_empty();
    // Some servers insist on a length where there is no body.
    if is_chunkless || (is_dataless && is_empty && !request.is_bodiless()) {
        return Some("0".into());
    }
    sent.first().map(|length| length.to_vec())
}

fn coding_upstream(way: &Way, _: &[&[u8]]) -> Option<Vec<u8>> {
    let request = way.request();
    let is_chunked = match request.framing {
        Framing::Chunked => request.may_have_body(),
        // HTTP/2 needs no length.
        Framing::None => way.is_http_2() && !request.body.is_empty(),
        Framing::Length(_) | Framing::Close => false,
    };
    if is_chunked { Some("chunked".into()) } else { None }
}

fn expectation(way: &Way, sent: &[&[u8]]) -> Option<Vec<u8>> {
    sent.first().filter(|_| !way.request().is_read).map(|value| value.to_vec())
}

fn host(way: &Way, sent: &[&[u8]]) -> Option<Vec<u8>> {
    let said = way.request().host_bytes().or_else(|| sent.first().map(|host| host.to_vec()));
    // HTTP/1.0 may say nothing.
    said.or_else(|| Some(way.upstream.to_string().into_bytes()))
}

fn hops(way: &Way, sent: &[&[u8]]) -> Option<Vec<u8>> {
    let sent = std::str::from_utf8(sent.first()?).unwrap();
    let hops: u32 = sent.parse().unwrap();
    let is_counted = way.request().method == "OPTIONS";
    Some((if is_counted { hops - 1 } else { hops }).to_string().into_bytes())
}

fn via_upstream(way: &Way) -> &'static str {
    match (way.is_http_2(), way.request().is_http_10) {
        (true, _) => "2 cambio",
        (_, true) => "1.0 cambio",
        _ => "1.1 cambio",
    }
}

fn forwarded(way: &Way) -> Vec<u8> {
    let host = way.request().host.as_ref().map(|host| format!("host=\"{host}\";"));
    format!("for=127.0.0.1;{}proto={}", host.unwrap_or_default(), way.scheme).into_bytes()
}

fn closes_downstream(way: &Way, _: &[&[u8]]) -> Option<Vec<u8>> {
    match (way.is_http_2(), way.keeps()) {
        (true, _) => None,
        (_, true) => Some("keep-alive".into()),
        (_, false) => Some("close".into()),
    }
}

fn length_downstream(_: &Way, sent: &[&[u8]]) -> Option<Vec<u8>> {
    sent.first().map(|length| length.to_vec())
}

/// HTTP/1.0 knows no chunks, and HTTP/2 needs none.
fn coding_downstream(way: &Way, _: &[&[u8]]) -> Option<Vec<u8>> {
    let is_chunked = matches!(way.case.answer.framing, Framing::Chunked | Framing::Close);
    let is_known = !way.is_http_2() && !way.request().is_http_10;
    if is_chunked && is_known { Some("chunked".into()) } else { None }
}

fn via_downstream(way: &Way) -> &'static str {
    if way.case.answer.is_http_10 { "1.0 cambio" } else { "1.1 cambio" }
}
