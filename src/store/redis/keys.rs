//! What the entries are called. All of one family have the same hash tag, so that a cluster keeps
//! them in one slot.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::exchange::cut_off::Ancestor;
use crate::exchange::opaque::OpaqueId;
use crate::exchange::subject::Once;
use crate::exchange::token_id::FamilyId;
use crate::secret::sha256;

/// What an entry is, as its name tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Family,
    Opaque,
}

/// The names of entries, each of which begins with the same prefix. It has neither braces nor what
/// means something in a glob.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn family(&self, id: FamilyId) -> String {
        format!("{}{{{id}}}:family", self.prefix)
    }

    pub(super) fn opaque(&self, id: &OpaqueId) -> String {
        let locator = URL_SAFE_NO_PAD.encode(id.locator);
        format!("{}{{{locator}}}:at:{}", self.prefix, URL_SAFE_NO_PAD.encode(id.hash))
    }

    pub(super) fn revoked(&self, jwt_id: &str) -> String {
        let hash = URL_SAFE_NO_PAD.encode(sha256(jwt_id.as_bytes()));
        format!("{}revoked:{hash}", self.prefix)
    }

    pub(super) fn once(&self, once: &Once) -> String {
        format!("{}once:{}", self.prefix, URL_SAFE_NO_PAD.encode(once.key))
    }

    pub(super) fn cut_off(&self, ancestor: &Ancestor) -> String {
        format!("{}cut-off:{}", self.prefix, URL_SAFE_NO_PAD.encode(ancestor.key()))
    }

    /// Where the version of all entries is kept.
    pub(super) fn version(&self) -> String {
        format!("{}{{schema}}:version", self.prefix)
    }

    /// A key to try commands on, in the same slot.
    pub(super) fn trial(&self) -> String {
        format!("{}{{schema}}:trial", self.prefix)
    }

    /// A key in another slot.
    pub(super) fn elsewhere(&self) -> String {
        format!("{}{{elsewhere}}:trial", self.prefix)
    }

    /// The glob of all families and opaque access tokens.
    pub(super) fn descendants(&self) -> String {
        format!("{}{{*}}:*", self.prefix)
    }

    /// What an entry is that was found by [`Keys::descendants`].
    pub(super) fn kind(&self, key: &[u8]) -> Option<Kind> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"{")?;
        let (_, rest) = rest.split_at_checked(rest.iter().position(|b| *b == b'}')? + 1)?;
        match rest {
            b":family" => Some(Kind::Family),
            [b':', b'a', b't', b':', ..] => Some(Kind::Opaque),
            _ => None,
        }
    }
}
