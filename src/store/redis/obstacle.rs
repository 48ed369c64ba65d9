//! Why there is no answer: what errors of servers and of the client library mean. Their texts are
//! not passed on, as anything may stand in them.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// Why a store can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// What those are told who ask meanwhile.
    pub(super) means: StoreError,
    /// It does not go away by itself.
    pub(super) is_final: bool,
    pub(super) why: String,
}

impl Obstacle {
    pub(super) fn passing(means: StoreError, why: impl Into<String>) -> Self {
        Self { means, is_final: false, why: why.into() }
    }

    pub(super) fn lasting(why: impl Into<String>) -> Self {
        Self { means: StoreError::Failed, is_final: true, why: why.into() }
    }

    pub(super) fn foreign(why: impl Into<String>) -> Self {
        Self { means: StoreError::Foreign, ..Self::lasting(why) }
    }

    pub(super) fn timed_out() -> Self {
        Self::passing(StoreError::TimedOut, "it does not answer in time")
    }

    /// Of an error while a connection is made; `command` is what was tried then.
    pub(super) fn of(error: &RedisError, command: &str) -> Self {
        if let Some(error) = tls_error(error) {
            return Self::lasting(format!("TLS fails: {error}"));
        }
        let kind = error.kind();
        if kind == ErrorKind::AuthenticationFailed {
            return Self::lasting("it refuses the credentials");
        }
        if error.to_string().starts_with("Redis server refused to switch database") {
            return Self::lasting("it has no such database");
        }
        match error.code() {
            Some(code) => Self::of_reply(code, error.detail().unwrap_or_default(), command),
            None if kind == ErrorKind::InvalidClientConfig => {
                Self::passing(StoreError::Unreachable, "it can't be reached")
            }
            None => Self::passing(meaning(error), no_answer(error)),
        }
    }

    /// Of an error that a server replies with.
    pub(super) fn of_reply(code: &str, detail: &str, command: &str) -> Self {
        let says = |text: &str| code.contains(text) || detail.contains(text);
        let passing = |why: &str| Self::passing(StoreError::Unreachable, why);
        if says("NOAUTH") {
            Self::lasting("it wants credentials")
        } else if says("WRONGPASS") {
            Self::lasting("it refuses the credentials")
        } else if says("NOPERM") || says("can't run this command") || says("can't access") {
            Self::lasting(format!("its user may not run {command} on keys of this prefix"))
        } else if says("unknown command") || says("Unknown Redis command") {
            Self::lasting(format!("it does not know the command {command}"))
        } else if matches!(code, "MOVED" | "ASK" | "CROSSSLOT") {
            Self::lasting("it is part of a cluster")
        } else if says("cluster support disabled") {
            Self::lasting("it is not part of a cluster")
        } else if says("READONLY") {
            passing("it is a replica")
        } else if says("LOADING") {
            passing("it is loading its data")
        } else if says("CLUSTERDOWN") || says("MASTERDOWN") || says("TRYAGAIN") {
            passing("its cluster is down")
        } else if says("MISCONF") || says("NOREPLICAS") || says("OOM") || says("max number of") {
            Self::passing(StoreError::Failed, "it accepts nothing at present")
        } else {
            let is_code = code.len() < 30 && code.bytes().all(|b| b.is_ascii_uppercase());
            let code = if is_code { format!("the error {code}") } else { "an error".to_owned() };
            Self::lasting(format!("it answers {command} with {code}"))
        }
    }
}

/// The error of TLS that an error of the client library is made of.
fn tls_error(error: &RedisError) -> Option<&rustls::Error> {
    let shared = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    let io = shared.downcast_ref::<io::Error>()?;
    io.get_ref()?.downcast_ref::<rustls::Error>()
}

fn no_answer(error: &RedisError) -> &'static str {
    if error.is_timeout() {
        "it does not answer in time"
    } else if error.is_connection_refusal() {
        "it refuses connections"
    } else if error.is_connection_dropped() {
        "it hangs up"
    } else {
        "it can't be reached"
    }
}

/// What an error means to whoever asked.
pub(super) fn meaning(error: &RedisError) -> StoreError {
    if error.is_timeout() {
        return StoreError::TimedOut;
    }
    let is_away = matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Server(
                ServerErrorKind::Ask
                    | ServerErrorKind::BusyLoading
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::Moved
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::TryAgain,
            )
    );
    if is_away {
        StoreError::Unreachable
    } else if error.code() == Some("WRONGTYPE") {
        StoreError::Foreign
    } else {
        StoreError::Failed
    }
}

/// Whether a connection over which this came is of no more use. Another one may lead further.
pub(super) fn breaks(error: &RedisError) -> bool {
    let is_left = matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    );
    is_left || error.is_unrecoverable_error()
}
