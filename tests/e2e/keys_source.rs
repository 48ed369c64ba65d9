//! Other people's servers: how they are asked, and what becomes of what they answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cambio::config::{Config, Endpoint, IssuerKeys, KeySource};
use cambio::dev::loopback::Reservation;
use cambio::exchange::error::Failure;
use cambio::jwt::sign::SigningKey;
use cambio::keys::{IssuerStatus, KeyRing, KeyState};
use cambio::telemetry::metrics::Metrics;
use http::{HeaderMap, Response};
use rcgen::{CertificateParams, DistinguishedName, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::issuer::{Content, Issuer, status, whole};
use crate::leap::{leap, until};
use crate::process::{Process, command};
use crate::setting::{config, endpoint, is_granted, issuer, jwks, key, pending};
use crate::support::{Connection, Upstream, folder, get, response, write};

/// A ring with one issuer, `partner`, after its first fetch.
async fn after_first_fetch(source: KeySource) -> (Config, KeyRing, IssuerStatus, String) {
    let config = config(vec![issuer("partner", source)]);
    let metrics = Arc::new(Metrics::new());
    metrics.configure(&config);
    let ring = KeyRing::new(&config, &metrics, None);
    until(|| ring.status()[0].state != KeyState::NeverFetched).await;
    let status = ring.status().remove(0);
    (config, ring, status, metrics.render())
}

fn member(key: &SigningKey) -> Value {
    serde_json::to_value(key.jwk()).unwrap()
}

#[tokio::test]
async fn the_request_says_what_it_wants_and_nothing_of_us() {
    let own = key("a");
    let set = jwks(&[&own]);
    let server = Issuer::start(move |_| {
        let mut answer = whole(set.clone());
        answer.headers_mut().insert("set-cookie", "seen=1".parse().unwrap());
        answer
    })
    .await;
    let (_, ring, ..) = after_first_fetch(endpoint(server.url("/jwks?tenant=1"))).await;
    leap(Duration::from_mins(5)).await;
    server.asked_times(2).await;
    let version = env!("CARGO_PKG_VERSION");
    for asked in server.asked() {
        let expected = [
            ("accept", "application/jwk-set+json, application/json".to_owned()),
            ("accept-encoding", "identity".to_owned()),
            ("host", server.address.to_string()),
            ("user-agent", format!("cambio/{version}")),
        ];
        let mut fields: Vec<_> = asked
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap().to_owned()))
            .collect();
        fields.sort();
        assert_eq!(fields, expected);
    }
    drop(ring);
}

