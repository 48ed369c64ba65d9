//! A JSON object that is changed where it stands: order, numbers, blanks and escapes of all else
//! stay as they were written.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An object and the text that it stands in.
pub(super) struct Object<'a> {
    text: &'a str,
    members: Vec<(String, &'a str)>,
}

/// Names and raw values in their order, whether a name stands there once or more often.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The members of an object, each as often as it stands there; none of what is no object.
pub(super) fn members(text: &str) -> Vec<(String, &str)> {
    let members =
        serde_json::from_str::<Members<'_>>(text).map_or_else(|_| Vec::new(), |all| all.0);
    members.into_iter().map(|(name, value)| (name, value.get())).collect()
}

/// The elements of an array.
pub(super) fn elements(text: &str) -> Option<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

/// A string, unescaped.
pub(super) fn string(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

/// A value of ours as it is written.
pub(super) fn written(value: &impl Serialize) -> String {
    // Strings and what is made of them can always be written.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

impl<'a> Object<'a> {
    /// Names must be unique: whoever reads such an object may take either value (RFC 8259 §4).
    pub(super) fn parse(document: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(document).ok()?;
        let Members(all) = serde_json::from_str(text).ok()?;
        let mut names = HashSet::new();
        if !all.iter().all(|(name, _)| names.insert(name.as_str())) {
            return None;
        }
        drop(names);
        let members = all.into_iter().map(|(name, value)| (name, value.get())).collect();
        Some(Self { text, members })
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.members.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
    }

    /// As [`Object::get`], where it is anything at all.
    pub(super) fn given(&self, name: &str) -> Option<&'a str> {
        self.get(name).filter(|value| *value != "null")
    }

    /// The text with other values, and with further members at its end.
    pub(super) fn with(&self, changes: &[(&str, String)]) -> Option<String> {
        let mut edits: Vec<(usize, usize, String)> = Vec::new();
        let mut added = String::new();
        let is_empty = self.members.is_empty();
        for (name, value) in changes {
            if let Some(old) = self.get(name) {
                let at = offset(self.text, old)?;
                edits.push((at, at + old.len(), value.clone()));
            } else {
                if !(is_empty && added.is_empty()) {
                    added.push(',');
                }
                let _ = write!(added, "{}:{value}", written(name));
            }
        }
        let end = match self.members.last() {
            Some((_, last)) => offset(self.text, last)? + last.len(),
            None => self.text.find('{')? + 1,
        };
        edits.push((end, end, added));
        edits.sort_by_key(|(from, to, _)| (*from, *to));
        let mut out = String::with_capacity(self.text.len() + 1024);
        let mut at = 0;
        for (from, to, new) in edits {
            out += self.text.get(at..from)?;
            out += &new;
            at = to;
        }
        out += self.text.get(at..)?;
        Some(out)
    }
}

/// Appends elements to an array as it was written.
pub(super) fn append(array: &str, added: &[String]) -> Option<String> {
    if added.is_empty() {
        return Some(array.to_owned());
    }
    let added = added.join(",");
    let at = match elements(array)?.last() {
        Some(last) => {
            let end = offset(array, last)? + last.len();
            return Some(format!("{},{added}{}", array.get(..end)?, array.get(end..)?));
        }
        None => array.find('[')? + 1,
    };
    Some(format!("{}{added}{}", array.get(..at)?, array.get(at..)?))
}

/// Where a part of `text` begins in it.
fn offset(text: &str, part: &str) -> Option<usize> {
    part.as_ptr().addr().checked_sub(text.as_ptr().addr()).filter(|at| *at <= text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(document: &str, changes: &[(&str, &str)]) -> String {
        let changes: Vec<_> =
            changes.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Object::parse(document.as_bytes()).unwrap().with(&changes).unwrap()
    }

    #[test]
    fn what_is_not_changed_stays_to_the_byte() {
        let document = " {\n\t\"\\u0061\" : 1e400 , \"b\\/\":[ {\"x\":1.50,\"x\":2} ]\r\n} \n";
        assert_eq!(with(document, &[]), document);
        assert_eq!(
            with(document, &[("new", "true"), ("a", "0"), ("other", "[]")]),
            " {\n\t\"\\u0061\" : 0 , \"b\\/\":[ {\"x\":1.50,\"x\":2} ],\"new\":true,\"other\":[]\r\n} \n"
        );
        assert_eq!(
            with(document, &[("b/", "7")]),
            " {\n\t\"\\u0061\" : 1e400 , \"b\\/\":7\r\n} \n"
        );
        assert_eq!(with("{ }", &[("a", "1"), ("b", "2")]), "{\"a\":1,\"b\":2 }");
    }

    #[test]
    fn elements_are_appended_where_the_last_one_ends() {
        let append = |array: &str, added: &[&str]| {
            let added: Vec<String> = added.iter().map(|one| (*one).to_owned()).collect();
            append(array, &added)
        };
        assert_eq!(
            append("[ 1 , {\"]\":\"]\"}\n ]", &["2", "3"]).unwrap(),
            "[ 1 , {\"]\":\"]\"},2,3\n ]"
        );
        assert_eq!(append("[\n]", &["2", "3"]).unwrap(), "[2,3\n]");
        assert_eq!(append("[ 1 ]", &[]).unwrap(), "[ 1 ]");
        assert_eq!(append("{}", &["1"]), None);
    }

    #[test]
    fn a_name_that_stands_twice_makes_no_object() {
        assert!(Object::parse(br#"{"a":1,"b":2}"#).is_some());
        for document in [&br#"{"a":1,"a":1}"#[..], br#"{"a":1,"\u0061":1}"#, b"[]", b"", b"{} {}"] {
            assert!(Object::parse(document).is_none(), "{}", document.escape_ascii());
        }
        // Within a value they are somebody else's.
        assert_eq!(members(r#"{"a":1,"a":2}"#), [("a".into(), "1"), ("a".into(), "2")]);
    }
}
