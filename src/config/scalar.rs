//! Scalars as they are written: text of one line, durations, and one-or-several.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::shape::Field;

/// The longest text that a setting takes, in bytes.
pub(super) const MAX_TEXT: usize = 2048;

/// Text of one line: not empty, without control characters.
pub(super) struct Text(String);

impl Text {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Err(D::Error::custom("is empty: give a value, or leave the key out"));
        }
        if text.len() > MAX_TEXT {
            return Err(D::Error::custom(format!("is longer than {MAX_TEXT} bytes: shorten it")));
        }
        if text.chars().any(char::is_control) {
            return Err(D::Error::custom(
                "has a control character, such as a line end: write it on one line",
            ));
        }
        Ok(Self(text))
    }
}

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_TEXT })
    }
}

/// A duration such as `30s` or `1h30m`.
#[derive(Clone, Copy)]
pub(super) struct Span(pub(super) Duration);

impl Span {
    fn parse(text: &str) -> Option<Duration> {
        let mut total = Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let number: u64 = number.parse().ok()?;
            let part = match unit {
                "ms" => Duration::from_millis(number),
                "s" => Duration::from_secs(number),
                "m" => Duration::from_secs(number.checked_mul(60)?),
                "h" => Duration::from_secs(number.checked_mul(3600)?),
                "d" => Duration::from_secs(number.checked_mul(86400)?),
                _ => return None,
            };
            total = total.checked_add(part)?;
            rest = tail;
        }
        (!text.is_empty()).then_some(total)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a duration is a number with its unit (ms, s, m, h or d), such as \
                                30s or 1h30m";
        let text = DurationText::deserialize(deserializer)?;
        Self::parse(&text.0).map(Self).ok_or_else(|| D::Error::custom(EXPECTED))
    }
}

/// Text, or the number of somebody who left the unit out.
struct DurationText(String);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = DurationText;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration such as 30s or 1h30m")
            }

            fn visit_str<E>(self, text: &str) -> Result<DurationText, E> {
                Ok(DurationText(text.to_owned()))
            }

            fn visit_u64<E>(self, _: u64) -> Result<DurationText, E> {
                Ok(DurationText(String::new()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$" })
    }
}

/// Writes a duration as [`Span`] reads it.
pub(super) fn written(duration: Duration) -> String {
    let (secs, millis) = (duration.as_secs(), duration.subsec_millis());
    match secs {
        _ if millis > 0 => format!("{}ms", duration.as_millis()),
        0 => "0s".to_owned(),
        secs if secs % 86400 == 0 => format!("{}d", secs / 86400),
        secs if secs % 3600 == 0 => format!("{}h", secs / 3600),
        secs if secs % 60 == 0 => format!("{}m", secs / 60),
        secs => format!("{secs}s"),
    }
}

/// One value, or a list of them.
#[derive(Deserialize, JsonSchema)]
#[schemars(untagged, inline)]
pub(super) enum OneOrMany<T> {
    #[serde(rename = "<one>")]
    One(Field<T>),
    #[serde(rename = "<list>")]
    Many(Vec<Field<T>>),
}

impl<T> OneOrMany<T> {
    pub(super) fn fields(&self) -> &[Field<T>] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1m1m", 120_000),
        ] {
            assert_eq!(Span::parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in
            ["", "30", "s", "1.5h", "-1s", "1 h", "1H", "1w", "99999999999999999999s", "1h30"]
        {
            assert_eq!(Span::parse(bad), None, "{bad}");
        }
        assert_eq!(Span::parse(&format!("{}d", u64::MAX)), None);
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        for text in ["0s", "1s", "90s", "2m", "36h", "1d", "250ms", "1500ms"] {
            assert_eq!(written(Span::parse(text).unwrap()), text);
        }
    }
}
