//! The reverse proxy, on pingora.
