//! HTTP/2 becomes HTTP/1.1 on its way to the upstream: whatever stands in fields and pseudo-header
//! fields, what reaches the upstream is one well-formed request or nothing.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, LISTEN};
use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Ended, Frames, HEADERS, block, frame,
};
use super::leap::{leap, settle, until};
use super::load::is_exhaustive;
use super::strict::Recorder;
use super::support::{Cambio, Connection, PATIENCE, Upstream, folder, get, load};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone, Debug)]
struct Case {
    name: String,
    fields: Fields,
    body: Option<Vec<u8>>,
    trailers: Option<Fields>,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Served,
    Refused,
    /// What is wrong shows only after the header section, which is on its way by then.
    OneOrNothing,
}

fn fields(own: &[(&str, &str)]) -> Fields {
    own.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// A request as it should be.
fn sound(method: &str, path: &str) -> Fields {
    fields(&[
        (":method", method),
        (":scheme", "https"),
        (":authority", "idp.example"),
        (":path", path),
    ])
}

fn cases(path: &str) -> Vec<Case> {
    let form = ("content-type", "application/x-www-form-urlencoded");
    let mut cases = Vec::new();
    let mut add = |name: &str, fields: Fields, body: Option<&[u8]>, is_served| {
        let (name, body) = (name.to_owned(), body.map(<[u8]>::to_vec));
        let outcome = if is_served { Outcome::Served } else { Outcome::Refused };
        cases.push(Case { name, fields, body, trailers: None, outcome });
    };
    let post =
        |more: &[(&str, &str)]| [sound("POST", path), fields(&[form]), fields(more)].concat();
    add("sound", sound("GET", path), None, true);
    add("sound with a body", post(&[]), Some(b"a=b"), true);
    add("sound with a length", post(&[("content-length", "3")]), Some(b"a=b"), true);

    // Bytes that end a line, or a name.
    for bad in ["\r\n", "\n", "\r", "\0"] {
        let smuggled = format!("y{bad}X-Smuggled: 1{bad}{bad}GET /smuggled HTTP/1.1{bad}");
        for name in ["x-own", "cookie", "user-agent", ":path", ":authority", ":method", ":scheme"] {
            let mut all = sound("GET", path);
            match all.iter_mut().find(|(own, _)| own == name.as_bytes()) {
                Some((_, value)) => value.extend_from_slice(smuggled.as_bytes()),
                None => all.extend(fields(&[(name, &smuggled)])),
            }
            add(&format!("{name} with {}", bad.escape_debug()), all, None, false);
        }
        let name = format!("x{bad}x-smuggled: 1{bad}y");
        add("a name with it", [sound("GET", path), fields(&[(&name, "1")])].concat(), None, false);
    }
    for name in ["x:y", "x y", "X-Own", "", "x\t", "x\u{e4}", ":x", ":status", "x\x7f", "(x)"] {
        add(name, [sound("GET", path), fields(&[(name, "1")])].concat(), None, false);
    }
    // Fields of one connection (RFC 9113 §8.2.2), and framing.
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("transfer_encoding", "chunked"),
        ("content_length", "3"),
        ("connection", "close"),
        ("connection", "authorization"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
        ("host", "other.example"),
        ("content-length", "2"),
        ("content-length", "4"),
        ("content-length", "+3"),
        ("content-length", "3,3"),
        ("content-length", "3, 4"),
        ("content-length", "0x3"),
        ("content-length", ""),
        ("content-length", "-1"),
        ("content-length", "18446744073709551619"),
    ] {
        add(&format!("{name}: {value}"), post(&[(name, value)]), Some(b"a=b"), false);
    }
    for twice in [("3", "3"), ("3", "4"), ("0", "3")] {
        let both = post(&[("content-length", twice.0), ("content-length", twice.1)]);
        add("two lengths", both, Some(b"a=b"), false);
    }
    add("a length and no body", post(&[("content-length", "3")]), None, false);
    add("te: trailers", post(&[("te", "trailers")]), Some(b"a=b"), true);
    add("expect", post(&[("expect", "100-continue")]), Some(b"a=b"), true);
    add("the same host", post(&[("host", "idp.example")]), Some(b"a=b"), true);
    add(
        "two hosts",
        post(&[("host", "idp.example"), ("host", "idp.example")]),
        Some(b"a=b"),
        false,
    );

    // Pseudo-header fields (RFC 9113 §8.3.1).
    let with = |name: &str, value: Option<&str>| {
        let mut all = sound("GET", path);
        match value {
            Some(value) => {
                let own = all.iter_mut().find(|(own, _)| own == name.as_bytes()).unwrap();
                own.1 = value.as_bytes().to_vec();
            }
            None => all.retain(|(own, _)| own != name.as_bytes()),
        }
        all
    };
    let spaced = format!("{path} HTTP/1.1");
    for target in [
        &spaced[..],
        "",
        "*",
        "x",
        "/\t",
        " /",
        "http://other.example/",
        "https://idp.example/x",
        "/<x>",
        "/\x7f",
        "/\u{1}",
    ] {
        add(&format!(":path {target:?}"), with(":path", Some(target)), None, false);
    }
    for method in
        ["GET /smuggled HTTP/1.1\r\n", "GET ", " GET", "", "G:T", "G\0T", "TRACE", "CONNECT"]
    {
        add(&format!(":method {method:?}"), with(":method", Some(method)), None, false);
    }
    for authority in
        ["", "a b", "a/b", "u@idp.example", "a\\b", "a,b", "a\t", "a#b", "a?b", "[", "a:b:c"]
    {
        add(&format!(":authority {authority:?}"), with(":authority", Some(authority)), None, false);
    }
    for scheme in ["ht tp", "https://x", "https:"] {
        add(&format!(":scheme {scheme:?}"), with(":scheme", Some(scheme)), None, false);
    }
    for name in [":method", ":path", ":scheme"] {
        add(&format!("no {name}"), with(name, None), None, false);
    }
    add("no authority at all", with(":authority", None), None, false);
    for (name, value) in
        [(":method", "GET"), (":path", "/y"), (":authority", "b"), (":scheme", "http")]
    {
        add(
            &format!("{name} twice"),
            [sound("GET", path), fields(&[(name, value)])].concat(),
            None,
            false,
        );
        let mut late = with(name, None);
        late.extend(fields(&[("x-own", "1"), (name, value)]));
        add(&format!("{name} after a field"), late, None, false);
    }
    // RFC 8441, which is not offered.
    let extended =
        [with(":method", Some("CONNECT")), fields(&[(":protocol", "websocket")])].concat();
    add("extended CONNECT", extended, None, false);
    add(
        ":protocol",
        [sound("GET", path), fields(&[(":protocol", "websocket")])].concat(),
        None,
        false,
    );

    cases.push(Case {
        name: "a body beyond its length of nothing".to_owned(),
        fields: post(&[("content-length", "0")]),
        body: Some(b"a=b".to_vec()),
        trailers: None,
        outcome: Outcome::OneOrNothing,
    });
    // Trailers are no fields, and no framing.
    for (trailer, is_served) in [
        (("x-own", "1"), true),
        ((":path", "/smuggled"), false),
        (("transfer-encoding", "chunked"), false),
        (("x\r\n", "1"), false),
        (("x-own", "1\r\nX-Smuggled: 1"), false),
    ] {
        cases.push(Case {
            name: format!("trailer {trailer:?}"),
            fields: post(&[]),
            body: Some(b"a=b".to_vec()),
            trailers: Some(fields(&[trailer])),
            outcome: if is_served { Outcome::Served } else { Outcome::OneOrNothing },
        });
    }
    cases
}

/// The frames of a case. `is_split` puts a border of frames into the header section.
fn frames(case: &Case, is_split: bool) -> Vec<u8> {
    let of = |fields: &Fields| {
        block(&fields.iter().map(|(name, value)| (&name[..], &value[..])).collect::<Vec<_>>())
    };
    let own = of(&case.fields);
    let end = if case.body.is_none() { END_STREAM } else { 0 };
    let mut all = if is_split {
        let (start, rest) = own.split_at(own.len() / 2);
        [frame(HEADERS, end, 1, start), frame(CONTINUATION, END_HEADERS, 1, rest)].concat()
    } else {
        frame(HEADERS, END_HEADERS | end, 1, &own)
    };
    if let Some(body) = &case.body {
        let end = if case.trailers.is_none() { END_STREAM } else { 0 };
        all.extend(frame(DATA, end, 1, body));
    }
    if let Some(trailers) = &case.trailers {
        all.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &of(trailers)));
    }
    all
}

