//! JSON as a security decision needs it: no name twice at any depth, bounded nesting, bounded in how
//! much memory it takes, nothing after the end (RFC 7515 §4, RFC 7519 §4, RFC 8725 §2.4).

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 32;

/// How many values there may be, at all depths together: more than any document of use has. The
/// shortest take two bytes in the text, and many times that in memory.
pub const MAX_VALUES: usize = 40_000;

/// The text is not JSON, or not an object, or has a name twice, or nests too deep, or has too many
/// values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed JSON object without repeated names")]
pub struct NotStrictJson;

/// Reads one JSON object.
pub fn parse_object(text: &[u8]) -> Result<Map<String, Value>, NotStrictJson> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let left = Cell::new(MAX_VALUES);
    let strict = Strict { depth: 0, left: &left };
    let value = strict.deserialize(&mut deserializer).map_err(|_| NotStrictJson)?;
    deserializer.end().map_err(|_| NotStrictJson)?;
    match value {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(NotStrictJson)
        }
    }
}

/// Reads one value as [`parse_object`] does, for `deserialize_with`. The library's own way to read a
/// [`Value`] takes an object with a certain name in it for the text that is its value.
pub fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let left = Cell::new(MAX_VALUES);
    Strict { depth: 0, left: &left }.deserialize(deserializer)
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    /// How many values may still come.
    left: &'a Cell<usize>,
}

impl Strict<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom("nests too deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| D::Error::custom("has too many values"))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated names")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_it_stands() {
        let object = parse_object(br#" {"a":[1,-2,0.5,true,null,{"b":"\u00e4"}]} "#).unwrap();
        assert_eq!(Value::Object(object), serde_json::json!({"a":[1,-2,0.5,true,null,{"b":"ä"}]}));
    }

    /// What the library's own reader takes for something else.
    #[test]
    fn no_name_has_a_meaning_of_its_own() {
        for inner in [r#""x""#, r#""\"admin\"""#, "1", r#"{"a":1}"#] {
            let text = format!(r#"{{"a":{{"$serde_json::private::RawValue":{inner}}}}}"#);
            let object = parse_object(text.as_bytes()).unwrap();
            let inner = parse_object(format!("{{\"x\":{inner}}}").as_bytes()).unwrap();
            assert_eq!(object["a"]["$serde_json::private::RawValue"], inner["x"]);
            let written = serde_json::to_string(&object).unwrap();
            assert_eq!(written, text);
        }
    }

    /// A copied claim says what it said, to the last bit.
    #[test]
    fn a_number_is_the_one_that_is_nearest_to_its_decimals() {
        let object = parse_object(b"{\"a\":7.038531e-26}").unwrap();
        assert_eq!(object["a"].as_f64(), Some(7.038_531e-26));
    }

    #[test]
    fn whatever_is_not_strict_is_refused() {
        let cases: [&[u8]; 16] = [
            b"",
            b"[]",
            b"1",
            b"\"x\"",
            b"null",
            b"{\"a\":1,\"a\":2}",
            b"{\"a\":1,\"\\u0061\":2}",
            b"{\"a\":[{\"b\":1,\"b\":1}]}",
            b"{\"a\":NaN}",
            b"{\"a\":1e999}",
            b"{\"a\":Infinity}",
            b"{}x",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\xff\"}",
            b"{\x00}",
        ];
        for text in cases {
            assert_eq!(parse_object(text), Err(NotStrictJson), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(parse_object(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(parse_object(nested(MAX_DEPTH).as_bytes()).is_err());
        assert!(parse_object(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        // The object and the array are values, too.
        let wide = |n: usize| format!("{{\"a\":[{}0]}}", "[],".repeat(n - 3));
        assert!(parse_object(wide(MAX_VALUES).as_bytes()).is_ok());
        assert_eq!(parse_object(wide(MAX_VALUES + 1).as_bytes()), Err(NotStrictJson));
        let names: Vec<_> = (0..MAX_VALUES).map(|n| format!("\"{n}\":0")).collect();
        assert_eq!(parse_object(format!("{{{}}}", names.join(",")).as_bytes()), Err(NotStrictJson));
    }
}
