use std::fmt;

use anyhow::Result;
use serde::Serialize;
use toml::{Table, Value};

use super::RunConfig;

/// A setting whose value has changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Its name, such as `optimiser.learning_rate`.
    pub key: String,
    /// Its old value.
    pub from: Value,
    /// Its new value.
    pub to: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.key, self.from, self.to)
    }
}

fn compare(from: &Table, to: &Table, path: &str, changes: &mut Vec<Change>) {
    for (key, from) in from {
        let key_path = format!("{path}{key}");
        match (from, to.get(key)) {
            (Value::Table(from), Some(Value::Table(to))) => {
                compare(from, to, &format!("{key_path}."), changes);
            }
            (from, Some(to)) if from != to => changes.push(Change {
                key: key_path,
                from: from.clone(),
                to: to.clone(),
            }),
            _ => {}
        }
    }
}

impl RunConfig {
    /// The settings whose values differ in `other`.
    ///
    /// # Errors
    /// Where either cannot be written as TOML.
    pub fn changes(&self, other: &Self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        compare(
            &Table::try_from(self)?,
            &Table::try_from(other)?,
            "",
            &mut changes,
        );
        Ok(changes)
    }
}
