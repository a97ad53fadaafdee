//! Which files of a folder may be pictures, of which class, and of which part.

mod alike;
mod classes;
mod parts;
#[cfg(test)]
mod tests;
mod tree;
mod words;

use std::path::{Path, PathBuf};

use self::classes::{Class, classes_in};
use self::tree::Folder;
use self::words::number;
use super::super::check_folder;
use crate::DataError;
use crate::dataset::Part;

/// What errors about the layout end with.
const RULE: &str = "a folder of pictures has one sub-folder for each class, named after it";

/// The files that may be pictures.
pub(super) struct Listing {
    /// The classes' names, in order.
    pub classes: Vec<String>,
    /// The files, classes in order, and files in the order of their names. Where there is a split,
    /// its parts come one after the other, in the order of their folders' names.
    pub files: Vec<Entry>,
}

/// A file that may be a picture.
pub(super) struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// Its path within the folder, with `/`.
    pub name: String,
    /// Its class, an index into the listing's.
    pub class: u32,
    /// Its part, in a folder that has a split of its own.
    pub part: Option<Part>,
}

impl Listing {
    /// Lists `folder`; `notes` gets a sentence for each thing that is passed over or worth a look.
    ///
    /// # Errors
    /// [`DataError::Format`] and [`DataError::Read`] for a folder that is not laid out as one of
    /// pictures, or cannot be read.
    pub fn of(folder: &Path, notes: &mut Vec<String>) -> Result<Self, DataError> {
        check_folder(folder)?;
        let tree = Folder::read(folder, notes)?;
        if !tree.has_pictures() {
            return Err(no_picture(&tree));
        }
        let top = unwrapped(&tree, notes);
        let parts = parts::of(top, notes)?;
        let mut found = Vec::new();
        for (part, folder) in parts {
            found.extend(classes_in(folder, part, notes)?);
        }
        let mut classes: Vec<String> = found.iter().map(|class| class.name.clone()).collect();
        classes.sort_unstable();
        classes.dedup();
        notes.extend(classes::nesting(&classes));
        notes.extend(alike::notes(&classes));
        let files = found
            .iter()
            .flat_map(|class| entries(class, folder, &classes));
        Ok(Self {
            files: files.collect(),
            classes,
        })
    }
}

/// The files of a class, one of `classes`, within `folder`.
fn entries(class: &Class, folder: &Path, classes: &[String]) -> impl Iterator<Item = Entry> {
    // The class is among them.
    let index = classes.binary_search(&class.name).unwrap_or_default() as u32;
    class.folder.files.iter().map(move |path| Entry {
        path: path.clone(),
        name: name_within(folder, path),
        class: index,
        part: class.part,
    })
}

/// The folder that has the classes: the only sub-folder of the one given, and so on, as archives
/// are often made.
fn unwrapped<'a>(tree: &'a Folder, notes: &mut Vec<String>) -> &'a Folder {
    let mut top = tree;
    while let [only] = &top.folders[..]
        && top.pictures == 0
        && only.pictures == 0
        && parts::named(only).is_none()
    {
        notes.extend(top.loose_files());
        top = only;
    }
    if top.path != tree.path {
        notes.push(format!(
            "{} is read in the place of {}, which has no other folder",
            top.path.display(),
            tree.path.display()
        ));
    }
    top
}

/// The error for a folder without a picture, which says what is there instead.
fn no_picture(tree: &Folder) -> DataError {
    let (folders, files) = tree.count();
    let problem = match (folders, tree.first_file()) {
        (0, None) => format!("is empty, hidden files aside; {RULE}"),
        (_, None) => {
            let folders = number(folders, "sub-folder");
            format!("has no picture: found {folders} and no file; {RULE}")
        }
        (_, Some(file)) => format!(
            "has no picture: found {} and {}, such as {}; none is a picture or named like one; {RULE}",
            number(folders, "sub-folder"),
            number(files, "file"),
            name_within(&tree.path, file)
        ),
    };
    DataError::format(&tree.path, problem)
}

/// A path within `folder`, with `/` whatever the system.
fn name_within(folder: &Path, path: &Path) -> String {
    let within = path.strip_prefix(folder).unwrap_or(path);
    let parts = within.iter().map(|part| part.to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}
