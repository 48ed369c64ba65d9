//! The real proxy on real sockets, with stand-ins on both sides.

mod proxy;
mod support;
