//! How the tokens of an application live, and what they are to others.

use std::time::Duration;

use super::{Check, given};
use crate::config::raw::{
    AccessToken, Application as RawApplication, Format, GrantType, Maybe, RefreshToken,
};
use crate::exchange::client::{AccessTokenSettings, Format as TokenFormat};
use crate::exchange::cut_off::LONGEST_LIFE;
use crate::exchange::family::RefreshTokenSettings;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// An answer that was lost is asked for again at once.
const LONGEST_GRACE: Duration = Duration::from_secs(10);

impl Check<'_> {
    /// `introspects` is whether there is an endpoint that says what an opaque token stands for.
    pub(super) fn access_token(
        &self,
        settings: &Maybe<AccessToken>,
        introspects: bool,
    ) -> AccessTokenSettings {
        let Some((_, settings)) = given(settings) else {
            return AccessTokenSettings {
                lifetime: HOUR,
                format: TokenFormat::Jwt,
                outlive_subject: false,
            };
        };
        let format = match given(&settings.format) {
            Some((node, Format::Opaque)) => {
                if !introspects {
                    self.warn(
                        node,
                        "nobody can learn what an opaque token stands for: add \
                         `authorization_server.endpoints.introspection`",
                    );
                }
                TokenFormat::Opaque
            }
            Some((_, Format::Jwt)) | None => TokenFormat::Jwt,
        };
        AccessTokenSettings {
            lifetime: self.duration(&settings.lifetime, HOUR, SECOND..=DAY),
            format,
            outlive_subject: given(&settings.outlive_subject).is_some_and(|(_, lifted)| *lifted),
        }
    }

    pub(super) fn refresh_token(&self, settings: &Maybe<RefreshToken>) -> RefreshTokenSettings {
        let Some((_, settings)) = given(settings) else {
            return RefreshTokenSettings { lifetime: DAY, idle: None, grace: Duration::ZERO };
        };
        let lifetime = self.optional_duration(&settings.lifetime, MINUTE..=LONGEST_LIFE);
        // A lifetime that was refused is not held against what stands beside it.
        let longest = match (&settings.lifetime, lifetime) {
            (Some(_), None) => LONGEST_LIFE,
            (_, lifetime) => lifetime.unwrap_or(DAY),
        };
        RefreshTokenSettings {
            lifetime: lifetime.unwrap_or(DAY),
            idle: self.optional_duration(&settings.idle, MINUTE..=longest),
            grace: self.duration(&settings.grace, Duration::ZERO, Duration::ZERO..=LONGEST_GRACE),
        }
    }

    /// Warns of refresh tokens that were meant, and that nobody gets.
    pub(super) fn refresh_grant(&self, application: &RawApplication) {
        let Some((_, list)) = given(&application.allowed_grant_types) else { return };
        let place = |wanted: GrantType| {
            list.iter().find(|field| field.value == Some(wanted)).map(|field| field.node)
        };
        let grant = place(GrantType::RefreshToken);
        if let Some(node) = grant
            && place(GrantType::TokenExchange).is_none()
        {
            self.warn(
                node,
                "gives nothing without token exchange: only what is exchanged here is refreshed here",
            );
        }
        if let Some(settings) = &application.refresh_token
            && grant.is_none()
        {
            self.warn(
                settings.node,
                "has no effect: `refresh_token` is not among the `allowed_grant_types`",
            );
        }
    }
}
