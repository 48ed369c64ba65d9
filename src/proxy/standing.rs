//! Whether an access token of ours still holds, by what is kept of it.

use crate::exchange::issued::{AccessToken, Inactive, KeptOfAccess};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// Asks the store all that decides it.
pub async fn of_access(
    store: &dyn Store,
    token: &AccessToken,
    now: Timestamp,
) -> Result<Result<(), Inactive>, StoreError> {
    let kept = KeptOfAccess {
        is_revoked: store.is_access_token_revoked(token.jwt_id()).await?,
        family: match token.family() {
            Some(family) => store.family(family).await?,
            None => None,
        },
        cut_off: store.cut_off_of(&token.descent().ancestors).await?,
    };
    Ok(token.standing(&kept, now))
}
