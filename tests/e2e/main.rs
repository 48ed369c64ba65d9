//! What Cambio does on real sockets.

mod issuer;
mod keys;
mod leap;
mod setting;
