//! Metrics, audit events and logs.
