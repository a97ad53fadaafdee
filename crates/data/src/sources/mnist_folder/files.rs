//! The files of a set in MNIST's format, by their names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::DataError;

/// Where the files of a set are.
#[derive(Debug)]
pub struct Files {
    /// Images and labels, to train on and to test on.
    pub parts: [[PathBuf; 2]; 2],
    /// What labels mean, which comes with EMNIST's sets.
    pub mapping: Option<PathBuf>,
}

/// What a file's name says: the part (any of these words), images or labels, and the type of its
/// values (any of these).
struct Name(
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
);

const NAMES: [[Name; 2]; 2] = [names(&["train"]), names(&["t10k", "test"])];

const fn names(part: &'static [&'static str]) -> [Name; 2] {
    [
        Name(part, "images", &["idx3-ubyte"]),
        Name(part, "labels", &["idx1-ubyte", "idx2-int"]),
    ]
}

impl Name {
    /// All spellings, the plainest first, and those without `.gz` before those with it.
    fn spellings(&self) -> impl Iterator<Item = String> {
        let Self(parts, kind, types) = *self;
        ["", ".gz"].into_iter().flat_map(move |gz| {
            types.iter().flat_map(move |of| {
                ["-", "."].into_iter().flat_map(move |dot| {
                    let spell = move |part| format!("{part}-{kind}{dot}{of}{gz}");
                    parts.iter().map(spell)
                })
            })
        })
    }
}

impl Files {
    /// Finds the only set in the folder `place`, or if that is none, the set whose files begin with
    /// `place` and a hyphen. Files that begin with nothing go before others.
    ///
    /// # Errors
    /// [`DataError::Format`] where there is no set or a choice of several, and for missing files, all
    /// of which are named; [`DataError::Read`].
    pub fn find(place: &Path) -> Result<Self, DataError> {
        if place.is_dir() {
            return Self::with_prefix(place, &only_prefix(place)?);
        }
        let folder = place.parent().unwrap_or(place);
        let name = place.file_name().and_then(|name| name.to_str());
        let prefix = format!("{}-", name.unwrap_or_default());
        match prefixes(folder) {
            Ok(known) if known.contains(&prefix) => Self::with_prefix(folder, &prefix),
            _ => Err(DataError::format(
                place,
                "is not a folder that can be opened, nor what the names of a set's files begin with",
            )),
        }
    }

    fn with_prefix(folder: &Path, prefix: &str) -> Result<Self, DataError> {
        let path = |name: &str| folder.join(format!("{prefix}{name}"));
        let mut missing = Vec::new();
        let parts = NAMES.map(|part| {
            part.map(|name| {
                let mut paths = name.spellings().map(|spelling| path(&spelling));
                let plainest = || name.spellings().next().unwrap_or_default();
                paths.find(|path| path.exists()).unwrap_or_else(|| {
                    missing.push(format!("{prefix}{}", plainest()));
                    PathBuf::new()
                })
            })
        });
        if !missing.is_empty() {
            let problem = format!(
                "lacks {}; each may be gzip'd (.gz) and spelt with `.idx` for `-idx` and `test` for `t10k`",
                missing.join(", ")
            );
            return Err(DataError::format(folder, problem));
        }
        let mapping = path("mapping.txt");
        Ok(Self {
            parts,
            mapping: mapping.exists().then_some(mapping),
        })
    }
}

fn only_prefix(folder: &Path) -> Result<String, DataError> {
    let mut known = prefixes(folder)?;
    if known.len() < 2 || known.contains("") {
        return Ok(known.pop_first().unwrap_or_default());
    }
    let names = known.iter().map(|prefix| prefix.trim_end_matches('-'));
    let names: Vec<&str> = names.collect();
    let problem = format!(
        "holds several sets: {}; name one, as in mnist:{}",
        names.join(", "),
        folder.join(names[0]).display()
    );
    Err(DataError::format(folder, problem))
}

/// What files of images and labels in `folder` begin with, up to `train`, `t10k` or `test`: nothing, or
/// the name of a set and a hyphen.
fn prefixes(folder: &Path) -> Result<BTreeSet<String>, DataError> {
    let endings: Vec<String> = NAMES.iter().flatten().flat_map(Name::spellings).collect();
    let here = folder.as_os_str().is_empty().then_some(Path::new("."));
    let entries = fs::read_dir(here.unwrap_or(folder)).map_err(DataError::read(folder))?;
    let mut prefixes = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(DataError::read(folder))?.file_name();
        let name = name.to_string_lossy();
        let prefix = endings
            .iter()
            .find_map(|ending| name.strip_suffix(ending.as_str()));
        if let Some(prefix) = prefix
            && (prefix.is_empty() || prefix.ends_with('-'))
            // Some systems put a hidden file next to each file.
            && !prefix.starts_with('.')
        {
            prefixes.insert(prefix.to_string());
        }
    }
    Ok(prefixes)
}
