// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user says about the containers. snoop copies it into the report.

use crate::report::schema::{Fields, field};
use serde_json::Value;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The name and the value of each field whose value is known.
    pub known: Vec<(&'static str, String)>,
    pub labels: Vec<(String, String)>,
}

impl Metadata {
    /// Returns the value of a field, if it is known.
    pub fn get(&self, field: &str) -> Option<&str> {
        let known = self.known.iter().find(|(name, _)| *name == field);
        known.map(|(_, value)| value.as_str())
    }

    /// Returns the fields whose values are known.
    pub fn fields(&self) -> Fields {
        let known = self.known.iter();
        let mut fields: Fields = known.map(|(k, v)| (*k, v.as_str().into())).collect();
        if !self.labels.is_empty() {
            let labels = self
                .labels
                .iter()
                .map(|(k, v)| (k.clone(), v.as_str().into()));
            fields.push((field::LABELS, Value::Object(labels.collect())));
        }
        fields
    }
}
