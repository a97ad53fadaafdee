//! The folders whose files are of one class.

use std::collections::BTreeSet;

use super::RULE;
use super::parts;
use super::tree::Folder;
use super::words::{number, quoted};
use crate::DataError;
use crate::dataset::Part;

/// A class, or what a part has of it.
pub(super) struct Class<'a> {
    /// Its path within the part, or within the whole, with `/`.
    pub name: String,
    /// The folder that has its files.
    pub folder: &'a Folder,
    /// The part that this is.
    pub part: Option<Part>,
}

/// The classes below `top`, in the order of their names.
///
/// # Errors
/// [`DataError::Format`] for a name that is not UTF-8, or if there are pictures, but none in a class.
pub(super) fn classes_in<'a>(
    top: &'a Folder,
    part: Option<Part>,
    notes: &mut Vec<String>,
) -> Result<Vec<Class<'a>>, DataError> {
    let mut found = Vec::new();
    collect(top, "", part, &mut found, notes)?;
    if top.pictures > 0 && found.iter().all(|class| class.folder.pictures == 0) {
        let folders = match top.folders.len() {
            0 => "no sub-folders".to_string(),
            n => format!("{} without pictures", number(n, "sub-folder")),
        };
        let rule = match part {
            Some(_) => "as a part of a split, it has one sub-folder for each class, named after it",
            None => RULE,
        };
        let problem = format!(
            "has {} and {folders}; {rule}",
            number(top.pictures, "picture")
        );
        return Err(DataError::format(&top.path, problem));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Adds the classes below `group`, whose names begin with `prefix`.
fn collect<'a>(
    group: &'a Folder,
    prefix: &str,
    part: Option<Part>,
    found: &mut Vec<Class<'a>>,
    notes: &mut Vec<String>,
) -> Result<(), DataError> {
    notes.extend(group.loose_files());
    for folder in &group.folders {
        let name = format!("{prefix}{}", folder.name()?);
        // Where nothing is below it, it is a class that has no picture yet.
        if folder.pictures > 0 || !folder.has_pictures() {
            notes.extend(folder.folders.iter().map(not_read));
            found.push(Class { name, folder, part });
        } else if parts::is_split(folder) {
            let problem = "has a split of its own next to other folders; name this folder alone, or put \
                           the classes of all into one train and one test";
            return Err(DataError::format(&folder.path, problem));
        } else {
            collect(folder, &format!("{name}/"), part, found, notes)?;
        }
    }
    Ok(())
}

/// The note about a folder within a class.
fn not_read(folder: &Folder) -> String {
    let path = folder.path.display();
    let pictures = match folder.all_pictures() {
        0 => "nothing in it is read".to_string(),
        1 => "its picture is not read".to_string(),
        n => format!("its {n} pictures are not read"),
    };
    format!("{path} is a folder within a class; {pictures}")
}

/// The note about classes in groups, if some are.
pub(super) fn nesting(classes: &[String]) -> Option<String> {
    let nested: Vec<(&str, &str)> = classes.iter().filter_map(|c| c.rsplit_once('/')).collect();
    let (group, class) = nested.first()?;
    let groups = BTreeSet::from_iter(nested.iter().map(|(group, _)| group)).len();
    Some(format!(
        "classes are the innermost folders, such as {}: {} in {}",
        quoted(&format!("{group}/{class}")),
        number(nested.len(), "class"),
        number(groups, "group")
    ))
}
