//! Why there is no answer: what errors of servers and of the client library mean. Their texts are
//! not passed on, as anything may stand in them.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

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
        } else if ["NOPERM", "can't run this command", "can't access", "ACL failure"]
            .iter()
            .any(|text| says(text))
        {
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

/// The code of an error that a server has answered with. Before Redis 7, that of a command in a
/// script comes in the text of another one.
pub(super) fn code(error: &RedisError) -> Option<&str> {
    let code = error.code()?;
    let (_, inner) = match error.detail().and_then(|detail| detail.rsplit_once("@user_script")) {
        Some(split) if code == "ERR" => split,
        Some(_) | None => return Some(code),
    };
    let mut words = inner.split_whitespace().map(|word| word.trim_start_matches('-'));
    let is_code = |word: &&str| word.len() > 2 && word.bytes().all(|b| b.is_ascii_uppercase());
    Some(words.find(is_code).unwrap_or(code))
}

/// What an error means to whoever asked.
pub(super) fn meaning(error: &RedisError) -> StoreError {
    if error.is_timeout() {
        return StoreError::TimedOut;
    }
    let is_lost = matches!(error.kind(), ErrorKind::Io | ErrorKind::ClusterConnectionNotFound);
    match code(error) {
        _ if is_lost => StoreError::Unreachable,
        Some(
            "ASK" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "MOVED" | "READONLY" | "TRYAGAIN",
        ) => StoreError::Unreachable,
        Some("WRONGTYPE") => StoreError::Foreign,
        Some(_) | None => StoreError::Failed,
    }
}

/// Whether a connection over which this came is of no more use. Another one may lead further.
pub(super) fn breaks(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Io
        || matches!(code(error), Some("READONLY" | "MASTERDOWN"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn errors_in_scripts_are_what_they_are_elsewhere() {
        let cases = [
            ("READONLY You can't write against a read only replica.", StoreError::Unreachable),
            (
                "READONLY You can't write against a read only replica. script: 1f, on @user_script:5.",
                StoreError::Unreachable,
            ),
            (
                "ERR Error running script (call to f_1f): @user_script:5: @user_script: 5: \
                 -READONLY You can't write against a read only replica.",
                StoreError::Unreachable,
            ),
            (
                "ERR Error running script (call to f_1f): @user_script:5: -WRONGTYPE Operation \
                 against a key holding the wrong kind of value",
                StoreError::Foreign,
            ),
            (
                "ERR Error running script (call to f_1f): @user_script:5: WRONGTYPE Operation \
                 against a key holding the wrong kind of value",
                StoreError::Foreign,
            ),
            ("WRONGTYPE Operation against a key", StoreError::Foreign),
            ("OOM command not allowed", StoreError::Failed),
            ("ERR a text -READONLY that only looks like it", StoreError::Failed),
            ("ERR Error running script: @user_script:5: - -x -1", StoreError::Failed),
            ("LOADING Redis is loading the dataset in memory", StoreError::Unreachable),
            ("NOPERM this user has no permissions", StoreError::Failed),
        ];
        for (text, means) in cases {
            let error = reply(text);
            assert_eq!(meaning(&error), means, "{text}");
            let is_replica = means == StoreError::Unreachable && text.contains("READONLY");
            assert_eq!(breaks(&error), is_replica, "{text}");
        }
    }

    #[test]
    fn of_what_a_server_says_only_codes_are_repeated() {
        let why = |text| Obstacle::of(&reply(text), "GET").why;
        assert_eq!(why("WEIRD canary"), "it answers GET with the error WEIRD");
        assert_eq!(why("canary-1 canary"), "it answers GET with an error");
        assert_eq!(
            why("NOPERM User canary has no permissions to run the 'get' command"),
            "its user may not run GET on keys of this prefix"
        );
    }
}
