//! A folder with all that is below it.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::{DataError, file, is_picture_name};

/// How many folders deep a folder is read.
const MOST_LEVELS: usize = 16;

/// How often a folder is read that several links lead to. Without a bound, a dozen folders that each
/// link to all others would have more paths than could ever be read.
const MOST_TIMES: usize = 16;

/// What systems leave in folders beside hidden files, and nobody means to be read.
const SILENT: [&str; 4] = ["__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir"];

/// What is in a folder, but for hidden files and the like.
pub(super) struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Paths of its files, in the order of their names.
    pub files: Vec<PathBuf>,
    /// How many of these are named like pictures; all, where no file of the whole tree is.
    pub pictures: usize,
    /// Its sub-folders, in the order of their names.
    pub folders: Vec<Folder>,
}

impl Folder {
    /// Reads `folder` and all below it, also where links lead.
    ///
    /// # Errors
    /// [`DataError::Read`].
    pub fn read(folder: &Path, notes: &mut Vec<String>) -> Result<Self, DataError> {
        let mut walk = Walk {
            above: Vec::new(),
            times: HashMap::new(),
            notes,
        };
        let mut tree = walk.read(folder, canonical(folder)?)?;
        if !tree.has_pictures() && tree.any_file(&begins_like_a_picture) {
            tree.take_all_files_for_pictures();
        }
        Ok(tree)
    }

    /// Its own name, which becomes that of a class.
    ///
    /// # Errors
    /// [`DataError::Format`] unless it is UTF-8.
    pub fn name(&self) -> Result<&str, DataError> {
        self.utf8_name().ok_or_else(|| {
            let problem = "has a name that is not UTF-8; a class needs one that is";
            DataError::format(&self.path, problem)
        })
    }

    /// Its own name, if it is UTF-8.
    pub fn utf8_name(&self) -> Option<&str> {
        self.path.file_name()?.to_str()
    }

    /// How many pictures are in it and below it.
    pub fn all_pictures(&self) -> usize {
        self.pictures + self.folders.iter().map(Self::all_pictures).sum::<usize>()
    }

    /// Whether there is a picture in it or below it.
    pub fn has_pictures(&self) -> bool {
        self.pictures > 0 || self.folders.iter().any(Self::has_pictures)
    }

    /// How many folders are below it, and how many files in it and below it.
    pub fn count(&self) -> (usize, usize) {
        let start = (self.folders.len(), self.files.len());
        self.folders.iter().fold(start, |(folders, files), inner| {
            let (more_folders, more_files) = inner.count();
            (folders + more_folders, files + more_files)
        })
    }

    /// A file in it or, if it has none, below it.
    pub fn first_file(&self) -> Option<&Path> {
        let below = || self.folders.iter().find_map(Self::first_file);
        self.files.first().map(PathBuf::as_path).or_else(below)
    }

    /// A note for each file in a folder that is not of a class.
    pub fn loose_files(&self) -> impl Iterator<Item = String> {
        let note = |file: &PathBuf| format!("{} is not in a class", file.display());
        self.files.iter().map(note)
    }

    fn any_file(&self, is: &impl Fn(&Path) -> bool) -> bool {
        self.files.iter().any(|file| is(file)) || self.folders.iter().any(|f| f.any_file(is))
    }

    fn take_all_files_for_pictures(&mut self) {
        self.pictures = self.files.len();
        for folder in &mut self.folders {
            folder.take_all_files_for_pictures();
        }
    }
}

/// A walk through a tree, in which links may lead anywhere.
struct Walk<'a> {
    /// The folders that the next one is in, without links, outermost first.
    above: Vec<PathBuf>,
    /// How often each folder has been read.
    times: HashMap<PathBuf, usize>,
    notes: &'a mut Vec<String>,
}

impl Walk<'_> {
    /// Reads `folder`, which is `real` without links.
    fn read(&mut self, folder: &Path, real: PathBuf) -> Result<Folder, DataError> {
        self.above.push(real);
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        for path in entries(folder)? {
            if !path.is_dir() {
                files.push(path);
                continue;
            }
            let real = canonical(&path)?;
            match self.reason_against(&real) {
                None => folders.push(self.read(&path, real)?),
                Some(reason) => self.notes.push(format!(
                    "{} {reason}; nothing in it is read",
                    path.display()
                )),
            }
        }
        self.above.pop();
        Ok(Folder {
            path: folder.into(),
            pictures: files.iter().filter(|file| is_picture_name(file)).count(),
            files,
            folders,
        })
    }

    /// Why the folder `real` is not read here, if it is not.
    fn reason_against(&mut self, real: &Path) -> Option<String> {
        if self.above.iter().any(|above| above.starts_with(real)) {
            return Some("is a link to a folder that it is in".to_string());
        }
        if self.above.len() > MOST_LEVELS {
            return Some(format!("is more than {MOST_LEVELS} folders deep"));
        }
        let times = self.times.entry(real.to_path_buf()).or_default();
        *times += 1;
        (*times > MOST_TIMES)
            .then(|| format!("is a link to a folder that has been read {MOST_TIMES} times"))
    }
}

/// Paths of what is in `folder` and not hidden, in the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let mut paths = list().map_err(DataError::read(folder))?;
    paths.retain(|path| !is_silent(path));
    paths.sort_unstable();
    Ok(paths)
}

/// Whether a file or folder is passed over without a word.
fn is_silent(path: &Path) -> bool {
    path.file_name().is_none_or(|name| {
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        is_hidden
            || SILENT
                .iter()
                .any(|silent| name.eq_ignore_ascii_case(silent))
    })
}

fn canonical(folder: &Path) -> Result<PathBuf, DataError> {
    folder.canonicalize().map_err(DataError::read(folder))
}

/// Whether a file begins as those of some format of pictures do, whatever its name.
fn begins_like_a_picture(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = file::open(path).map(|file| file.take(64).read_to_end(&mut start));
    matches!(read, Ok(Ok(_))) && image::guess_format(&start).is_ok()
}
