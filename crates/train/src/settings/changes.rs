use std::collections::BTreeMap;
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

/// Every value in `table` under its path; a list is one value.
pub fn leaves(table: &Table) -> BTreeMap<String, Value> {
    let below = |(key, value): (&String, &Value)| match value {
        Value::Table(inner) => {
            let inner = leaves(inner).into_iter();
            inner
                .map(|(path, value)| (format!("{key}.{path}"), value))
                .collect()
        }
        value => vec![(key.clone(), value.clone())],
    };
    table.iter().flat_map(below).collect()
}

impl RunConfig {
    /// The settings whose values differ in `other`.
    ///
    /// # Errors
    /// Where either cannot be written as TOML.
    pub fn changes(&self, other: &Self) -> Result<Vec<Change>> {
        let (from, to) = (Table::try_from(self)?, Table::try_from(other)?);
        let mut to = leaves(&to);
        let changed = leaves(&from).into_iter().filter_map(|(key, from)| {
            let to = to.remove(&key).filter(|to| *to != from)?;
            Some(Change { key, from, to })
        });
        Ok(changed.collect())
    }
}
