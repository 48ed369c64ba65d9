//! Cambio in front of an identity provider that nobody here wrote, called by clients and believed by
//! resource servers that nobody here wrote.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

/// A test of its own for each function and each identity provider.
macro_rules! in_front_of_each {
    ($($test:ident),+ $(,)?) => {
        mod glewlwyd { crate::in_front_of_each!(@ Glewlwyd $($test)+); }
        mod oidc_provider { crate::in_front_of_each!(@ OidcProvider $($test)+); }
        mod oidc_provider_opaque { crate::in_front_of_each!(@ OidcProviderOpaque $($test)+); }
    };
    (@ $kind:ident $($test:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::idp::Kind::$kind).await;
            }
        )+
    };
}
pub(crate) use in_front_of_each;

mod algorithms;
mod answered;
mod apache;
mod clients;
mod credentials;
mod doctor;
mod documents;
mod estate;
mod flows;
mod glewlwyd;
mod idp;
mod inquiries;
mod layer;
mod login;
mod outage;
mod port;
mod process;
mod provider;
mod relying;
mod software;
mod stage;
