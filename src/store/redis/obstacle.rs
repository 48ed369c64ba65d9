//! Why there is no answer: what errors of servers and of the client library mean. Their texts are
//! not passed on, as anything may stand in them.

use std::error::Error as _;
use std::io;

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
        let detail = error.detail().unwrap_or_default();
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::lasting("it refuses the credentials"),
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
                Self::lasting("it is part of a cluster")
            }
            ErrorKind::Server(ServerErrorKind::ResponseError)
                if error.to_string().starts_with("Redis server refused to switch database") =>
            {
                Self::lasting("it has no such database")
            }
            ErrorKind::InvalidClientConfig => {
                Self::passing(StoreError::Unreachable, "it can't be reached")
            }
            _ => match error.code() {
                Some(code) => Self::of_reply(code, detail, command),
                None => Self::passing(meaning(error), no_answer(error)),
            },
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
            Self::lasting(format!("it answers {command} with the error {code}"))
        }
    }
}

/// The error of TLS that an error of the client library is made of.
fn tls_error(error: &RedisError) -> Option<&rustls::Error> {
    let io = error.source()?.downcast_ref::<io::Error>()?;
    io.get_ref()?.downcast_ref::<rustls::Error>()
}

fn no_answer(error: &RedisError) -> &'static str {
    if error.is_timeout() {
        "it does not answer in time"
    } else if error.is_connection_refusal() {
        "it refuses connections"
    } else {
        "it can't be reached"
    }
}

/// What an error means to whoever asked.
pub(super) fn meaning(error: &RedisError) -> StoreError {
    if error.is_timeout() {
        return StoreError::TimedOut;
    }
    match error.kind() {
        ErrorKind::Io
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::TryAgain,
        ) => StoreError::Unreachable,
        _ if error.code() == Some("WRONGTYPE") => StoreError::Foreign,
        _ => StoreError::Failed,
    }
}

/// Whether a connection over which this came is of no more use, and whether the same may be asked
/// once more over another: none of these is answered before, or after, anything was done for good.
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
