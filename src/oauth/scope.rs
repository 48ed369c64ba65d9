//! Scope values (RFC 6749 §3.3).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Scope tokens in the order in which they were first named, none twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(Vec<String>);

impl Scope {
    /// `None` where a token has a character outside `%x21 / %x23-5B / %x5D-7E`.
    pub fn parse(value: &str) -> Option<Self> {
        let mut scope = Self::default();
        for token in value.split(' ').filter(|token| !token.is_empty()) {
            scope.push(token)?;
        }
        Some(scope)
    }

    /// Adds one scope token; `None` where it is not one.
    pub fn push(&mut self, token: &str) -> Option<()> {
        let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        if token.is_empty() || !token.bytes().all(allowed) {
            return None;
        }
        if !self.contains(token) {
            self.0.push(token.to_owned());
        }
        Some(())
    }

    pub fn contains(&self, token: &str) -> bool {
        self.0.iter().any(|own| own == token)
    }

    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.0.iter().all(|token| other.contains(token))
    }

    /// What both have, in the order of this one.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|token| other.contains(token)).cloned().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a scope"))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_split_at_spaces_and_kept_once() {
        let scope = Scope::parse(" read  write read ").unwrap();
        assert_eq!(scope.to_string(), "read write");
        assert!(Scope::parse("").unwrap().is_empty());
    }

    #[test]
    fn characters_outside_the_grammar_are_refused() {
        for bad in ["a\"b", "a\\b", "a\tb", "a\nb", "ä", "a\u{7f}"] {
            assert_eq!(Scope::parse(bad), None, "{bad:?}");
        }
        assert!(Scope::parse("https://api.example/read!#[]~").is_some());
    }

    #[test]
    fn a_subset_has_no_token_of_its_own() {
        let all = Scope::parse("read write").unwrap();
        assert!(Scope::parse("write").unwrap().is_subset_of(&all));
        assert!(Scope::default().is_subset_of(&all));
        assert!(!Scope::parse("write admin").unwrap().is_subset_of(&all));
    }
}
