//! What is asked of a server before anything is kept there: that it holds nothing which is not
//! understood, that all which is needed may be done, and that it is set up to remember.

use std::time::Duration;

use redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind, from_redis_value};
use tokio::time::timeout;

use super::VERSION;
use super::connection::{Connection, Question};
use super::keys::Keys;
use super::obstacle::Obstacle;
use super::script::{Call, OPEN};
use crate::clock;
use crate::time::Timestamp;

/// How far the server's clock may be from ours before somebody is told.
const CLOCKS: Duration = Duration::from_secs(30);

/// A store that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// Nothing was ever kept there.
    pub(super) is_new: bool,
    /// The server's clock is this far from ours, which is too far.
    pub(super) clock_off: Option<Duration>,
}

/// Asks for all that is needed. `limit` is of each answer.
pub(super) async fn admit(
    connection: &mut Connection,
    keys: &Keys,
    limit: Duration,
) -> Result<Admitted, Obstacle> {
    let call = || {
        let soon = clock::now().plus(Duration::from_secs(60)).as_secs();
        Call::new(&OPEN).key(keys.version()).key(keys.trial()).arg(VERSION).arg(soon)
    };
    // Each of both ways to run a script is tried.
    ask::<()>(connection, &call().short(), "EVALSHA", limit).await?;
    let (step, error, is_new, time): (String, String, bool, String) =
        ask(connection, &call().long(), "EVAL", limit).await?.ok_or_else(not_understood)?;
    match step.as_str() {
        "" => {}
        "version" => return Err(Obstacle::foreign(foreign(&error))),
        _ if error.contains("WRONGTYPE") => return Err(not_understood()),
        command => {
            let code = error.split_whitespace().next().unwrap_or_default();
            return Err(Obstacle::of_reply(code, &error, command));
        }
    }
    if matches!(connection, Connection::One(_)) {
        // Of a cluster, one server has not all keys.
        let mut both = redis::cmd("MGET");
        both.arg(keys.trial()).arg(keys.elsewhere());
        ask::<()>(connection, &both, "MGET", limit).await?;
    }
    let mut scan = redis::cmd("SCAN");
    scan.arg(0).arg("MATCH").arg(keys.descendants()).arg("COUNT").arg(1);
    ask::<()>(connection, &scan, "SCAN", limit).await?;
    ask::<()>(connection, &redis::cmd("PING"), "PING", limit).await?;
    let clock_off = time.parse().ok().map(|time| apart(Timestamp::from_secs(time), clock::now()));
    Ok(Admitted { is_new, clock_off: clock_off.filter(|off| *off > CLOCKS) })
}

/// `None` where the server does not know the script.
async fn ask<T: FromRedisValue>(
    connection: &mut Connection,
    command: &Cmd,
    name: &str,
    limit: Duration,
) -> Result<Option<T>, Obstacle> {
    let answer = timeout(limit, connection.ask(Question::Command(command))).await;
    match answer.map_err(|_| Obstacle::timed_out())? {
        Ok(value) => from_redis_value(value).map(Some).map_err(|_| not_understood()),
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => Ok(None),
        Err(error) => Err(Obstacle::of(&error, name)),
    }
}

fn not_understood() -> Obstacle {
    Obstacle::foreign(foreign(""))
}

/// `version` is what somebody else has written.
fn foreign(version: &str) -> String {
    if version.len() < 5 && version.parse::<u32>().is_ok() {
        format!("what it holds is of version {version}, and this is version {VERSION}")
    } else {
        "it holds something else under this prefix".to_owned()
    }
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

/// What is wrong with how a server is set up, as far as it says so.
pub(super) async fn advice(connection: &mut Connection, limit: Duration) -> Vec<&'static str> {
    let info = ask::<String>(connection, &redis::cmd("INFO"), "INFO", limit).await;
    info.ok().flatten().map(|info| faults(&info)).unwrap_or_default()
}

fn faults(info: &str) -> Vec<&'static str> {
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(field, _)| *field == name).map(|(_, value)| value.trim())
    };
    let mut faults = Vec::new();
    let is_bounded = field("maxmemory").is_some_and(|bytes| bytes != "0");
    if is_bounded && field("maxmemory_policy").is_some_and(|policy| policy != "noeviction") {
        faults.push("`maxmemory-policy` is not `noeviction`: revocations may be forgotten");
    }
    if field("aof_enabled") == Some("0") {
        faults.push("`appendonly` is not `yes`: a restart of the server forgets revocations");
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_forgotten_is_told() {
        let info = |maxmemory, policy, aof| {
            format!(
                "# Memory\r\nmaxmemory:{maxmemory}\r\nmaxmemory_policy:{policy}\r\n\
                 # Persistence\r\naof_enabled:{aof}\r\n"
            )
        };
        assert_eq!(faults(&info("0", "noeviction", "1")), [""; 0]);
        assert_eq!(faults(&info("0", "allkeys-lru", "1")), [""; 0]);
        assert_eq!(faults(&info("1000", "noeviction", "1")), [""; 0]);
        let [fault] = faults(&info("1000", "volatile-lru", "1"))[..] else { panic!() };
        assert!(fault.starts_with("`maxmemory-policy`"));
        let [fault] = faults(&info("0", "noeviction", "0"))[..] else { panic!() };
        assert!(fault.starts_with("`appendonly`"));
        assert_eq!(faults("-"), [""; 0]);
    }

    #[test]
    fn what_somebody_else_wrote_is_repeated_only_where_it_is_a_version() {
        assert_eq!(foreign("2"), "what it holds is of version 2, and this is version 1");
        for other in ["", "a", "12345", "-1", "1 2"] {
            assert_eq!(foreign(other), "it holds something else under this prefix", "{other}");
        }
    }
}