async fn connect(cambio: &Cambio, authority: &Authority, alpn: &[u8]) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(cambio.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    authority.connector(&[alpn]).connect(name, stream).await.unwrap()
}

async fn start(upstream: &str) -> (Cambio, Authority) {
    let folder = folder();
    let authority = Authority::new();
    authority.write_leaf(folder.path());
    let quick = "limits: { header_timeout: 5s, body_timeout: 300ms }\n";
    let config = load(folder.path(), upstream, &format!("{LISTEN}{quick}"));
    let metrics = Arc::new(cambio::telemetry::metrics::Metrics::new());
    let running = cambio::app::App::start(config, metrics).await.unwrap();
    (Cambio { running, folder }, authority)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_the_upstream_is_one_well_formed_request_or_nothing() {
    let _alone = super::load::alone().await;
    let (mut sent, mut served, mut open) = (0, 0, Vec::new());
    for path in ["/x", "/oauth2/token"] {
        for is_kept in [true, false] {
            let recorder = Recorder::start(is_kept).await;
            let (cambio, authority) = start(&format!("http://{}", recorder.address)).await;
            let mut victim = Connection::over(connect(&cambio, &authority, b"http/1.1").await);
            for (nth, case) in cases(path).into_iter().enumerate() {
                for is_split in [false, true] {
                    // `make abuse` sends all of them all ways.
                    let way = usize::from(is_kept) * 2 + usize::from(is_split);
                    if nth % 4 != way && !is_exhaustive() {
                        continue;
                    }
                    let name = format!("{} to {path}: {}", case.name, case_text(&case));
                    let stream = connect(&cambio, &authority, b"h2").await;
                    let mut client = Frames::open(stream, 65_535).await.unwrap();
                    client.send(frames(&case, is_split)).await.unwrap();
                    let ended = timeout(PATIENCE, client.ended(&[1])).await;
                    let ended = ended.unwrap_or_else(|_| panic!("no end: {name}"))[&1];
                    drop(client);
                    // Until all that came of it has come: the victim's connection is left.
                    while cambio.running.connections() > 1 {
                        tokio::task::yield_now().await;
                    }
                    sent += 1;
                    let is_served = ended == Ended::Answered(200);
                    served += usize::from(is_served);
                    let target = format!("/victim-{sent}");
                    let mine = victim.request(get(&target, "")).await;
                    assert_eq!((mine.status, mine.text()), (200, &*target), "{name}");
                    let (mine, arrived): (Vec<_>, Vec<_>) =
                        recorder.take().into_iter().partition(|request| request.target == target);
                    assert_eq!(mine.len(), 1, "{name}");
                    assert!(arrived.len() <= 1, "{name}: {arrived:#?}");
                    assert_eq!(recorder.faults(), Vec::<String>::new(), "{name}");
                    if path == "/oauth2/token" {
                        assert_eq!(recorder.rests(), Vec::<String>::new(), "{name}");
                    }
                    for request in &arrived {
                        assert_eq!(request.target, path, "{name}");
                        let body = case.body.as_deref().unwrap_or_default();
                        let is_cut = case.outcome == Outcome::OneOrNothing;
                        assert!(
                            request.body == body || is_cut && request.body.is_empty(),
                            "{name}"
                        );
                        assert!(request.all("x-smuggled").is_empty(), "{name}");
                        assert_eq!(request.all("host"), ["idp.example"], "{name}");
                        for gone in ["te", "upgrade", "keep-alive", "proxy-connection"] {
                            assert!(request.all(gone).is_empty(), "{name}: {request:#?}");
                        }
                    }
                    match case.outcome {
                        Outcome::Served => {
                            assert!(is_served && arrived.len() == 1, "{name}: {ended:?}");
                        }
                        Outcome::Refused if is_served || !arrived.is_empty() => {
                            open.push(format!("{name}: {ended:?} {arrived:?}"));
                        }
                        Outcome::Refused | Outcome::OneOrNothing => {}
                    }
                }
            }
        }
    }
    let told = format!("downgrade: {sent} sent, {served} served as one well-formed request");
    writeln!(std::io::stderr(), "{told}").unwrap();
    assert!(open.is_empty(), "served, and should not be: {open:#?}");
    assert!(sent > 200 && served > 10, "{told}");
}

fn case_text(case: &Case) -> String {
    let fields = case.fields.iter().chain(case.trailers.iter().flatten());
    let text = |(name, value): &(Vec<u8>, Vec<u8>)| {
        format!("{}={}", name.escape_ascii(), value.escape_ascii())
    };
    fields.map(text).collect::<Vec<_>>().join(" ")
}

/// What the library makes of the end must not be the beginning of the next request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_ends_in_an_empty_frame_ends_once() {
    let recorder = Recorder::start(true).await;
    let (cambio, authority) = start(&format!("http://{}", recorder.address)).await;
    let mut victim = Connection::over(connect(&cambio, &authority, b"http/1.1").await);
    let mut sent = 0;
    let bodies: [(&[&[u8]], &[u8]); 4] =
        [(&[b"a=b"], b"a=b"), (&[], b""), (&[b"a", b"", b"=b"], b"a=b"), (&[b"", b""], b"")];
    for path in ["/x", "/oauth2/jwks", "/oauth2/token"] {
        for (pieces, whole) in bodies {
            for length in [None, Some(whole.len().to_string())] {
                let mut all = sound("POST", path);
                all.extend(fields(&[("content-type", "application/x-www-form-urlencoded")]));
                all.extend(length.map(|length| (b"content-length".to_vec(), length.into_bytes())));
                let head: Vec<_> = all.iter().map(|(n, v)| (&n[..], &v[..])).collect();
                let mut frames = frame(HEADERS, END_HEADERS, 1, &block(&head));
                for piece in pieces {
                    frames.extend(frame(DATA, 0, 1, piece));
                }
                frames.extend(frame(DATA, END_STREAM, 1, b""));
                let name = format!("{path} {pieces:?} {all:?}");
                let stream = connect(&cambio, &authority, b"h2").await;
                let mut client = Frames::open(stream, 65_535).await.unwrap();
                client.send(frames).await.unwrap();
                let ended = timeout(PATIENCE, client.ended(&[1])).await.expect("no end")[&1];
                assert_eq!(ended, Ended::Answered(200), "{name}");
                drop(client);
                while cambio.running.connections() > 1 {
                    tokio::task::yield_now().await;
                }
                sent += 1;
                let target = format!("/victim-{sent}");
                let mine = victim.request(get(&target, "")).await;
                assert_eq!((mine.status, mine.text()), (200, &*target), "{name}");
                let seen = recorder.take();
                let seen: Vec<_> =
                    seen.iter().map(|request| (&*request.target, &request.body[..])).collect();
                assert_eq!(seen, [(path, whole), (&*target, b"")], "{name}");
                assert_eq!(recorder.faults(), Vec::<String>::new(), "{name}");
                assert_eq!(recorder.rests(), Vec::<String>::new(), "{name}");
            }
        }
    }
}

