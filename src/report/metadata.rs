//! What the user knows about the container; copied into the report.

use serde_json::Value;

/// Members of a JSON object, in the order they are written.
pub type Fields = Vec<(&'static str, Value)>;

#[derive(Debug, Default, PartialEq)]
pub struct Metadata {
    /// Name in the report and value; only what is known.
    pub known: Vec<(&'static str, String)>,
    pub labels: Vec<(String, String)>,
}

impl Metadata {
    pub fn get(&self, field: &str) -> Option<&str> {
        let known = self.known.iter().find(|(name, _)| *name == field);
        known.map(|(_, value)| value.as_str())
    }

    pub fn fields(&self) -> Fields {
        let known = self.known.iter();
        let mut fields: Fields = known.map(|(k, v)| (*k, v.as_str().into())).collect();
        if !self.labels.is_empty() {
            let labels = self
                .labels
                .iter()
                .map(|(k, v)| (k.clone(), v.as_str().into()));
            fields.push(("labels", Value::Object(labels.collect())));
        }
        fields
    }
}
