//! The way to the servers: one connection, which is made anew when it breaks, and bounds on what
//! waits for it.
//!
//! Whoever asks gets an answer within the time for one command, whatever happens. Connections are
//! made beside that, one at a time. While none can be made, whoever asks is told so at once: nobody
//! queues for a store that is down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, Pipeline, Value, from_redis_value};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::connection::{Node, Question};
use super::obstacle::{self, Obstacle};
use super::script::Call;
use super::server::{Connected, Masters, Server, Unconnected};
use crate::config::RedisSettings;
use crate::store::{OpenError, StoreError};

/// How many may ask at a time.
const IN_FLIGHT: u32 = 1024;
/// How long after a failure the next attempt to connect may be made, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How often it is asked whether masters are still the same.
const MASTER_CHECK: Duration = Duration::from_secs(1);

/// How long the same complaint is not repeated.
const SILENCE: Duration = Duration::from_secs(10);

/// Every attempt to connect has a number of its own.
type Number = u64;

#[derive(Debug)]
enum State {
    /// The attempt ends when the channel does.
    Connecting {
        attempt: Number,
        end: watch::Receiver<()>,
    },
    Up(Up),
    Down {
        until: Instant,
        means: StoreError,
    },
}

#[derive(Clone, Debug)]
struct Up {
    attempt: Number,
    to: Connected,
    /// The attempt that is to replace it. Of several servers, some may still answer.
    successor: Option<Number>,
    master_checked: Instant,
}

/// How a connection has failed somebody.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// There was no answer in time.
    Silence,
    /// It is of no more use.
    Broken,
}

#[derive(Debug)]
struct Inner {
    state: State,
    attempts: Number,
    /// Attempts that have failed in a row.
    failures: u32,
    /// The last of them, as it was told.
    told: Option<String>,
}

#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: Server,
    inner: Mutex<Inner>,
    permits: Semaphore,
    is_closed: AtomicBool,
    /// The error code that was told last, and when.
    complaint: Mutex<Option<(String, Instant)>>,
}

impl Link {
    /// Goes on where the servers can't be reached now, and ends where that would not help.
    pub(super) async fn open(settings: &RedisSettings) -> Result<Self, OpenError> {
        let down = State::Down { until: Instant::now(), means: StoreError::Unreachable };
        let shared = Arc::new(Shared {
            server: Server::new(settings),
            inner: Mutex::new(Inner { state: down, attempts: 0, failures: 0, told: None }),
            permits: Semaphore::new(IN_FLIGHT as usize),
            is_closed: AtomicBool::new(false),
            complaint: Mutex::new(None),
        });
        let result = shared.server.connect(None).await;
        if let Err(Unconnected { obstacle, address }) = &result
            && obstacle.is_final
        {
            let (address, why) = (address.to_string(), obstacle.why.clone());
            return Err(OpenError::Redis { address, why });
        }
        let attempt = shared.inner.lock().next_attempt();
        shared.settle(attempt, result);
        Ok(Self { shared })
    }

    pub(super) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        understood(self.shared.ask(Question::Command(command)).await?)
    }

    pub(super) async fn script<T: FromRedisValue>(&self, call: &Call) -> Result<T, StoreError> {
        understood(self.shared.ask(Question::Script(call)).await?)
    }

    /// Errors stand among the answers.
    pub(super) async fn pipeline(
        &self,
        node: &Node,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let answers = self.shared.ask(Question::Pipeline(node, pipeline)).await?;
        answers.into_sequence().map_err(|_| StoreError::Foreign)
    }

    /// The servers that have keys of their own.
    pub(super) async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let addresses: Vec<String> = understood(self.shared.ask(Question::Nodes).await?)?;
        Ok(Node::of(&addresses))
    }

    /// Whether it has not been closed.
    pub(super) fn is_open(&self) -> Result<(), StoreError> {
        self.shared.is_open()
    }

    pub(super) async fn close(&self) {
        self.shared.is_closed.store(true, Ordering::Release);
        // Whoever asks has a permit, and gives it back in time.
        let _ = self.shared.permits.acquire_many(IN_FLIGHT).await;
        self.shared.permits.close();
        self.shared.inner.lock().state =
            State::Down { until: Instant::now(), means: StoreError::Closed };
    }
}

fn understood<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    from_redis_value(value).map_err(|_| StoreError::Foreign)
}

impl Shared {
    fn is_open(&self) -> Result<(), StoreError> {
        if self.is_closed.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }

    async fn ask(self: &Arc<Self>, question: Question<'_>) -> Result<Value, StoreError> {
        self.is_open()?;
        let deadline = Instant::now() + self.server.command_timeout();
        let permit = timeout_at(deadline, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| StoreError::TimedOut)?.map_err(|_| StoreError::Closed)?;
        let mut is_first = true;
        loop {
            let up = timeout_at(deadline, self.connected()).await;
            let Up { attempt, mut to, .. } = up.map_err(|_| StoreError::TimedOut)??;
            let Ok(answer) = timeout_at(deadline, to.connection.ask(question)).await else {
                self.replace(attempt, Failure::Silence);
                return Err(StoreError::TimedOut);
            };
            let error = match answer {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let is_broken = obstacle::breaks(&error);
            if is_broken {
                self.replace(attempt, Failure::Broken);
            }
            // It may have been done nevertheless. Nothing changes by being done twice.
            if !is_broken || !is_first {
                if let Some(code) = obstacle::code(&error) {
                    self.complain(code);
                }
                return Err(obstacle::meaning(&error));
            }
            is_first = false;
        }
    }

    /// Tells of an error that a server has answered with, once in a while.
    fn complain(&self, code: &str) {
        let mut complaint = self.complaint.lock();
        let is_known =
            matches!(&*complaint, Some((known, told)) if known == code && told.elapsed() < SILENCE);
        if !is_known {
            tracing::warn!(code, "the store answers with an error");
            *complaint = Some((code.to_owned(), Instant::now()));
        }
    }

    /// The connection, once there is one.
    async fn connected(self: &Arc<Self>) -> Result<Up, StoreError> {
        loop {
            let (awaited, mut end) = {
                let mut inner = self.inner.lock();
                match &mut inner.state {
                    State::Up(up) => {
                        let up = up.clone();
                        self.check_master(&mut inner);
                        return Ok(up);
                    }
                    State::Down { until, means } if Instant::now() < *until => return Err(*means),
                    State::Down { .. } => self.begin(&mut inner),
                    State::Connecting { attempt, end } => (*attempt, end.clone()),
                }
            };
            while end.changed().await.is_ok() {}
            self.given_up(awaited);
        }
    }

    /// An attempt that has ended must have left its mark.
    fn given_up(&self, awaited: Number) {
        let mut inner = self.inner.lock();
        if matches!(inner.state, State::Connecting { attempt, .. } if attempt == awaited) {
            inner.fail(StoreError::Failed);
        }
    }

    /// Begins an attempt to connect.
    fn begin(self: &Arc<Self>, inner: &mut Inner) -> (Number, watch::Receiver<()>) {
        let attempt = inner.next_attempt();
        let (sender, end) = watch::channel(());
        inner.state = State::Connecting { attempt, end: end.clone() };
        self.spawn(attempt, None, sender);
        (attempt, end)
    }

    fn spawn(self: &Arc<Self>, attempt: Number, known: Option<Masters>, end: watch::Sender<()>) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let result = shared.server.connect(known.as_ref()).await;
            shared.settle(attempt, result);
            drop(end);
        });
    }

    /// Replaces the connection of this attempt, which has failed somebody.
    fn replace(self: &Arc<Self>, of: Number, failure: Failure) {
        let mut inner = self.inner.lock();
        let State::Up(up) = &inner.state else { return };
        if up.attempt != of || up.successor.is_some() {
            return;
        }
        if !self.server.has_several() {
            self.begin(&mut inner);
            return;
        }
        // Some of a cluster may still answer: this one stays until there is a better one.
        if up.master_checked.elapsed() < MASTER_CHECK {
            return;
        }
        let attempt = inner.next_attempt();
        let State::Up(up) = &mut inner.state else { return };
        up.successor = Some(attempt);
        let known = matches!(failure, Failure::Silence).then(|| up.to.masters.clone());
        self.spawn(attempt, known, watch::channel(()).0);
    }

    /// Takes over what became of an attempt, if anybody waits for it.
    fn settle(&self, attempt: Number, result: Result<Option<Connected>, Unconnected>) {
        let mut inner = self.inner.lock();
        let is_awaited = match &inner.state {
            State::Connecting { attempt: awaited, .. } => *awaited == attempt,
            State::Up(up) => up.successor == Some(attempt),
            State::Down { .. } => inner.attempts == attempt,
        };
        if !is_awaited || self.is_closed.load(Ordering::Acquire) {
            return;
        }
        match result {
            Ok(Some(to)) => {
                if inner.told.take().is_some() {
                    let address = &to.address;
                    tracing::info!(%address, "the store can be used again");
                }
                inner.failures = 0;
                let master_checked = Instant::now();
                inner.state = State::Up(Up { attempt, to, successor: None, master_checked });
            }
            Ok(None) => {
                if let State::Up(up) = &mut inner.state {
                    up.successor = None;
                    up.master_checked = Instant::now();
                }
            }
            Err(Unconnected { obstacle: Obstacle { means, why, .. }, address }) => {
                if inner.told.as_ref() != Some(&why) {
                    tracing::warn!(%address, why, "the store can't be used; it is tried again");
                }
                inner.told = Some(why);
                inner.fail(means);
            }
        }
    }

    /// Now and then, finds out whether the sentinels have made another server the master while the
    /// old one still answers.
    fn check_master(self: &Arc<Self>, inner: &mut Inner) {
        let State::Up(up) = &mut inner.state else { return };
        if !self.server.has_sentinels() || up.master_checked.elapsed() < MASTER_CHECK {
            return;
        }
        up.master_checked = Instant::now();
        let (attempt, address) = (up.attempt, up.to.address.clone());
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            if shared.server.is_elsewhere(&address).await {
                shared.replace(attempt, Failure::Broken);
            }
        });
    }
}

impl Inner {
    fn next_attempt(&mut self) -> Number {
        self.attempts += 1;
        self.attempts
    }

    fn fail(&mut self, means: StoreError) {
        let (first, most) = BACK_OFF;
        let wait = first.saturating_mul(1 << self.failures.min(10)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Down { until: Instant::now() + wait, means };
    }
}