/// A body that stops in its middle, or a stream that is reset there.
#[tokio::test]
async fn nothing_reaches_the_upstream_of_a_token_request_that_is_not_whole() {
    let recorder = Recorder::start(true).await;
    let (cambio, authority) = start(&format!("http://{}", recorder.address)).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let all = [sound("POST", "/oauth2/token"), fields(&form)].concat();
    let case = Case {
        name: String::new(),
        fields: all,
        body: None,
        trailers: None,
        outcome: Outcome::Served,
    };
    let head = block(&case.fields.iter().map(|(n, v)| (&n[..], &v[..])).collect::<Vec<_>>());
    let start = [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, 0, 1, b"grant_")].concat();
    let reset = frame(super::frames::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let goaway = frame(super::frames::GOAWAY, 0, 0, &[0; 8]);
    for (end, expected) in [(Vec::new(), Some(Ended::Answered(408))), (reset, None), (goaway, None)]
    {
        let mut client =
            Frames::open(connect(&cambio, &authority, b"h2").await, 65_535).await.unwrap();
        client.send([&start[..], &end].concat()).await.unwrap();
        if let Some(expected) = expected {
            let ended = timeout(PATIENCE, client.ended(&[1])).await.expect("no answer");
            assert_eq!(ended[&1], expected);
        }
        drop(client);
        while cambio.running.connections() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((recorder.take(), recorder.rests()), (Vec::new(), Vec::new()));
    }
}

