//! Redis, with real servers.
