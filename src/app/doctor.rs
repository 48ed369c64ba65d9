//! Asks the estate that runs whether it fits the configuration. Each answer is a finding, with what to
//! do where something is not as it should be.
//!
//! Nothing that is found out changes anything, and no secret and no token is told.

mod clocks;
mod documents;
mod front;
mod issuers;
mod pinned;
mod store;
mod upstream;

use std::time::Duration;

use serde::Serialize;

use self::clocks::Reading;
use self::front::Front;
use crate::clock;
use crate::config::Config;
use crate::jwt::sign::SigningKey;

/// Certificates are asked after when they end sooner.
const EXPIRES_SOON: Duration = Duration::from_hours(30 * 24);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// It works, but hardly as it was meant, or not for long.
    Warning,
    /// Somebody fails for it.
    Fault,
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What was asked: one of a closed set.
    pub check: &'static str,
    /// Of what, such as an issuer's name or a path; may be empty.
    pub about: String,
    /// What was seen, on one line.
    pub seen: String,
    /// What to do; empty where there is nothing to do.
    pub advice: String,
}

impl Finding {
    fn ok(check: &'static str, about: &str, seen: impl Into<String>) -> Self {
        let (about, seen) = (about.to_owned(), seen.into());
        Self { level: Level::Ok, check, about, seen, advice: String::new() }
    }

    fn warning(
        check: &'static str,
        about: &str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warning, advice: advice.into(), ..Self::ok(check, about, seen) }
    }

    fn fault(
        check: &'static str,
        about: &str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { level: Level::Fault, advice: advice.into(), ..Self::ok(check, about, seen) }
    }
}

/// Asks for everything there is to ask, what does not depend on one another at once. In bounded time.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let (front, upstream, issuers) =
        tokio::join!(Front::look(config), upstream::look(config), issuers::look(config));
    let (documents, probe, store) = tokio::join!(
        documents::look(config, &front, &upstream),
        upstream::probe(config),
        store::look(config, front.running.as_ref()),
    );
    let mut findings = upstream.findings;
    findings.extend(front.findings);
    findings.extend(documents);
    findings.extend(signing_keys(config));
    findings.extend(probe);
    findings.extend(issuers.findings);
    findings.extend(issuers::as_served(config, front.running.as_ref()));
    let readings: Vec<Reading> = upstream.clock.into_iter().chain(issuers.clocks).collect();
    findings.extend(clocks::compare(&readings));
    findings.extend(store);
    findings
}

/// Which key signs, and which ones will.
fn signing_keys(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "signing_key";
    let now = clock::now();
    let Some(active) = config.signing_keys.active(now) else {
        return vec![Finding::fault(
            CHECK,
            "",
            "no key may sign yet",
            "wait for the first `not_before`, or put an earlier one before one of the `signing_keys`",
        )];
    };
    let tell = |key: &SigningKey| {
        let algorithm = key.algorithm().as_str();
        let seen = match key.not_before().filter(|begin| *begin > now) {
            Some(begin) => {
                let begin = crate::admin::rfc3339_text(begin);
                format!("{algorithm}, published, and signs from {begin} if it is the first then")
            }
            None if std::ptr::eq(key, active) => format!("{algorithm}, signs"),
            None => format!("{algorithm}, published, and does not sign"),
        };
        Finding::ok(CHECK, key.kid(), seen)
    };
    config.signing_keys.iter().map(tell).collect()
}
