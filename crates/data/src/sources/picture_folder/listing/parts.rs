//! The parts of a folder that has a split of its own.

use super::tree::Folder;
use super::words::{and, quoted};
use crate::DataError;
use crate::dataset::Part;

/// A folder that has classes, and the part that it is of a split.
type PartFolder<'a> = (Option<Part>, &'a Folder);

/// The part that a folder's name stands for, in any case.
pub(super) fn named(folder: &Folder) -> Option<Part> {
    match folder.utf8_name()?.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Part::Train),
        "val" | "valid" | "validation" => Some(Part::Validation),
        "test" | "testing" => Some(Part::Test),
        _ => None,
    }
}

/// Whether a folder has one sub-folder to train on and another for something else.
pub(super) fn is_split(folder: &Folder) -> bool {
    let has = |to_train: bool| {
        let mut parts = folder.folders.iter().filter_map(named);
        parts.any(|part| (part == Part::Train) == to_train)
    };
    has(true) && has(false)
}

/// The parts of `top`; itself alone, as no part, if it has no split.
///
/// # Errors
/// [`DataError::Format`] for folders that make no split, and are no classes either.
pub(super) fn of<'a>(
    top: &'a Folder,
    notes: &mut Vec<String>,
) -> Result<Vec<PartFolder<'a>>, DataError> {
    let (parts, others): (Vec<PartFolder>, Vec<PartFolder>) = top
        .folders
        .iter()
        .map(|folder| (named(folder), folder))
        .partition(|(part, _)| part.is_some());
    let has_classes = |folder: &Folder| folder.pictures == 0 && folder.has_pictures();
    if !is_split(top) && !parts.iter().any(|(_, folder)| has_classes(folder)) {
        notes.extend(parts.iter().map(|(_, folder)| {
            let path = folder.path.display();
            format!(
                "{path} is taken for a class: a split has a folder to train on, and one to test or \
                 validate on"
            )
        }));
        return Ok(vec![(None, top)]);
    }
    if let Some(problem) = fault(top, &parts, &others) {
        return Err(DataError::format(&top.path, problem));
    }
    notes.extend(top.loose_files());
    notes.extend(others.iter().map(|(_, other)| {
        let path = other.path.display();
        format!("{path} is not in a part of the split; it has no pictures")
    }));
    Ok(parts)
}

/// What keeps `parts` from being the split of `top`, which has `others` beside them.
fn fault(top: &Folder, parts: &[PartFolder], others: &[PartFolder]) -> Option<String> {
    let names = |parts: &[PartFolder]| and(parts.iter().filter_map(|(_, f)| f.utf8_name()));
    for (of, what) in [
        (Part::Train, "training"),
        (Part::Validation, "validation"),
        (Part::Test, "testing"),
    ] {
        let same = parts.iter().copied().filter(|(part, _)| *part == Some(of));
        let same: Vec<PartFolder> = same.collect();
        if same.len() > 1 {
            let names = names(&same);
            return Some(format!(
                "has the sub-folders {names}, which are all for {what}; make them one"
            ));
        }
    }
    let names = names(parts);
    if !is_split(top) {
        return Some(format!(
            "has {names} with classes inside, which is no split: one has a folder train, and test \
             or validation beside it; add what is missing, or name the folder that has the classes"
        ));
    }
    let (_, other) = others.iter().find(|(_, other)| other.has_pictures())?;
    let other = other.path.file_name().unwrap_or_default();
    Some(format!(
        "has the sub-folders {names}, which make a split, next to {}, which would be a class; \
         remove one or the other",
        quoted(&other.to_string_lossy())
    ))
}
