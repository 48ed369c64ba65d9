//! A connection that works: to one server, or to all of a cluster.

use std::future::pending;
use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::sleep;

use super::obstacle;
use super::script::Call;

/// After how long without an answer it is looked whether the connection is still there.
const DOUBT: Duration = Duration::from_millis(100);

/// May be cloned: all clones share what is beneath.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// One server of those that a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Only,
    OfCluster { host: String, port: u16 },
}

/// What may be asked over a connection.
#[derive(Clone, Copy)]
pub(super) enum Question<'a> {
    Command(&'a Cmd),
    Script(&'a Call),
    /// Of one node. The answer is an array.
    Pipeline(&'a Node, &'a Pipeline),
    /// All nodes that have keys of their own. The answer is an array of `host:port`.
    Nodes,
}

impl Connection {
    pub(super) async fn ask(&mut self, question: Question<'_>) -> RedisResult<Value> {
        let mut witness = self.clone();
        tokio::select! {
            biased;
            answer = self.put(question) => answer,
            error = witness.end() => Err(error),
        }
    }

    /// Waits for the end of a connection to one server.
    ///
    /// A command that is handed over at the very moment of that end stays in the channel to the task
    /// that is gone, and its answer is waited for in vain: what is in the channel is dropped when the
    /// receiver is, and then only with the last sender, which is ours. The next command is refused.
    async fn end(&mut self) -> RedisError {
        let Self::One(connection) = self else { return pending().await };
        loop {
            sleep(DOUBT).await;
            let answer = connection.req_packed_command(&redis::cmd("PING")).await;
            if let Err(error) = answer
                && obstacle::breaks(&error)
            {
                return error;
            }
        }
    }

    async fn put(&mut self, question: Question<'_>) -> RedisResult<Value> {
        match question {
            Question::Command(command) => self.command(command).await,
            Question::Script(call) => match self.command(&call.short()).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    self.command(&call.long()).await
                }
                result => result,
            },
            Question::Pipeline(node, pipeline) => {
                self.pipeline(node, pipeline).await.map(Value::Array)
            }
            Question::Nodes => self.nodes().await,
        }
    }

    async fn command(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::One(connection) => connection.req_packed_command(command).await?,
            Self::Cluster(connection) => connection.req_packed_command(command).await?,
        };
        answer.extract_error()
    }

    async fn pipeline(&mut self, node: &Node, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let count = pipeline.len();
        match (self, node) {
            (Self::Cluster(connection), Node::OfCluster { host, port }) => {
                let route = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                connection.route_pipeline(pipeline.clone(), 0, count, route).await
            }
            (Self::Cluster(connection), Node::Only) => {
                connection.req_packed_commands(pipeline, 0, count).await
            }
            (Self::One(connection), _) => connection.req_packed_commands(pipeline, 0, count).await,
        }
    }

    async fn nodes(&mut self) -> RedisResult<Value> {
        let Self::Cluster(connection) = self else { return Ok(Value::Array(Vec::new())) };
        let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let answer = connection.route_command(redis::cmd("PING"), all).await?.extract_error()?;
        let Value::Map(answers) = answer else { return Ok(Value::Array(Vec::new())) };
        Ok(Value::Array(answers.into_iter().map(|(node, _)| node).collect()))
    }
}

impl Node {
    /// What [`Question::Nodes`] is answered with.
    pub(super) fn of(addresses: &[String]) -> Vec<Self> {
        if addresses.is_empty() {
            return vec![Self::Only];
        }
        let split = addresses.iter().filter_map(|address| address.rsplit_once(':'));
        split
            .filter_map(|(host, port)| {
                Some(Self::OfCluster { host: host.to_owned(), port: port.parse().ok()? })
            })
            .collect()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One(…)",
            Self::Cluster(_) => "Cluster(…)",
        })
    }
}
