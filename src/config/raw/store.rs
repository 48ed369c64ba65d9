//! The store as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{FileReference, Maybe, SecretReference};
use crate::config::scalar::{OneOrMany, Span, Text};

/// Where refresh tokens, revocations and tokens that come once are kept: in exactly one of the two.
/// Default: embedded.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(in crate::config) struct Store {
    /// In a folder of this process alone.
    pub(in crate::config) embedded: Maybe<Embedded>,
    /// In a Redis or Valkey, which several processes may share.
    pub(in crate::config) redis: Maybe<Redis>,
}

/// A store in a folder of this process alone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Embedded {
    /// A folder, relative to the configuration file. Default: `state`.
    pub(in crate::config) path: Maybe<Text>,
}

/// A Redis or Valkey.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Redis {
    /// `rediss://host:port`, or `redis://` without TLS; of a single one with the number of the
    /// database as path. A list of some nodes of a cluster, or of the sentinels.
    #[schemars(required)]
    pub(in crate::config) url: Maybe<OneOrMany<Text>>,
    /// ACL user. Default: Redis's default user.
    pub(in crate::config) username: Maybe<Text>,
    pub(in crate::config) password: Maybe<SecretReference>,
    /// Certificates to trust instead of the system's roots.
    pub(in crate::config) ca: Maybe<FileReference>,
    /// Whether the URLs are of a Redis Cluster. Default: false.
    pub(in crate::config) cluster: Maybe<bool>,
    /// The URLs are of sentinels.
    pub(in crate::config) sentinel: Maybe<Sentinel>,
    /// How long it is waited for.
    pub(in crate::config) timeouts: Maybe<StoreTimeouts>,
    /// What every key begins with. Default: `cambio:`.
    pub(in crate::config) prefix: Maybe<Text>,
}

/// What is asked of sentinels.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Sentinel {
    /// The name under which they know the master.
    #[schemars(required)]
    pub(in crate::config) master: Maybe<Text>,
}

/// How long a Redis is waited for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct StoreTimeouts {
    /// For a connection. Default: 1s.
    pub(in crate::config) connect: Maybe<Span>,
    /// For each command. Default: 1s.
    pub(in crate::config) command: Maybe<Span>,
}
