//! What is wrong with the upstream's documents: said once in the log, and shown as long as it is so.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::overlay::finding::Finding;

/// Findings by the place of the document.
#[derive(Debug, Default)]
pub struct Noted(Mutex<BTreeMap<String, Vec<Finding>>>);

impl Noted {
    /// What is wrong with a document now. What is new is logged.
    pub fn note(&self, place: &str, findings: Vec<Finding>) {
        let mut noted = self.0.lock();
        let known = noted.get(place);
        let is_new = |finding: &&Finding| !known.is_some_and(|known| known.contains(finding));
        for finding in findings.iter().filter(is_new) {
            let code = finding.code();
            if finding.is_error() {
                tracing::error!(place, finding = code, "{finding}");
            } else {
                tracing::warn!(place, finding = code, "{finding}");
            }
        }
        if findings.is_empty() {
            noted.remove(place);
        } else {
            noted.insert(place.to_owned(), findings);
        }
    }

    pub fn all(&self) -> Vec<(String, Finding)> {
        let noted = self.0.lock();
        let all = noted.iter().flat_map(|(place, findings)| {
            findings.iter().map(|finding| (place.clone(), finding.clone()))
        });
        all.collect()
    }
}
