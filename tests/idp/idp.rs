//! The identity providers, each by what is true of it.

use crate::glewlwyd::Glewlwyd;
use crate::provider::Provider;

/// Where an identity provider has what, and three of its clients, whose secrets are their names with
/// `-secret-at-the-idp`.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where it listens.
    pub origin: String,
    pub issuer: String,
    pub token: &'static str,
    pub jwks: &'static str,
    pub metadata: &'static str,
    pub introspection: &'static str,
    pub revocation: &'static str,
    /// It exchanges tokens here.
    pub application: &'static str,
    /// It exchanges tokens, too, and sends its secret in the body.
    pub by_post: &'static str,
    /// It is told about tokens that are for [`crate::stage::AUDIENCE`].
    pub resource_server: &'static str,
    /// It is told about tokens that are for itself.
    pub stranger: &'static str,
    /// What the identity provider's own tokens are for.
    pub audience: &'static str,
}

/// Of one of the identity provider's clients.
pub fn secret(client: &str) -> String {
    format!("{client}-secret-at-the-idp")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Glewlwyd,
    OidcProvider,
    /// With opaque access tokens. With others it introspects and revokes nothing that looks like a JWT.
    OidcProviderOpaque,
}

/// A running identity provider.
pub enum Idp {
    Glewlwyd(Glewlwyd),
    OidcProvider(Provider),
}

impl Idp {
    /// Whoever calls it knows it as `public`.
    pub async fn start(kind: Kind, public: &str) -> Self {
        match kind {
            Kind::Glewlwyd => Self::Glewlwyd(Glewlwyd::start(public).await),
            Kind::OidcProvider => Self::OidcProvider(Provider::start(public)),
            Kind::OidcProviderOpaque => {
                Self::OidcProvider(Provider::start_with_opaque_tokens(public))
            }
        }
    }

    pub fn facts(&self) -> &Facts {
        match self {
            Self::Glewlwyd(glewlwyd) => glewlwyd.facts(),
            Self::OidcProvider(provider) => provider.facts(),
        }
    }

    /// Nobody listens on its port any more.
    pub fn go_down(&mut self) {
        match self {
            Self::Glewlwyd(glewlwyd) => glewlwyd.go_down(),
            Self::OidcProvider(provider) => provider.go_down(),
        }
    }

    /// It listens again on the same port, and knows what it knew.
    pub async fn come_up(&mut self) {
        match self {
            Self::Glewlwyd(glewlwyd) => glewlwyd.come_up().await,
            Self::OidcProvider(provider) => provider.come_up(),
        }
    }
}
