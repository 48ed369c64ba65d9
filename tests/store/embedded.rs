//! The embedded store.

use std::sync::Arc;
use std::time::Duration;

use cambio::store::embedded::Embedded;

use super::suite;

#[tokio::test(flavor = "multi_thread")]
async fn it_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path(), Duration::ZERO).await.unwrap();
    suite::whole(Arc::new(store)).await;
}
