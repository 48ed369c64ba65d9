//! Serde over a [`Document`]: a wrong value is noted with its place and left out, and the rest is
//! read on, so that one pass names everything that has the wrong shape.

use std::borrow::Cow;

use serde::de::value::StrDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer as _, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::document::{Document, Kind, NodeId, Scalar, quotable};
use super::fault::{Findings, Severity};
use super::shape::{FIELD, Field, ShapeError, listed, offered};
use super::suggestion::did_you_mean;

/// Reads the whole document as a `T`.
pub(super) fn read<'de, T: Deserialize<'de>>(
    document: &'de Document,
    findings: &'de Findings,
) -> Option<Field<T>> {
    Field::deserialize(NodeDeserializer { document, findings, node: NodeId::ROOT }).ok()
}

#[derive(Clone, Copy)]
struct NodeDeserializer<'de> {
    document: &'de Document,
    findings: &'de Findings,
    node: NodeId,
}

impl<'de> NodeDeserializer<'de> {
    fn kind(&self) -> &'de Kind {
        self.document.kind(self.node)
    }

    fn at(self, node: NodeId) -> Self {
        Self { node, ..self }
    }

    fn report(&self, error: &ShapeError) {
        if !error.is_reported() {
            let mark = self.document.mark(self.node);
            let path = self.document.path(self.node);
            self.findings.add(Severity::Fault, mark, path, error.to_string());
        }
    }

    /// Something else than `expected` stands here.
    fn instead_of(&self, expected: impl Into<Cow<'static, str>>) -> ShapeError {
        const NOTHING: &str = "nothing stands here: give a value, or leave the key out";
        match self.kind() {
            Kind::Refused => ShapeError::REPORTED,
            kind @ Kind::Scalar { .. } if kind.scalar() == Some(Scalar::Nothing) => {
                ShapeError::new(NOTHING)
            }
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) => ShapeError::new(expected),
        }
    }

    fn text(&self) -> Result<&'de str, ShapeError> {
        match self.kind().scalar() {
            Some(Scalar::Text(text)) => Ok(text),
            Some(Scalar::Switch(_) | Scalar::Natural(_) | Scalar::Number) => Err(ShapeError::new(
                "text is expected here, and this is not text: put it in quotes",
            )),
            Some(Scalar::Nothing) | None => {
                Err(self.instead_of("text is expected here, not a list or a mapping"))
            }
        }
    }

    /// What is said where a mapping is missing.
    fn mapping_expected(name: &str, keys: &[&str]) -> String {
        match name {
            "ClientSecret" => "a secret never stands in this file itself: write { env: NAME }, \
                 { file: PATH } or { hash: … } with what `cambio hash-secret` prints"
                .to_owned(),
            "SecretReference" => "a secret never stands in this file itself: write { env: NAME } \
                 or { file: PATH }"
                .to_owned(),
            _ => format!("a mapping is expected here, with the keys {}", listed(keys)),
        }
    }

    /// Reports the keys that a mapping can't have and gives the others.
    fn entries(
        &self,
        name: &str,
        known: &'static [&'static str],
    ) -> Result<std::vec::IntoIter<NodeId>, ShapeError> {
        let Kind::Mapping(entries) = self.kind() else {
            return Err(self.instead_of(Self::mapping_expected(name, known)));
        };
        let is_known =
            |entry: &NodeId| self.document.key(*entry).is_some_and(|key| known.contains(&key));
        let (kept, unknown): (Vec<NodeId>, Vec<NodeId>) =
            entries.iter().copied().partition(is_known);
        for entry in unknown {
            self.report_unknown(entry, name, known);
        }
        Ok(kept.into_iter())
    }

    fn report_unknown(&self, entry: NodeId, name: &str, known: &[&str]) {
        let key = self.document.key(entry).unwrap_or_default();
        let all = listed(known);
        // `{hunter2}` is a mapping with a key `hunter2`.
        let message = if name.ends_with("Secret") || name.ends_with("SecretReference") {
            format!("unknown key; known here: {all}")
        } else if key == "<<" {
            "merge keys (`<<`) are not taken: write the values out".to_owned()
        } else {
            let meant = did_you_mean(key, offered(known));
            format!("unknown key `{}`{meant}; known here: {all}", quotable(key))
        };
        let (mark, path) = (self.document.key_mark(entry), self.document.path(self.node));
        self.findings.add(Severity::Fault, mark, path, message);
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de> {
    type Error = ShapeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match self.kind() {
            Kind::Refused => Err(ShapeError::REPORTED),
            Kind::Sequence(_) => self.deserialize_seq(visitor),
            Kind::Mapping(_) => self.deserialize_map(visitor),
            Kind::Scalar { text, .. } => match self.kind().scalar() {
                Some(Scalar::Switch(value)) => visitor.visit_bool(value),
                Some(Scalar::Natural(value)) => visitor.visit_u64(value),
                Some(Scalar::Nothing) => visitor.visit_unit(),
                Some(Scalar::Text(_) | Scalar::Number) | None => visitor.visit_borrowed_str(text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match self.kind().scalar() {
            Some(Scalar::Switch(value)) => visitor.visit_bool(value),
            _ => Err(self.instead_of("true or false is expected here, without quotes")),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match self.kind().scalar() {
            Some(Scalar::Natural(value)) => visitor.visit_u64(value),
            _ => Err(self.instead_of("a whole number is expected here, such as 100")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        let Kind::Sequence(items) = self.kind() else {
            return Err(self.instead_of("a list is expected here: `- …` a line, or [ … ]"));
        };
        visitor.visit_seq(Items { at: self, rest: items.iter() })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        let Kind::Mapping(entries) = self.kind() else {
            return Err(self.instead_of("a mapping is expected here: `key: value` a line"));
        };
        visitor.visit_map(Entries { at: self, rest: entries.clone().into_iter(), value: self.node })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        if name == FIELD {
            return visitor.visit_map(Placed { at: self, is_told: false });
        }
        let rest = self.entries(name, fields)?;
        visitor.visit_map(Entries { at: self, rest, value: self.node })
    }

    /// A variant is a word; or, where the variants are called `<text>`, `<list>` and so on, it is
    /// the one that what stands here is, or else `<one>`.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        if !variants.iter().any(|variant| variant.starts_with('<')) {
            return visitor.visit_enum(Choice { at: self, variant: self.text()? });
        }
        let kind = match self.kind() {
            Kind::Refused => return Err(ShapeError::REPORTED),
            Kind::Sequence(_) => "<list>",
            Kind::Mapping(_) => "<mapping>",
            Kind::Scalar { .. } => match self.kind().scalar() {
                Some(Scalar::Switch(_)) => "<switch>",
                _ => "<text>",
            },
        };
        let variant = [kind, "<one>"].into_iter().find(|kind| variants.contains(kind));
        let Some(variant) = variant else {
            let expected: Vec<_> =
                variants.iter().map(|variant| variant.trim_matches(['<', '>'])).collect();
            let expected = format!("a {} is expected here", expected.join(" or a "));
            return Err(self.instead_of(expected));
        };
        visitor.visit_enum(Choice { at: self, variant })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct identifier
    }
}

/// A [`Field`] as a mapping of two values: the node, and what stands there.
struct Placed<'de> {
    at: NodeDeserializer<'de>,
    is_told: bool,
}

impl<'de> MapAccess<'de> for Placed<'de> {
    type Error = ShapeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        _: K,
    ) -> Result<Option<K::Value>, ShapeError> {
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ShapeError> {
        if !std::mem::replace(&mut self.is_told, true) {
            return seed.deserialize(self.at.node.0.into_deserializer());
        }
        seed.deserialize(self.at).inspect_err(|error| self.at.report(error))
    }
}

struct Items<'de> {
    at: NodeDeserializer<'de>,
    rest: std::slice::Iter<'de, NodeId>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = ShapeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ShapeError> {
        self.rest.next().map(|node| seed.deserialize(self.at.at(*node))).transpose()
    }
}

struct Entries<'de> {
    at: NodeDeserializer<'de>,
    rest: std::vec::IntoIter<NodeId>,
    value: NodeId,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = ShapeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ShapeError> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        self.value = node;
        let key = self.at.document.key(node).unwrap_or_default();
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ShapeError> {
        seed.deserialize(self.at.at(self.value))
    }
}

struct Choice<'de> {
    at: NodeDeserializer<'de>,
    variant: &'de str,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = ShapeError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self), ShapeError> {
        Ok((seed.deserialize(StrDeserializer::new(self.variant))?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = ShapeError;

    fn unit_variant(self) -> Result<(), ShapeError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, ShapeError> {
        seed.deserialize(self.at)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ShapeError> {
        self.at.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        self.at.deserialize_struct("", fields, visitor)
    }
}
