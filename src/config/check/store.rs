//! Where what must not be forgotten is kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::url::Url;
use secrecy::SecretString;

use super::reference::Privacy;
use super::url::{REDIS, is_loopback};
use super::{Check, given};
use crate::config::document::NodeId;
use crate::config::raw::{Embedded, Maybe, Redis, Store};
use crate::config::scalar::{OneOrMany, Text};
use crate::config::{RedisSettings, RedisTopology, StoreSettings};

pub(super) const FOLDER: &str = "state";
const PREFIX: &str = "cambio:";
/// It stands in every key.
const MAX_PREFIX: usize = 64;
const SECOND: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(60);

impl Check<'_> {
    /// Without a section, the default. `None` where there was a fault.
    pub(super) fn store(&self, store: &Maybe<Store>) -> Option<StoreSettings> {
        let Some(field) = store else {
            return Some(StoreSettings::Embedded { folder: self.beside(FOLDER) });
        };
        let Store { embedded, redis } = field.value.as_ref()?;
        let present = [embedded.is_some(), redis.is_some()];
        self.one_of(field.node, &["embedded", "redis"], &present)?;
        if let Some((_, embedded)) = given(embedded) {
            return self.embedded(embedded);
        }
        let (node, redis) = given(redis)?;
        self.redis(node, redis).map(StoreSettings::Redis)
    }

    fn embedded(&self, embedded: &Embedded) -> Option<StoreSettings> {
        let Some(field) = &embedded.path else {
            return Some(StoreSettings::Embedded { folder: self.beside(FOLDER) });
        };
        let folder = self.beside(field.value.as_ref()?.as_str());
        if folder.exists() && !folder.is_dir() {
            self.fault(field.node, format!("{} is no folder: name one", folder.display()));
            return None;
        }
        Some(StoreSettings::Embedded { folder })
    }

    /// Relative paths are relative to the folder of the configuration.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.surroundings.file.parent().unwrap_or(Path::new("")).join(path)
    }

    fn redis(&self, node: NodeId, redis: &Redis) -> Option<RedisSettings> {
        let topology = self.topology(node, redis);
        let hint = "such as `url: rediss://redis.example.com:6379`";
        let urls = self
            .need(node, "url", hint, &redis.url)
            .and_then(|(node, urls)| self.redis_urls(node, urls, topology.as_ref()));
        let ca = self.authorities(&redis.ca);
        if let Some(field) = &redis.ca
            && urls.iter().flatten().any(|url| url.scheme() == "redis")
        {
            self.warn(field.node, "has no effect with a redis:// URL");
        }
        let password = self.redis_password(redis);
        let timeouts = given(&redis.timeouts);
        let (connect, command) =
            timeouts.map_or((&None, &None), |(_, times)| (&times.connect, &times.command));
        let connect_timeout = self.duration(connect, SECOND, SHORTEST..=LONGEST);
        let command_timeout = self.duration(command, SECOND, SHORTEST..=LONGEST);
        let prefix = match given(&redis.prefix) {
            Some((node, prefix)) => self.key_prefix(node, prefix)?,
            None => PREFIX.to_owned(),
        };
        Some(RedisSettings {
            urls: urls?,
            topology: topology?,
            username: given(&redis.username).map(|(_, name)| name.as_str().to_owned()),
            password,
            ca,
            connect_timeout,
            command_timeout,
            prefix,
        })
    }

    fn topology(&self, node: NodeId, redis: &Redis) -> Option<RedisTopology> {
        let is_cluster = given(&redis.cluster).is_some_and(|(_, cluster)| *cluster);
        let Some(field) = &redis.sentinel else {
            return Some(if is_cluster { RedisTopology::Cluster } else { RedisTopology::Single });
        };
        if is_cluster {
            self.fault(node, "has both `cluster` and `sentinel`: keep the one that it is");
            return None;
        }
        let sentinel = field.value.as_ref()?;
        let hint = "the name under which the sentinels know it";
        let (_, master) = self.need(field.node, "master", hint, &sentinel.master)?;
        Some(RedisTopology::Sentinel { master: master.as_str().to_owned() })
    }

    fn redis_urls(
        &self,
        node: NodeId,
        list: &OneOrMany<Text>,
        topology: Option<&RedisTopology>,
    ) -> Option<Vec<Url>> {
        let is_single = topology == Some(&RedisTopology::Single);
        if is_single && list.fields().len() > 1 {
            self.fault(
                node,
                "several are of a cluster, or of sentinels: add `cluster: true` or `sentinel`, or \
                 keep one",
            );
            return None;
        }
        let mut urls: Vec<(NodeId, Url)> = Vec::new();
        for (node, text) in self.items(node, list.fields()) {
            let url = self.redis_url(node, text)?;
            if !is_single && topology.is_some() && !matches!(url.path(), "" | "/") {
                self.fault(
                    node,
                    "has a database, which only a single Redis takes here: give host and port alone",
                );
            }
            if let Some((first, other)) = urls.first()
                && other.scheme() != url.scheme()
            {
                let line = self.line(*first);
                self.fault(
                    node,
                    format!("differs in its scheme from the one on line {line}: use TLS for all, or for none"),
                );
            }
            urls.push((node, url));
        }
        if let Some((node, _)) =
            urls.iter().find(|(_, url)| url.scheme() == "redis" && !is_loopback(url))
        {
            self.warn(
                *node,
                "is redis:// off loopback: the password and what is kept go there in the clear",
            );
        }
        Some(urls.into_iter().map(|(_, url)| url).collect())
    }

    fn redis_url(&self, node: NodeId, text: &Text) -> Option<Url> {
        let url = self.plain_url(node, text, &REDIS)?;
        let database = url.path().trim_start_matches('/');
        let is_number = database.bytes().all(|b| b.is_ascii_digit());
        if url.query().is_some() || !is_number || database.len() > 4 {
            self.fault(
                node,
                "has a path that is not the number of a database, or a query: give host, port \
                 and, if need be, that number",
            );
            return None;
        }
        Some(url)
    }

    /// Of one line, and only where its user is named or is the default one.
    fn redis_password(&self, redis: &Redis) -> Option<SecretString> {
        if let (Some(user), None) = (&redis.username, &redis.password) {
            self.fault(user.node, "is never sent without a `password`: add it beside it");
        }
        let (node, reference) = given(&redis.password)?;
        let (node, content) = self.secret_reference(node, reference, Privacy::Guarded)?;
        let secret = self.trimmed_secret(node, &content)?;
        let Ok(secret) = std::str::from_utf8(&secret) else {
            self.fault(node, "the secret that is named here is not UTF-8: choose another");
            return None;
        };
        Some(SecretString::from(secret))
    }

    /// Braces would say where in a cluster a key lies; stars and the like are looked for with.
    fn key_prefix(&self, node: NodeId, prefix: &Text) -> Option<String> {
        let prefix = prefix.as_str();
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b":-_./".contains(&b);
        if prefix.len() > MAX_PREFIX || !prefix.bytes().all(is_plain) {
            self.fault(
                node,
                format!("must be up to {MAX_PREFIX} letters, digits and : - _ . / alone"),
            );
            return None;
        }
        Some(prefix.to_owned())
    }
}
