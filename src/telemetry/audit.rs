//! Audit events: one for each decision.

use crate::exchange::Record;
use crate::exchange::error::Refusal;

/// Writes the audit event of one exchange, target `audit`.
pub fn exchange(decision: &str, record: &Record, refusal: Option<Refusal>) {
    let _ = (decision, record, refusal);
    todo!()
}
