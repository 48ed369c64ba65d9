//! Logs: JSON lines on standard error.
