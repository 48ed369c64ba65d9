//! Whether the store can be asked, where the configuration needs one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Finding;
use super::front::Running;
use crate::config::profile::printable;
use crate::config::{Config, StoreSettings};
use crate::store;
use crate::telemetry::metrics::Metrics;

const CHECK: &str = "store";
/// For opening it, and for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn look(config: &Config, running: Option<&Running>) -> Vec<Finding> {
    if !config.needs_store() {
        return vec![Finding::ok(CHECK, "", "the configuration needs none")];
    }
    let mut findings = Vec::new();
    if let Some(state) = running.and_then(|running| running.store.as_ref()) {
        findings.push(if state.ok {
            Finding::ok(CHECK, "", "answers the Cambio that runs")
        } else {
            let why = state.last_error.as_deref().map(printable).unwrap_or_default();
            Finding::fault(
                CHECK,
                "",
                format!("does not answer the Cambio that runs: {why}"),
                "look into the log of Cambio, and at the store; what needs it gets 503",
            )
        });
    }
    findings.push(match &config.store {
        // It has a lock, which the process that runs holds as it should.
        StoreSettings::Embedded { folder } if running.is_some() => {
            let folder = folder.display();
            Finding::ok(CHECK, "", format!("{folder} is held by the Cambio that runs"))
        }
        StoreSettings::Embedded { folder } if !folder.exists() => {
            let folder = folder.display();
            Finding::ok(CHECK, "", format!("{folder} does not exist yet, and is made at the start"))
        }
        StoreSettings::Embedded { .. } | StoreSettings::Redis(_) => asked(config).await,
    });
    findings
}

/// Opened, asked, and closed.
async fn asked(config: &Config) -> Finding {
    let metrics = Arc::new(Metrics::new());
    let asking = async {
        let store = store::open(&config.store, &metrics, Duration::ZERO).await;
        let store = store.map_err(|error| error.to_string())?;
        let answer = store.ping().await.map_err(|error| error.to_string());
        store.close().await;
        answer
    };
    let answer = timeout(PATIENCE, asking).await;
    match answer.unwrap_or_else(|_| Err("it does not answer in time".to_owned())) {
        Ok(()) => Finding::ok(CHECK, "", "can be opened, and answers"),
        Err(why) => Finding::fault(
            CHECK,
            "",
            printable(&why),
            "correct `store`, or mend what is named; without it Cambio does not start",
        ),
    }
}
