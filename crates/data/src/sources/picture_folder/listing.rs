//! Which files of a folder may be pictures, of which class, and of which part.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::check_folder;
use crate::DataError;
use crate::dataset::Part;

/// The files that may be pictures.
pub(super) struct Listing {
    /// The classes' names, in order.
    pub classes: Vec<String>,
    /// The files, classes in order, and files in the order of their names.
    pub files: Vec<Entry>,
    /// Whether the folder has a split of its own.
    pub split: bool,
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
    /// Lists `folder`; `notes` gets a sentence for each thing that is passed over.
    ///
    /// # Errors
    /// [`DataError::Format`] and [`DataError::Read`] for a folder that is not laid out as one of
    /// pictures, or cannot be read.
    pub fn of(folder: &Path, notes: &mut Vec<String>) -> Result<Self, DataError> {
        check_folder(folder)?;
        let top = sub_folders(folder, notes)?;
        let is_split = |(name, _): &(String, PathBuf)| name == "train" || name == "test";
        let split = top.iter().filter(|entry| is_split(entry)).count() == 2;
        if split && let Some((other, _)) = top.iter().find(|entry| !is_split(entry)) {
            let problem = format!(
                "has the sub-folders train and test, which make a split, next to `{other}`, which would be a class; remove one or the other"
            );
            return Err(DataError::format(folder, problem));
        }
        // (class, its folder, its part)
        let mut folders = Vec::new();
        for (name, path) in top {
            if split {
                let classes = sub_folders(&path, notes)?.into_iter();
                let part = match name == "test" {
                    true => Part::Test,
                    false => Part::Train,
                };
                folders.extend(classes.map(|(class, path)| (class, path, Some(part))));
            } else {
                folders.push((name, path, None));
            }
        }
        if folders.is_empty() {
            let problem =
                "has no sub-folders; a folder of pictures has one for each class, named after it";
            return Err(DataError::format(folder, problem));
        }
        let mut classes: Vec<String> = folders.iter().map(|(class, ..)| class.clone()).collect();
        classes.sort_unstable();
        classes.dedup();
        let mut files = Vec::new();
        for (class, path, part) in folders {
            // The class is among them.
            let class = classes.binary_search(&class).unwrap_or_default() as u32;
            for path in entries(&path)? {
                if path.is_dir() {
                    notes.push(format!(
                        "{} is a folder within a class; nothing in it is read",
                        path.display()
                    ));
                } else {
                    files.push(Entry {
                        name: name_within(folder, &path),
                        path,
                        class,
                        part,
                    });
                }
            }
        }
        Ok(Self {
            classes,
            files,
            split,
        })
    }
}

/// Name and path of each folder in `folder`, with a note of each file there.
fn sub_folders(
    folder: &Path,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut folders = Vec::new();
    for path in entries(folder)? {
        if !path.is_dir() {
            notes.push(format!("{} is not in a class", path.display()));
            continue;
        }
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => folders.push((name.to_string(), path)),
            None => {
                let problem = "has a name that is not UTF-8; a class needs one that is";
                return Err(DataError::format(&path, problem));
            }
        }
    }
    Ok(folders)
}

/// Paths of what is in `folder` and not hidden, in the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let mut paths = list().map_err(DataError::read(folder))?;
    paths.retain(|path| {
        path.file_name()
            .is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
    });
    paths.sort_unstable();
    Ok(paths)
}

/// A path within `folder`, with `/` whatever the system.
fn name_within(folder: &Path, path: &Path) -> String {
    let within = path.strip_prefix(folder).unwrap_or(path);
    let parts = within.iter().map(|part| part.to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}
