//! Strict JSON is what an ordinary parser takes, less what two parsers could read differently.

use cambio::jwt::json::{MAX_DEPTH, parse_object};
use serde_json::Value;

pub fn check(data: &[u8]) -> bool {
    let strict = parse_object(data);
    let lax: Option<Value> = serde_json::from_slice(data).ok();
    let is_strict = lax.as_ref().is_some_and(|value| {
        let Written { names, depth } = written(data);
        value.is_object() && depth <= MAX_DEPTH && names == names_in(value)
    });
    assert_eq!(strict.is_ok(), is_strict);
    let Ok(object) = strict else { return false };
    assert_eq!(Some(Value::Object(object.clone())), lax);
    // What was read says the same when it is written, numbers to the last bit.
    let again = Value::Object(object.clone()).to_string();
    let reread = parse_object(again.as_bytes()).expect("what was taken is written");
    assert_eq!(reread, object);
    true
}

/// What stands in a text that is JSON.
struct Written {
    /// How many members all objects have together, each name counted as often as it stands there.
    names: usize,
    depth: usize,
}

fn written(json: &[u8]) -> Written {
    let (mut names, mut depth, mut deepest) = (0, 0_usize, 0);
    let mut rest = json.iter();
    while let Some(byte) = rest.next() {
        match byte {
            // A string, escaped quotes and all.
            b'"' => {
                while rest.next().is_some_and(|byte| match byte {
                    b'\\' => rest.next().is_some(),
                    byte => *byte != b'"',
                }) {}
            }
            b':' => names += 1,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Written { names, depth: deepest }
}

/// How many members all objects have together. Of a name that stands twice one is left here.
fn names_in(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(names_in).sum::<usize>(),
        Value::Array(items) => items.iter().map(names_in).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}
