//! The classes that a user holds out by name.

use std::collections::BTreeSet;

use glob::Pattern;

use crate::DataError;
use crate::manifest::first;

/// The indices of the classes that names or patterns stand for.
pub fn held_out_classes(
    classes: &[String],
    names: &[String],
) -> Result<BTreeSet<usize>, DataError> {
    let mut unseen = BTreeSet::new();
    for name in names {
        // A class that is called so is the one that is meant, and may be called what is no pattern.
        let exact = classes.contains(name);
        let pattern = Pattern::new(name).ok().filter(|_| !exact);
        let matches = |class: &str| pattern.as_ref().is_some_and(|p| p.matches(class));
        let found = classes.iter().enumerate();
        let found = found.filter(|(_, class)| *class == name || matches(class));
        let found: Vec<usize> = found.map(|(class, _)| class).collect();
        unseen.extend(&found);
        if found.is_empty() {
            const SHOWN: usize = 20;
            let classes = first(classes, SHOWN);
            return Err(DataError::Images(format!(
                "there is no class `{name}` to hold out (--hold-out-classes, data.hold_out_classes); \
                 the classes are {classes}"
            )));
        }
    }
    for (name, found) in [
        ("the number of classes held out", unseen.len()),
        (
            "the number of classes to train on",
            classes.len() - unseen.len(),
        ),
    ] {
        if !names.is_empty() && found < 2 {
            return Err(DataError::Setting {
                name,
                found: found.to_string(),
                expected: "at least 2, for dissimilar pairs".into(),
            });
        }
    }
    Ok(unseen)
}