/// Whoever sets the environment does not come to hear of what is asked, and can't answer it.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_not_asked() {
    let asked = Arc::new(Mutex::new(0));
    let (listener, count) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::clone(&asked));
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            *count.lock().unwrap() += 1;
        }
    });
    let own = key("a");
    let set = jwks(&[&own]);
    let other = set.clone();
    let server = Issuer::start(move |_| whole(set.clone())).await;
    let upstream = Upstream::answering(move |_| response("200 OK", &[], other.as_bytes())).await;
    let folder = folder();
    let lines = format!(
        "authorization_server:\n  issuer: https://idp.example/oauth2/token\n  overlay: true\n  \
         endpoints: {{ token: [/oauth2/token], jwks: /oauth2/jwks }}\n\
         trusted_token_issuers:\n  - name: partner\n    issuer: https://partner.example\n    \
         jwks_endpoint: {}\n",
        server.url("/jwks")
    );
    let config = write(folder.path(), &upstream.url(), &lines);
    let mut serving = command(folder.path(), &["serve", "--config", config.to_str().unwrap()]);
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        serving.env(name, &proxy).env(name.to_uppercase(), &proxy);
    }
    for name in ["no_proxy", "NO_PROXY", "REQUEST_METHOD"] {
        serving.env_remove(name);
    }
    let process = Process::of(serving.spawn().unwrap()).await;
    // An issuer's keys, the upstream's document, and a request that passes.
    server.asked_times(1).await;
    for path in ["/oauth2/jwks", "/x"] {
        let answer = Connection::open(process.address).await.request(get(path, "")).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    assert!(upstream.requests().len() >= 2);
    assert_eq!(*asked.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_token_for_the_endpoint_is_sent_as_a_bearer_token() {
    let own = key("a");
    let set = jwks(&[&own]);
    let server = Issuer::start(move |_| whole(set.clone())).await;
    let source = KeySource::Endpoint(Endpoint {
        url: server.url("/jwks"),
        ca: None,
        bearer_token: Some("canary-service-account".into()),
    });
    let (_, _, status, metrics) = after_first_fetch(source).await;
    assert_eq!(status.state, KeyState::Fresh);
    assert_eq!(server.asked()[0].headers["authorization"], "Bearer canary-service-account");
    assert!(!format!("{status:?}{metrics}").contains("canary-service-account"));
}

/// What a server answers, and the words for it.
type Case = (Box<dyn Fn() -> Response<Content> + Send + Sync>, &'static str);

fn bad_answers(elsewhere: &Issuer) -> Vec<Case> {
    let with = |name: &'static str, value: String, mut answer: Response<Content>| {
        answer.headers_mut().insert(name, value.parse().unwrap());
        answer
    };
    let set = jwks(&[&key("a")]);
    let gzip = set.clone();
    let many: Vec<_> = (0..101).map(|_| member(&key("a"))).collect();
    let many = json!({ "keys": many }).to_string();
    let twice = format!("{{\"keys\":[],{}", &set[1..]);
    let large = format!("{}{set}", " ".repeat(512 * 1024));
    let mut private = member(&key("a"));
    private["d"] = json!("AQ");
    let private = json!({ "keys": [private] }).to_string();
    let cut = Bytes::from(set[..20].to_owned());
    let location = elsewhere.url("/jwks").to_string();
    let not_a_set = "the document is not a JWK Set: a JSON object with an array `keys`";
    let too_large = "the document is larger than 524288 bytes";
    let no_key = "the set has no key that could verify a token";
    vec![
        (Box::new(|| status(500)), "the answer has status 500"),
        (Box::new(|| status(404)), "the answer has status 404"),
        (Box::new(|| status(204)), "the answer has status 204"),
        // Nothing was at hand that it could be the same as.
        (Box::new(|| status(304)), "the answer has status 304"),
        (
            Box::new(move || with("location", location.clone(), status(302))),
            "the answer is a redirect, which is not followed",
        ),
        (Box::new(|| whole("<html>Sign in</html>")), not_a_set),
        (Box::new(|| whole("")), not_a_set),
        (Box::new(|| whole("[]")), not_a_set),
        (Box::new(|| whole("{\"keys\":{}}")), not_a_set),
        (Box::new(move || whole(twice.clone())), not_a_set),
        (Box::new(|| whole("{\"keys\":[]}")), no_key),
        (Box::new(|| whole("{\"keys\":[{\"kty\":\"oct\",\"alg\":\"HS256\"}]}")), no_key),
        (
            Box::new(move || whole(private.clone())),
            "the set has private keys only: its issuer gives them away",
        ),
        (Box::new(move || whole(many.clone())), "the set has more than 100 keys"),
        (Box::new(move || whole(large.clone())), too_large),
        (
            Box::new(move || with("content-encoding", "gzip".to_owned(), whole(gzip.clone()))),
            "the answer has a content coding, which was not asked for",
        ),
        (
            Box::new(move || Response::new(Content::Breaks(Some(cut.clone())))),
            "the connection broke",
        ),
    ]
}

#[tokio::test]
async fn whatever_is_no_key_set_is_a_failed_fetch_and_is_told_in_our_own_words() {
    let elsewhere = Issuer::start(|_| whole(jwks(&[&key("a")]))).await;
    for (answer, words) in bad_answers(&elsewhere) {
        let server = Issuer::start(move |_| answer()).await;
        let (config, ring, status, metrics) = after_first_fetch(endpoint(server.url("/"))).await;
        assert_eq!(status.last_error.as_deref(), Some(words));
        assert_eq!((status.state, status.keys), (KeyState::Unavailable, 0), "{words}");
        assert!(
            metrics.contains("cambio_jwks_fetches_total{issuer=\"partner\",outcome=\"failed\"} 1")
        );
        let resolved = ring.resolve(&pending(&config, "partner", &key("a"))).await;
        assert_eq!(resolved.map(|_| ()), Err(Failure::KeysUnavailable), "{words}");
        assert_eq!(server.count(), 1, "{words}");
    }
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn a_body_without_end_is_cut_off_by_what_arrives() {
    let chunks = Arc::new(Mutex::new(0));
    let sent = Arc::clone(&chunks);
    let server = Issuer::start(move |_| Response::new(Content::Endless(Arc::clone(&sent)))).await;
    let (.., status, _) = after_first_fetch(endpoint(server.url("/"))).await;
    assert_eq!(status.last_error.unwrap(), "the document is larger than 524288 bytes");
    // What was on its way in the sockets' buffers is more than what was read.
    assert!(*chunks.lock().unwrap() < 1_000);
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let server = Issuer::start(|_| Response::new(Content::Stalls(Some("{".into())))).await;
    let config = config(vec![issuer("partner", endpoint(server.url("/")))]);
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    server.asked_times(1).await;
    leap(Duration::from_secs(5)).await;
    until(|| ring.status()[0].last_error.is_some()).await;
    assert_eq!(ring.status()[0].last_error.as_deref(), Some("no answer in time"));
}

#[tokio::test]
async fn nobody_listening_is_no_connection() {
    let held = Reservation::make().unwrap();
    let url = Url::parse(&format!("http://{}/jwks", held.address())).unwrap();
    let (.., status, _) = after_first_fetch(endpoint(url)).await;
    assert_eq!(status.last_error.unwrap(), "no connection");
}

#[tokio::test]
async fn keys_that_cannot_be_used_do_not_spoil_a_set() {
    let own = key("a");
    let mut private = member(&key("b"));
    private["d"] = json!("AQ");
    let mut encryption = member(&key("c"));
    encryption["use"] = json!("enc");
    let set = json!({ "keys": [
        5, {}, { "kty": "oct", "k": "AAAA" }, { "kty": "EC", "crv": "P-256K" },
        private, encryption, member(&own),
    ] });
    let body = set.to_string();
    let server = Issuer::start(move |_| {
        let mut answer = whole(body.clone());
        // The type matters less than what it is.
        answer.headers_mut().insert("content-type", "text/html".parse().unwrap());
        answer
    })
    .await;
    let (config, ring, status, _) = after_first_fetch(endpoint(server.url("/"))).await;
    assert_eq!((status.state, status.keys), (KeyState::Fresh, 1));
    let keys = ring.resolve(&pending(&config, "partner", &own)).await.unwrap();
    assert!(is_granted(&config, pending(&config, "partner", &own), &keys));
}

/// A certificate authority and a server certificate of its for `name`.
fn certificates(name: &str) -> (CertificateDer<'static>, TlsAcceptor) {
    certificates_with(name, |_| {})
}

fn certificates_with(
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> (CertificateDer<'static>, TlsAcceptor) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name = DistinguishedName::new();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&authority_key).unwrap();
    let authority = rcgen::Issuer::new(authority, authority_key);
    let server_key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut server);
    let server = server.signed_by(&server_key, &authority).unwrap();
    let private = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], private)
        .unwrap();
    (root.der().clone(), TlsAcceptor::from(Arc::new(tls)))
}

fn tls_endpoint(url: Url, ca: CertificateDer<'static>) -> KeySource {
    KeySource::Endpoint(Endpoint { url, ca: Some(vec![ca]), bearer_token: None })
}

#[tokio::test]
async fn tls_is_held_to_the_configured_roots_and_the_name() {
    let own = key("a");
    let (root, tls) = certificates("127.0.0.1");
    let (other_root, _) = certificates("127.0.0.1");
    let (wrong_name_root, wrong_name) = certificates("issuer.example");
    let set = jwks(&[&own]);
    let other_set = set.clone();
    let server = Issuer::start_tls(tls, move |_| whole(set.clone())).await;
    let misnamed = Issuer::start_tls(wrong_name, move |_| whole(other_set.clone())).await;
    let untrusted =
        "the TLS handshake failed: the certificate is not one to trust, or not for this host";

    let (.., status, _) = after_first_fetch(tls_endpoint(server.url("/"), root)).await;
    assert_eq!((status.state, status.last_error), (KeyState::Fresh, None));
    for (url, ca) in [(server.url("/"), other_root), (misnamed.url("/"), wrong_name_root)] {
        let (.., status, _) = after_first_fetch(tls_endpoint(url, ca)).await;
        assert_eq!(status.last_error.as_deref(), Some(untrusted));
    }
    assert_eq!((server.count(), misnamed.count()), (1, 0));
}

/// RFC 5280 §4.1.2.5.
#[tokio::test]
async fn a_certificate_out_of_its_time_is_none() {
    let set = jwks(&[&key("a")]);
    let years: [(i32, i32, bool); 3] =
        [(2020, 2090, true), (2020, 2021, false), (2080, 2090, false)];
    for (from, to, is_good) in years {
        let (root, tls) = certificates_with("127.0.0.1", |server| {
            server.not_before = rcgen::date_time_ymd(from, 1, 1);
            server.not_after = rcgen::date_time_ymd(to, 1, 1);
        });
        let set = set.clone();
        let server = Issuer::start_tls(tls, move |_| whole(set.clone())).await;
        let (.., status, _) = after_first_fetch(tls_endpoint(server.url("/"), root)).await;
        let state = if is_good { KeyState::Fresh } else { KeyState::Unavailable };
        assert_eq!(status.state, state, "{from} to {to}");
        assert_eq!(status.last_error.is_some_and(|error| error.contains("TLS")), !is_good);
        assert_eq!(server.count(), usize::from(is_good));
    }
}

#[tokio::test]
async fn a_redirect_from_tls_to_plain_http_is_not_followed_either() {
    let (root, tls) = certificates("127.0.0.1");
    let plain = Issuer::start(|_| whole(jwks(&[&key("a")]))).await;
    let location: http::HeaderValue = plain.url("/").as_str().parse().unwrap();
    let server = Issuer::start_tls(tls, move |_| {
        let mut answer = status(307);
        *answer.headers_mut() = HeaderMap::from_iter([(http::header::LOCATION, location.clone())]);
        answer
    })
    .await;
    let (.., status, _) = after_first_fetch(tls_endpoint(server.url("/"), root)).await;
    assert_eq!(status.last_error.unwrap(), "the answer is a redirect, which is not followed");
    assert_eq!(plain.count(), 0);
}

#[tokio::test]
async fn each_set_of_roots_is_for_its_own_issuers_alone() {
    let own = key("a");
    let (one_root, one_tls) = certificates("127.0.0.1");
    let (two_root, two_tls) = certificates("127.0.0.1");
    let set = jwks(&[&own]);
    let other = set.clone();
    let one = Issuer::start_tls(one_tls, move |_| whole(set.clone())).await;
    let two = Issuer::start_tls(two_tls, move |_| whole(other.clone())).await;
    let sources: [(&str, Url, &CertificateDer<'static>); 4] = [
        ("one", one.url("/"), &one_root),
        ("two", two.url("/"), &two_root),
        ("one-by-two", one.url("/"), &two_root),
        ("two-by-one", two.url("/"), &one_root),
    ];
    let issuers: Vec<IssuerKeys> = sources
        .into_iter()
        .map(|(name, url, root)| issuer(name, tls_endpoint(url, root.clone())))
        .collect();
    let config = config(issuers);
    let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    until(|| ring.status().iter().all(|status| status.state != KeyState::NeverFetched)).await;
    let states: Vec<_> = ring.status().into_iter().map(|status| status.state).collect();
    let dead = KeyState::Unavailable;
    assert_eq!(states, [KeyState::Fresh, KeyState::Fresh, dead, dead]);
}
