//! `cambio schema`: what editors check and complete a configuration with.

use super::{Exit, fail, print};

/// Prints the JSON Schema.
pub fn run() -> Exit {
    match serde_json::to_string_pretty(&crate::config::schema()) {
        Ok(schema) => print(&format!("{schema}\n")),
        Err(_) => fail("the schema could not be written"),
    }
}
