//! Where Cambio listens, the upstream, and what clients may take up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::reference::{Privacy, SHORTEST_SECRET};
use super::url::is_protected;
use super::{Check, given};
use crate::config::document::NodeId;
use crate::config::raw::{self, List, Maybe, SecretReference};
use crate::config::scalar::Text;
use crate::config::shape::Field;
use crate::config::{Admin, Limits, Listener, Upstream};
use crate::exchange::throttle::GuessLimits;

const MILLISECONDS: fn(u64) -> Duration = Duration::from_millis;
const SECONDS: fn(u64) -> Duration = Duration::from_secs;

impl Check<'_> {
    fn address(&self, node: NodeId, text: &Text) -> Option<SocketAddr> {
        let address = text.as_str().parse().ok();
        if address.is_none() {
            self.fault(
                node,
                "must be an IP address and a port, such as 127.0.0.1:8080 or [::]:8080",
            );
        }
        address
    }

    pub(super) fn listen(
        &self,
        (node, list): (NodeId, &List<raw::Listen>),
        admin: SocketAddr,
    ) -> Vec<Listener> {
        let mut listeners: Vec<Listener> = Vec::new();
        for (node, listen) in self.items(node, list) {
            let hint = "such as `address: 127.0.0.1:8080`";
            let tls = given(&listen.tls).and_then(|(node, tls)| self.listener_tls(node, tls));
            let Some((node, address)) = self
                .need(node, "address", hint, &listen.address)
                .and_then(|(node, text)| Some((node, self.address(node, text)?)))
            else {
                continue;
            };
            // Port 0 is another port each time.
            let taken = |other: SocketAddr| other == address && address.port() != 0;
            if taken(admin) {
                self.fault(node, "is the address of `admin` too: choose another port");
            } else if listeners.iter().any(|other| taken(other.address)) {
                self.fault(node, "is the address of another listener too: choose another port");
            }
            listeners.push(Listener { address, tls });
        }
        listeners
    }

    pub(super) fn admin(&self, admin: Option<&Field<raw::Admin>>) -> Admin {
        const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
        const LABELS: usize = 200;
        let Some(admin) = admin.and_then(|field| field.value.as_ref()) else {
            return Admin { address: DEFAULT, metric_labels_max: LABELS, token: None };
        };
        let address =
            given(&admin.address).and_then(|(node, text)| Some((node, self.address(node, text)?)));
        if let Some((node, address)) = address
            && !address.ip().is_loopback()
            && admin.token.is_none()
        {
            self.warn(
                node,
                "is open to other machines, from which nothing can be changed without a `token`: \
                 add it",
            );
        }
        Admin {
            address: address.map_or(DEFAULT, |(_, address)| address),
            metric_labels_max: self.number(&admin.metric_labels_max, LABELS, 1..=10_000),
            token: self.admin_token(&admin.token),
        }
    }

    fn admin_token(&self, token: &Maybe<SecretReference>) -> Option<SecretString> {
        let (node, reference) = given(token)?;
        let (node, content) = self.secret_reference(node, reference, Privacy::Guarded)?;
        let token = self.bearer_token(node, &content)?;
        if token.expose_secret().len() < SHORTEST_SECRET {
            self.warn(
                node,
                format!(
                    "the token that is named here has fewer than {SHORTEST_SECRET} characters: \
                     choose a longer one"
                ),
            );
        }
        Some(token)
    }

    pub(super) fn upstream(&self, node: NodeId, upstream: &raw::Upstream) -> Option<Upstream> {
        let ca = self.authorities(&upstream.ca);
        let (connect, read) = given(&upstream.timeouts)
            .map_or((&None, &None), |(_, timeouts)| (&timeouts.connect, &timeouts.read));
        let connect_timeout = self.duration(connect, SECONDS(2), MILLISECONDS(10)..=SECONDS(60));
        let read_timeout = self.duration(read, SECONDS(30), MILLISECONDS(10)..=SECONDS(3600));
        let hint = "such as `url: https://idp.example.com`";
        let (node, text) = self.need(node, "url", hint, &upstream.url)?;
        let url = self.origin_url(node, text)?;
        if !is_protected(&url) {
            self.warn(node, "is plain http off loopback: secrets and tokens go there in the clear");
        }
        if let Some(ca) = &upstream.ca
            && url.scheme() == "http"
        {
            self.warn(ca.node, "has no effect with an http URL");
        }
        Some(Upstream { url, ca, connect_timeout, read_timeout })
    }

    pub(super) fn limits(&self, limits: Option<&Field<raw::Limits>>) -> Limits {
        const NONE: raw::Limits = raw::Limits {
            connections: None,
            connections_per_address: None,
            requests: None,
            forwarded_requests: None,
            header_timeout: None,
            body_timeout: None,
            idle_timeout: None,
            drain_timeout: None,
            failed_authentications: None,
        };
        let limits = limits.and_then(|field| field.value.as_ref()).unwrap_or(&NONE);
        let short = || MILLISECONDS(100)..=SECONDS(300);
        let many = || 1..=1_000_000;
        let share = &limits.connections_per_address;
        Limits {
            connections: self.number(&limits.connections, 10_000, many()),
            connections_per_address: share.as_ref().map(|_| self.number(share, 1, many())),
            requests: self.number(&limits.requests, 1000, many()),
            forwarded_requests: self.number(&limits.forwarded_requests, 2000, many()),
            header_timeout: self.duration(&limits.header_timeout, SECONDS(10), short()),
            body_timeout: self.duration(&limits.body_timeout, SECONDS(10), short()),
            idle_timeout: self.duration(
                &limits.idle_timeout,
                SECONDS(60),
                MILLISECONDS(100)..=SECONDS(3600),
            ),
            drain_timeout: self.duration(
                &limits.drain_timeout,
                SECONDS(30),
                Duration::ZERO..=SECONDS(3600),
            ),
            failed_authentications: self.guess_limits(&limits.failed_authentications),
        }
    }

    fn guess_limits(&self, limits: &Maybe<raw::FailedAuthentications>) -> GuessLimits {
        let limits = given(limits).map(|(_, limits)| limits);
        let number = |field: Option<&Maybe<usize>>, default: usize| {
            let number = self.number(field.unwrap_or(&None), default, 1..=1_000_000);
            u32::try_from(number).unwrap_or(u32::MAX)
        };
        GuessLimits {
            client_and_address: number(limits.map(|one| &one.per_client_and_address), 20),
            client: number(limits.map(|one| &one.per_client), 200),
            address: number(limits.map(|one| &one.per_address), 2000),
        }
    }
}
