//! A stand-in issuer and a stand-in identity provider, for `cambio dev` and the tests.
