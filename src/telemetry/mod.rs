//! Metrics, audit events and logs.

pub mod audit;
mod labels;
pub mod log;
pub mod metrics;
mod series;
