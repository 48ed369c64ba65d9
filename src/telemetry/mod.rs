//! Metrics, audit events and logs.

pub mod audit;
pub mod log;
pub mod metrics;
