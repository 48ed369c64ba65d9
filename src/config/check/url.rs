//! URLs of the configuration: trusted as written, so written plainly.

use ::url::{Host, Url};

use super::Check;
use crate::config::document::NodeId;
use crate::config::scalar::Text;

/// Whether only this machine can be meant.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether what comes from there comes unaltered.
pub(super) fn is_protected(url: &Url) -> bool {
    url.scheme() == "https" || url.scheme() == "http" && is_loopback(url)
}

impl Check<'_> {
    /// An `http` or `https` URL with a host, without user information and fragment.
    pub(super) fn web_url(&self, node: NodeId, text: &Text) -> Option<Url> {
        let text = text.as_str();
        let refuse = |message: &str| {
            self.fault(node, message);
            None
        };
        // The URL parser mends blanks and backslashes, which nobody meant.
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
            return refuse("has a character that no URL has: percent-encode it");
        }
        let lower = text.to_ascii_lowercase();
        if !lower.starts_with("http://") && !lower.starts_with("https://") {
            return refuse("must be a URL that begins with https:// (or http://)");
        }
        let Ok(url) = Url::parse(text) else {
            return refuse("is not a URL: write it as https://host.example/path");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("has a user name or a password in it: remove them");
        }
        if url.fragment().is_some() {
            return refuse("has a fragment (`#…`): remove it");
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
