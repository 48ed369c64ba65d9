//! What an exchange granted, for as long as tokens descend from it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jwt::json::deserialize_value;
use crate::oauth::scope::Scope;
use crate::time::Timestamp;

/// What was verified and permitted when the subject token came in. A refresh may give less of it,
/// and never more.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    pub client_id: String,
    /// `iss` of the subject token.
    pub issuer: String,
    /// `sub` of the subject token.
    pub subject_of_issuer: String,
    /// `sub` of the minted tokens.
    pub subject: String,
    /// Never empty.
    pub audiences: Vec<String>,
    pub scope: Scope,
    pub claims: Vec<CopiedClaim>,
    pub granted_at: Timestamp,
}

/// A claim of the subject token, for the minted ones.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct CopiedClaim {
    /// Its name in minted tokens.
    pub minted: String,
    /// The claim that it was copied from. Of a mapping that now names another one it is no copy.
    pub subject: String,
    #[serde(deserialize_with = "deserialize_value")]
    pub value: Value,
}

impl std::fmt::Debug for CopiedClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopiedClaim").field("minted", &self.minted).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("granted_at", &self.granted_at).finish_non_exhaustive()
    }
}
