//! The names of EMNIST's classes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use crate::{DataError, file};

/// Bytes of a mapping that are read: ten times what 256 lines take.
const MOST: u64 = 64 * 1024;

/// Names the classes 0 to `last` by the lines of the file: a label, then the codes of the ASCII
/// characters it stands for, as in `1 65 97` for `Aa`. Labels without a line keep their number.
///
/// # Errors
/// [`DataError::Format`] for a line of another form, and for a label or a name that comes twice;
/// [`DataError::Read`].
pub fn class_names(path: &Path, last: u8) -> Result<Vec<String>, DataError> {
    let mut text = String::new();
    file::open(path)?
        .take(MOST)
        .read_to_string(&mut text)
        .map_err(DataError::read(path))?;
    let mut known = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let refuse = |problem: &str| {
            let problem = format!("has {problem} in line {number}: `{line}`");
            DataError::format(path, problem)
        };
        let (label, name) =
            parse(line).ok_or_else(|| refuse("no label followed by codes of ASCII characters"))?;
        if known.insert(label, name).is_some() {
            return Err(refuse("a label that it has already"));
        }
    }
    let names: Vec<String> = (0..=last)
        .map(|label| known.remove(&label).unwrap_or_else(|| label.to_string()))
        .collect();
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        None => Ok(names),
        Some(twice) => {
            let problem = format!("gives two classes the name `{twice}`");
            Err(DataError::format(path, problem))
        }
    }
}

fn parse(line: &str) -> Option<(u8, String)> {
    let mut numbers = line.split_ascii_whitespace().map(str::parse::<u8>);
    let label = numbers.next()?.ok()?;
    let character = |code: Result<u8, _>| code.ok().filter(u8::is_ascii_graphic).map(char::from);
    let name: String = numbers.map(character).collect::<Option<_>>()?;
    (!name.is_empty()).then_some((label, name))
}
