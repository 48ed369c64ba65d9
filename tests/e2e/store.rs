//! When the store is opened, and where.

use std::sync::Arc;

use cambio::app::App;
use cambio::telemetry::metrics::Metrics;

use super::support::{Cambio, Upstream, folder, get, load};

/// Without the endpoints that look into the store.
const SERVER: &str = "authorization_server:\n  issuer: https://idp.example/oauth2/token\n  \
                      endpoints: { token: [/oauth2/token], jwks: /oauth2/jwks }\n";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const FILE: &str = "cambio.redb";

#[tokio::test]
async fn no_store_is_made_where_nothing_is_kept() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), SERVER).await;
    let state = cambio.folder.path().join("state");
    assert!(!state.exists());
    // An application that refreshes is a reason, and a reload is enough.
    let refreshing = format!(
        "{SERVER}applications:\n  - {{ client_id: phone, type: mobile, \
         allowed_grant_types: [\"{EXCHANGE}\", refresh_token] }}\n"
    );
    cambio.reload(&upstream.url(), &refreshing).await;
    assert!(state.join(FILE).is_file());
}

#[tokio::test]
async fn a_store_that_is_named_is_opened_there() {
    let upstream = Upstream::start().await;
    let named = format!("{SERVER}store: {{ embedded: {{ path: kept/here }} }}\n");
    let cambio = Cambio::start(&upstream.url(), &named).await;
    assert!(cambio.folder.path().join("kept/here").join(FILE).is_file());
    assert!(!cambio.folder.path().join("state").exists());
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_is_told_at_the_start_and_refuses_a_reload() {
    let upstream = Upstream::start().await;
    // No folder can lie in a file.
    let named = format!("{SERVER}store: {{ embedded: {{ path: signing.pem/state }} }}\n");
    let folder = folder();
    let config = load(folder.path(), &upstream.url(), &named);
    let refused = App::start(config, Arc::new(Metrics::new())).await.unwrap_err().to_string();
    let path = folder.path().join("signing.pem/state");
    assert!(refused.contains(path.to_str().unwrap()), "{refused}");
    assert!(refused.contains("can't be used as a store"), "{refused}");

    let cambio = Cambio::start(&upstream.url(), SERVER).await;
    let config = load(cambio.folder.path(), &upstream.url(), &named);
    let refused = cambio.running.reload(config).await.unwrap_err().to_string();
    assert!(refused.contains("can't be used as a store"), "{refused}");
    assert_eq!(cambio.request(get("/x", "")).await.status, 200);
}
