//! A value with its place, and why a value has the wrong shape.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, Expected, MapAccess, Unexpected, Visitor};

use super::document::NodeId;
use super::suggestion::did_you_mean;

/// A value and its place. Where the value could not be read, that was reported.
pub(super) struct Field<T> {
    pub(super) node: NodeId,
    pub(super) value: Option<T>,
}

/// As [`deserialize_struct`](Deserializer::deserialize_struct)'s name: a [`Field`] is asked for.
pub(super) const FIELD: &str = "<field>";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct(FIELD, &[], FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<T>, A::Error> {
        let node = NodeId(map.next_value()?);
        // The error was reported on its way here.
        Ok(Field { node, value: map.next_value().ok() })
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Why a value has the wrong shape. The sentence never has the value in it.
#[derive(Debug)]
pub(super) struct ShapeError(Cow<'static, str>);

impl ShapeError {
    /// For what was reported already.
    pub(super) const REPORTED: Self = Self(Cow::Borrowed(""));

    pub(super) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self(message.into())
    }

    pub(super) fn is_reported(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ShapeError {}

/// Keys and values that are read to be refused with a sentence of their own, and not offered.
const LATER: [&str; 2] = ["tests", "authentication"];

pub(super) fn offered<'a>(known: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    known.iter().copied().filter(|name| !LATER.contains(name))
}

pub(super) fn listed(known: &[&str]) -> String {
    offered(known).collect::<Vec<_>>().join(", ")
}

impl de::Error for ShapeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("{expected} is expected here"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("{expected} is expected here"))
    }

    fn unknown_variant(written: &str, known: &'static [&'static str]) -> Self {
        let meant = did_you_mean(written, offered(known));
        Self::new(format!("must be one of {}{meant}", listed(known)))
    }
}
