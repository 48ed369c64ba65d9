//! The connection to the server, which is made again whenever it breaks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind};
use tokio::time::timeout;

use super::server;
use crate::config::RedisSettings;
use crate::store::{OpenError, StoreError};

pub(super) struct Link {
    manager: ConnectionManager,
    command_timeout: Duration,
    is_closed: AtomicBool,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    pub(super) async fn open(settings: &RedisSettings) -> Result<Self, OpenError> {
        let url = settings.urls.first().ok_or_else(|| OpenError::Redis {
            address: String::new(),
            why: "no server is named".to_owned(),
        })?;
        let refused = |error: &RedisError| OpenError::Redis {
            address: server::address(url),
            why: error.category().to_owned(),
        };
        let client = server::client(settings, url).map_err(|error| refused(&error))?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.command_timeout))
            .set_number_of_retries(1);
        let manager = ConnectionManager::new_lazy_with_config(client, config)
            .map_err(|error| refused(&error))?;
        let link = Self {
            manager,
            command_timeout: settings.command_timeout,
            is_closed: AtomicBool::new(false),
        };
        let mut probe = link.manager.clone();
        let ping = redis::cmd("PING");
        match ping.query_async::<()>(&mut probe).await {
            Err(error) if !error.is_io_error() => Err(refused(&error)),
            _ => Ok(link),
        }
    }

    pub(super) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut manager = self.manager.clone();
        self.bounded(command.query_async(&mut manager)).await
    }

    pub(super) async fn script<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let mut manager = self.manager.clone();
        self.bounded(call.invoke_async(&mut manager)).await
    }

    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, StoreError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let result = timeout(self.command_timeout, work).await.map_err(|_| StoreError::TimedOut)?;
        result.map_err(|error| reason(&error))
    }

    pub(super) async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }
}

/// What an error of the client library means to whoever asked.
fn reason(error: &RedisError) -> StoreError {
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
