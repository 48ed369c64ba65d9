//! Prometheus metrics, with labels from closed sets only.

use std::time::Duration;

use crate::config::Config;
use crate::exchange::Record;
use crate::exchange::error::Refusal;

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {}

impl Metrics {
    pub fn new() -> Self {
        todo!()
    }

    /// Takes over the names of a configuration that is about to serve.
    pub fn configure(&self, config: &Config) {
        let _ = config;
        todo!()
    }

    /// Counts one exchange, however it ended.
    pub fn exchange(&self, record: &Record, refusal: Option<Refusal>, took: Duration) {
        let _ = (record, refusal, took);
        todo!()
    }

    /// Counts one answer of the upstream. `status` is `None` where it gave none.
    pub fn upstream(&self, method: &http::Method, status: Option<u16>, took: Duration) {
        let _ = (method, status, took);
        todo!()
    }

    /// Counts one attempt to reload the configuration.
    pub fn config_reload(&self, applied: bool) {
        let _ = applied;
        todo!()
    }
}
