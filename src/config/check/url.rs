//! URLs of the configuration: trusted as written, so written plainly.

use std::net::Ipv4Addr;

use ::url::{Host, Url};

use super::Check;
use crate::config::document::NodeId;
use crate::config::scalar::Text;

/// What URLs there are, in words.
pub(super) struct Kind {
    schemes: [&'static str; 2],
    begins: &'static str,
    example: &'static str,
    /// Where credentials belong.
    credentials: &'static str,
}

pub(super) const WEB: Kind = Kind {
    schemes: ["https://", "http://"],
    begins: "https:// (or http://)",
    example: "https://host.example/path",
    credentials: "remove them",
};

pub(super) const REDIS: Kind = Kind {
    schemes: ["rediss://", "redis://"],
    begins: "rediss:// (or redis://)",
    example: "rediss://host.example:6379",
    credentials: "name them beside it, as `username` and `password`",
};

/// Whether only this machine can be meant.
pub(in crate::config) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // Under a scheme that is not the web's, an IPv4 address counts as a name.
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether what comes from there comes unaltered.
pub(in crate::config) fn is_protected(url: &Url) -> bool {
    url.scheme() == "https" || url.scheme() == "http" && is_loopback(url)
}

impl Check<'_> {
    /// An `http` or `https` URL with a host, without user information and fragment.
    pub(super) fn web_url(&self, node: NodeId, text: &Text) -> Option<Url> {
        self.plain_url(node, text, &WEB)
    }

    /// A URL of this kind with a host, without user information and fragment.
    pub(super) fn plain_url(&self, node: NodeId, text: &Text, kind: &Kind) -> Option<Url> {
        let text = text.as_str();
        let refuse = |message: String| {
            self.fault(node, message);
            None
        };
        // The URL parser mends blanks and backslashes, which nobody meant.
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
            return refuse("has a character that no URL has: percent-encode it".to_owned());
        }
        let lower = text.to_ascii_lowercase();
        if !kind.schemes.iter().any(|scheme| lower.starts_with(scheme)) {
            return refuse(format!("must be a URL that begins with {}", kind.begins));
        }
        let url = Url::parse(text).ok();
        let Some(url) = url.filter(|url| url.host_str().is_some_and(|host| !host.is_empty()))
        else {
            return refuse(format!("is not a URL: write it as {}", kind.example));
        };
        if !url.username().is_empty() || url.password().is_some() {
            let mend = kind.credentials;
            return refuse(format!("has a user name or a password in it: {mend}"));
        }
        if url.fragment().is_some() {
            return refuse("has a fragment (`#…`): remove it".to_owned());
        }
        Some(url)
    }

    /// A URL that keys are fetched from.
    pub(super) fn fetched_url(&self, node: NodeId, text: &Text) -> Option<Url> {
        let url = self.web_url(node, text)?;
        if !is_protected(&url) {
            self.fault(
                node,
                "is plain http off loopback, where anybody on the way can put in other keys: \
                 use https",
            );
            return None;
        }
        Some(url)
    }

    /// Scheme, host and port alone.
    pub(super) fn origin_url(&self, node: NodeId, text: &Text) -> Option<Url> {
        let url = self.web_url(node, text)?;
        if url.path() != "/" || url.query().is_some() {
            self.fault(node, "has a path or a query: give scheme, host and port alone");
            return None;
        }
        Some(url)
    }
}