/// Not even an answer that nobody has to be asked for is kept for ever.
#[tokio::test]
async fn answers_without_a_window_are_given_up() {
    let recorder = Recorder::start(true).await;
    let (cambio, authority) = start(&format!("http://{}", recorder.address)).await;
    let stream = connect(&cambio, &authority, b"h2").await;
    let mut client = Frames::open(stream, 0).await.unwrap();
    // One that is refused for its form, two for their method, and one that is answered.
    let requests = [
        [sound("GET", "/x"), fields(&[("content_length", "1")])].concat(),
        sound("TRACE", "/x"),
        sound("TRACE", "/oauth2/token"),
        sound("GET", "/x"),
    ];
    for (stream, all) in [1, 3, 5, 7].into_iter().zip(&requests) {
        let head: Vec<_> = all.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&head))).await.unwrap();
    }
    let mut heads = 0;
    while heads < requests.len() {
        let frame = timeout(PATIENCE, client.next()).await.unwrap().unwrap();
        if frame.kind == HEADERS {
            assert_eq!(frame.flags & END_STREAM, 0);
            heads += 1;
        }
    }
    assert_eq!(cambio.running.connections(), requests.len());
    // A minute by the library's own clock, which no test can move.
    let ended = timeout(Duration::from_secs(90), client.ended(&[1, 3, 5, 7])).await.unwrap();
    assert!(ended.values().all(|ended| *ended == Ended::Reset), "{ended:?}");
    while cambio.running.connections() > 1 {
        tokio::task::yield_now().await;
    }
}

