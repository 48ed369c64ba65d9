//! The JSON Schema of the configuration, from the shapes that read it.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::Value;

use super::raw::Raw;

/// JSON Schema 2020-12.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(NeverNull);
    settings.into_generator().into_root_schema_for::<Raw>()
}

/// A key that may be left out may still not stand there without a value.
#[derive(Clone, Debug)]
struct NeverNull;

impl Transform for NeverNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|name| name != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                schema.insert("type".to_owned(), one);
            }
        }
        if let Some(Value::Array(values)) = schema.get_mut("enum") {
            values.retain(|value| !value.is_null());
        }
        if let Some(Value::Array(mut choices)) = schema.remove("anyOf") {
            choices.retain(|choice| choice.get("type") != Some(&Value::from("null")));
            match choices.as_slice() {
                [Value::Object(one)] => {
                    for (key, value) in one {
                        // The description of the use stands before that of the type.
                        if schema.get(key).is_none() {
                            schema.insert(key.clone(), value.clone());
                        }
                    }
                }
                _ => drop(schema.insert("anyOf".to_owned(), Value::Array(choices))),
            }
        }
        transform_subschemas(self, schema);
    }
}
