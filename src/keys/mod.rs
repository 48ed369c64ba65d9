//! Keys: those of other people, fetched and cached.

use std::sync::Arc;

use crate::config::Config;
use crate::exchange::Pending;
use crate::exchange::error::Failure;
use crate::jwt::key_set::KeySet;
use crate::telemetry::metrics::Metrics;

/// The keys of every trusted token issuer of one configuration.
#[derive(Debug)]
pub struct KeyRing {}

impl KeyRing {
    /// Begins to fetch in the background. What `previous` has fetched from an equal source is taken
    /// over.
    pub fn new(config: &Config, metrics: &Arc<Metrics>, previous: Option<&Self>) -> Self {
        let _ = (config, metrics, previous);
        todo!()
    }

    /// The keys to verify a pending exchange with: those at hand, or fresher ones where those at
    /// hand have none that fits.
    pub async fn resolve(&self, pending: &Pending) -> Result<Arc<KeySet>, Failure> {
        let _ = pending;
        todo!()
    }
}