/// Where the answer came early, nobody waits for the rest of the body for ever.
#[tokio::test]
async fn a_body_that_does_not_come_ends_its_request() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (cambio, authority) = start(&format!("http://{}", upstream.local_addr().unwrap())).await;
    // Two of its connections are answered, and one is not.
    let answering = tokio::spawn(async move {
        let mut open = Vec::new();
        for is_answered in [true, true, false] {
            let (mut stream, _) = upstream.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
            }
            if is_answered {
                let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
                stream.write_all(answer).await.unwrap();
            }
            open.push(stream);
        }
        open
    });
    let stream = connect(&cambio, &authority, b"h2").await;
    let mut client = Frames::open(stream, 65_535).await.unwrap();
    let all = sound("POST", "/x");
    let head: Vec<_> = all.iter().map(|(n, v)| (&n[..], &v[..])).collect();
    for stream in [1, 3] {
        client.send(frame(HEADERS, END_HEADERS, stream, &block(&head))).await.unwrap();
        let ended = timeout(PATIENCE, client.ended(&[stream])).await.expect("no answer");
        assert_eq!(ended[&stream], Ended::Answered(404));
    }
    client.send(frame(HEADERS, END_HEADERS, 5, &block(&head))).await.unwrap();
    let _open = timeout(PATIENCE, answering).await.unwrap().unwrap();
    assert_eq!(cambio.running.connections(), 3);
    // The clock goes on while the machine is busy: not so far that a minute could be over.
    leap(Duration::from_secs(40)).await;
    settle().await;
    assert_eq!(cambio.running.connections(), 3);
    // One that goes on is none of them.
    client.send(frame(DATA, 0, 1, b"more")).await.unwrap();
    settle().await;
    leap(Duration::from_secs(21)).await;
    let reset = timeout(PATIENCE, client.ended(&[5])).await.unwrap();
    assert_eq!(reset[&5], Ended::Reset);
    until(|| cambio.running.connections() == 1).await;
    settle().await;
    assert_eq!(cambio.running.connections(), 1);
    // It ends, too; and then its connection, on which nothing goes on any more.
    for _ in 0..2 {
        leap(Duration::from_secs(61)).await;
        settle().await;
    }
    until(|| cambio.running.connections() == 0).await;
}

/// HTTP/2 knows interim answers, and the library does not: they end here.
#[tokio::test]
async fn interim_answers_of_the_upstream_are_not_taken_for_the_answer() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    })
    .await;
    let (cambio, authority) = start(&upstream.url()).await;
    let mut client = Frames::open(connect(&cambio, &authority, b"h2").await, 65_535).await.unwrap();
    for stream in [1, 3] {
        let all = sound("GET", "/x");
        let all: Vec<_> = all.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&all))).await.unwrap();
        let ended = timeout(PATIENCE, client.ended(&[stream])).await.expect("no answer");
        assert_eq!(ended[&stream], Ended::Answered(200));
    }
    assert_eq!(upstream.requests().len(), 2);
}

/// HTTP/2 comes by ALPN alone.
#[tokio::test]
async fn http_2_is_not_spoken_without_tls() {
    let recorder = Recorder::start(true).await;
    let cambio = Cambio::start(&format!("http://{}", recorder.address), "").await;
    let upgrade = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    let mut connection = cambio.connect().await;
    let answer = connection.request(upgrade).await;
    assert_eq!((answer.status, answer.text()), (200, "/x"));
    let seen = recorder.take();
    for gone in ["upgrade", "http2-settings", "connection"] {
        assert!(seen[0].all(gone).is_empty(), "{gone}: {seen:#?}");
    }
    let mut known = cambio.connect().await;
    assert_eq!(known.request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.status, 505);
    assert!(known.is_closed().await);
    assert!(recorder.take().is_empty());
}
