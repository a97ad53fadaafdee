//! Names that people may take for the same.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;

use super::words::and;

/// Something that names may differ in and yet be meant for the same.
struct Difference {
    name: &'static str,
    /// The name without it.
    even: fn(&str) -> String,
}

const UNICODE_FORM: &str = "Unicode form";

const DIFFERENCES: [Difference; 3] = [
    Difference {
        name: "case",
        even: str::to_lowercase,
    },
    Difference {
        name: "blanks",
        even: |name| {
            let words = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
            name.split('/').map(words).collect::<Vec<_>>().join("/")
        },
    },
    Difference {
        name: UNICODE_FORM,
        even: |name| name.nfc().collect(),
    },
];

/// A note for each set of names that are equal but for case, blanks or Unicode form.
pub(super) fn notes(names: &[String]) -> Vec<String> {
    let mut sets: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names {
        sets.entry(evened(name, None)).or_default().push(name);
    }
    let alike = sets.into_values().filter(|set| set.len() > 1);
    alike.map(|set| note(&set)).collect()
}

fn note(set: &[&str]) -> String {
    // A difference is there if without the others they are not yet equal.
    let is_there = |i: usize| {
        let first = evened(set[0], Some(i));
        set.iter().any(|name| evened(name, Some(i)) != first)
    };
    let found = DIFFERENCES.iter().enumerate().filter(|(i, _)| is_there(*i));
    let mut found: Vec<_> = found.map(|(_, difference)| difference.name).collect();
    // The sign for ångström becomes an å by its form or its case: neither is needed.
    if found.is_empty() {
        found.push(UNICODE_FORM);
    }
    format!(
        "the classes {} differ only in {}: if they are the same, give them one name",
        and(set.iter().copied()),
        found.join(" and ")
    )
}

/// The name without any difference, but for one.
fn evened(name: &str, but: Option<usize>) -> String {
    let others = DIFFERENCES
        .iter()
        .enumerate()
        .filter(|(i, _)| Some(*i) != but);
    others.fold(name.to_string(), |name, (_, other)| (other.even)(&name))
}
