//! A new configuration takes the place of the old one while requests go on.

use super::support::{Cambio, Connection, Upstream, get, post};

const OTHER_TOKEN_PATH: &str = "authorization_server:\n  issuer: https://idp.example/oauth2/token\n  \
                                endpoints: { token: [/other/token], jwks: /oauth2/jwks }\n";
const EXCHANGE: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x";

#[tokio::test]
async fn the_next_request_sees_the_new_configuration_on_the_same_connection() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let mut connection = cambio.connect().await;
    assert_eq!(connection.request(post("/oauth2/token", "", EXCHANGE)).await.status, 401);
    assert_eq!(connection.request(post("/other/token", "", "a=b")).await.status, 200);
    cambio.reload(&upstream.url(), OTHER_TOKEN_PATH).await;
    assert_eq!(connection.request(post("/other/token", "", EXCHANGE)).await.status, 401);
    assert_eq!(connection.request(post("/oauth2/token", "", "a=b")).await.status, 200);
    assert_eq!(connection.request(get("/.well-known/openid-configuration", "")).await.text(), "ok");
}

#[tokio::test]
async fn another_upstream_gets_the_next_request() {
    let old = Upstream::start().await;
    let new = Upstream::start().await;
    let cambio = Cambio::start(&old.url(), "").await;
    let mut connection = cambio.connect().await;
    connection.request(get("/1", "")).await;
    cambio.reload(&new.url(), "").await;
    connection.request(get("/2", "")).await;
    assert_eq!(old.last().target(), "/1");
    assert_eq!(new.last().target(), "/2");
    assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_dropped_while_configurations_change() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let address = cambio.address();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                for _ in 0..100 {
                    assert_eq!(connection.request(get("/x", "")).await.status, 200);
                    let token = connection.request(post("/oauth2/token", "", "a=b")).await;
                    assert_eq!(token.status, 200);
                }
            })
        })
        .collect();
    for turn in 0..10 {
        cambio.reload(&upstream.url(), if turn % 2 == 0 { OTHER_TOKEN_PATH } else { "" }).await;
    }
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_stops_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let (asked, is_asked) = tokio::sync::oneshot::channel::<()>();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let once = std::sync::Mutex::new(Some((asked, may_go_on)));
    let upstream = Upstream::answering(move |_| {
        if let Some((asked, may_go_on)) = once.lock().unwrap().take() {
            asked.send(()).unwrap();
            // It blocks a thread of its own runtime.
            tokio::task::block_in_place(|| may_go_on.recv().unwrap());
        }
        super::support::response("200 OK", &[], b"late")
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    let upstream = runtime.spawn(upstream).await.unwrap();
    let cambio = Cambio::start(&upstream.url(), "").await;
    let address = cambio.address();
    let mut busy = cambio.connect().await;
    busy.send(get("/slow", "")).await;
    is_asked.await.unwrap();
    let mut idle = cambio.connect().await;
    assert_eq!(idle.request(get("/oauth2/jwks", "")).await.status, 200);
    let stopping = tokio::spawn(cambio.running.stop());
    assert!(idle.is_closed().await);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished());
    go_on.send(()).unwrap();
    let late = busy.receive().await.unwrap();
    assert_eq!((late.text(), late.header("connection")), ("late", Some("close")));
    assert!(stopping.await.unwrap());
    runtime.shutdown_background();
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let cambio = Cambio::start(&url, "limits: { drain_timeout: 200ms }\n").await;
    let mut busy = cambio.connect().await;
    busy.send(get("/never", "")).await;
    let _held = listener.accept().await.unwrap();
    assert!(!cambio.running.stop().await);
}
