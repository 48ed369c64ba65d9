//! What Cambio does on real sockets.

mod issuer;
mod keys;
mod keys_discovery;
mod keys_reload;
mod keys_source;
mod leap;
mod setting;
