//! The values that metric labels may have: closed sets, whatever requests bring.

use std::collections::HashSet;
use std::sync::Arc;

use http::Method;

/// Stands for a request that names nobody configured.
pub const UNKNOWN: &str = "unknown";
/// Stands for whatever has no label of its own.
pub const OTHER: &str = "other";

/// The configured names that have a label of their own.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    /// The first `most` distinct names.
    pub(super) fn first<'a>(names: impl Iterator<Item = &'a Arc<str>>, most: usize) -> Self {
        let mut own = HashSet::new();
        for name in names {
            if own.len() == most {
                break;
            }
            own.insert(Arc::clone(name));
        }
        Self(own)
    }

    pub(super) fn label<'a>(&self, name: Option<&'a str>) -> &'a str {
        match name {
            None => UNKNOWN,
            Some(name) if self.0.contains(name) => name,
            Some(_) => OTHER,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// Whether a series with this label may stand.
    pub(super) fn has_label(&self, label: &str) -> bool {
        [UNKNOWN, OTHER].contains(&label) || self.0.contains(label)
    }
}

/// The methods of RFC 9110 §9 and RFC 5789, then all others.
pub(super) const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", OTHER];

/// The place of a method in [`METHODS`].
pub(super) fn method_index(method: &Method) -> usize {
    let known = METHODS.iter().position(|known| *known == method.as_str());
    known.unwrap_or(METHODS.len() - 1)
}

/// The classes of RFC 9110 §15, then what is none: no answer, or a status outside them.
pub(super) const STATUS_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// The place of a status in [`STATUS_CLASSES`].
pub(super) fn status_index(status: Option<u16>) -> usize {
    match status {
        Some(status @ 100..=599) => usize::from(status / 100) - 1,
        Some(_) | None => STATUS_CLASSES.len() - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_first_are_other() {
        let names: Vec<Arc<str>> = ["a", "b", "a", "c"].map(Arc::from).to_vec();
        let names = Names::first(names.iter(), 2);
        assert_eq!(names.label(Some("a")), "a");
        assert_eq!(names.label(Some("b")), "b");
        assert_eq!(names.label(Some("c")), OTHER);
        assert_eq!(names.label(None), UNKNOWN);
        assert!(Names::first(names.0.iter(), 0).0.is_empty());
    }

    #[test]
    fn methods_and_statuses_are_of_closed_sets() {
        let method = |name: &[u8]| METHODS[method_index(&Method::from_bytes(name).unwrap())];
        assert_eq!(method(b"PATCH"), "PATCH");
        assert_eq!(method(b"other"), OTHER);
        assert_eq!(method(b"get"), OTHER);
        assert_eq!(method(b"PROPFIND"), OTHER);
        let class = |status| STATUS_CLASSES[status_index(status)];
        assert_eq!(class(Some(101)), "1xx");
        assert_eq!(class(Some(599)), "5xx");
        for none in [None, Some(0), Some(99), Some(600), Some(u16::MAX)] {
            assert_eq!(class(none), "none");
        }
    }
}
