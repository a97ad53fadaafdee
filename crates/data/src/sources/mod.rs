//! Where images come from. A source is a file here, a variant of [`Source`] and an arm of its `form`.

mod digits;
pub mod idx;
mod mnist_folder;
mod picture_folder;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

pub use digits::digits;
pub use mnist_folder::mnist_folder;
pub use picture_folder::{FolderOptions, Store, picture_folder};

use crate::dataset::{Dataset, Part, SplitOptions};
use crate::{DataError, Framing, LabelledImages};

/// A data set that can be loaded; written `digits`, `mnist:DIR` or `folder:DIR`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The 10,000 digits that the program carries.
    #[default]
    Digits,
    /// A folder in MNIST's format, or a set in one: FOLDER/PREFIX.
    Mnist(PathBuf),
    /// A folder of pictures, one sub-folder a class.
    Folder(PathBuf),
}

/// A source's images, with the source's own split if it has one.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All images, or those that are not for testing.
    pub images: LabelledImages,
    /// The part that the source gives each of them, if any.
    pub given: Vec<Option<Part>>,
    /// Test images that lie elsewhere.
    pub test: Option<LabelledImages>,
    /// What was left out, a sentence each.
    pub notes: Vec<String>,
}

/// What there is to know of a kind of source.
struct Form {
    /// The word that it is written with, before the colon.
    kind: &'static str,
    /// What it means, in a few words.
    meaning: &'static str,
    /// The source of this kind in a folder, or none where it has to have a folder or must not.
    parse: fn(Option<&str>) -> Option<Source>,
    /// Reads its folder; most options are for pictures.
    load: fn(&Path, &FolderOptions) -> Result<Loaded, DataError>,
    /// Whether images are made of [`FolderOptions::shape`], and have none of their own.
    takes_shape: bool,
    /// How pictures are framed to look like its training images.
    framing: fn(&LabelledImages) -> Framing,
}

const FORMS: [&Form; 3] = [&digits::FORM, &mnist_folder::FORM, &picture_folder::FORM];

impl Source {
    /// The source's kind, and its folder if it has one.
    fn form(&self) -> (&'static Form, Option<&Path>) {
        match self {
            Self::Digits => (&digits::FORM, None),
            Self::Mnist(folder) => (&mnist_folder::FORM, Some(folder)),
            Self::Folder(folder) => (&picture_folder::FORM, Some(folder)),
        }
    }

    /// How each kind of source is written and what it means, for help texts and errors.
    pub fn forms() -> String {
        let form = |form: &Form| {
            let folder = if (form.parse)(None).is_some() {
                ""
            } else {
                ":DIR"
            };
            format!("`{}{folder}` ({})", form.kind, form.meaning)
        };
        let [others @ .., last] = FORMS.map(form);
        format!("{} or {last}", others.join(", "))
    }

    /// The kind in a word: `digits`, `mnist` or `folder`.
    pub fn kind(&self) -> &'static str {
        self.form().0.kind
    }

    /// Whether images take on [`FolderOptions::shape`]; others have a shape of their own.
    pub fn takes_shape(&self) -> bool {
        self.form().0.takes_shape
    }

    /// How a picture has to be framed to look like `train`, this source's training images.
    pub fn framing(&self, train: &LabelledImages) -> Framing {
        (self.form().0.framing)(train)
    }

    /// Loads the images and divides them. Sources with a shape of their own look at no more of `options`
    /// than [`transposed`](FolderOptions::transposed).
    ///
    /// # Errors
    /// [`DataError::Setting`] for fractions out of range; [`DataError::Images`] for classes to hold out
    /// that do not exist, or where nothing is left to test on; any fault of the source's files.
    pub fn load(
        &self,
        split: &SplitOptions,
        options: &FolderOptions,
    ) -> Result<Dataset, DataError> {
        let (form, folder) = self.form();
        let folder = folder.unwrap_or(Path::new(""));
        let loaded = (form.load)(folder, options)?;
        Dataset::divide(self.to_string(), loaded, split)
    }
}

impl From<(LabelledImages, LabelledImages)> for Loaded {
    /// Of training and test images, nothing left out.
    fn from((train, test): (LabelledImages, LabelledImages)) -> Self {
        Self {
            given: vec![None; train.len()],
            images: train.in_file("train"),
            test: Some(test.in_file("test")),
            notes: Vec::new(),
        }
    }
}

fn check_folder(folder: &Path) -> Result<(), DataError> {
    match folder.is_dir() {
        true => Ok(()),
        false => Err(DataError::format(
            folder,
            "is not a folder that can be opened",
        )),
    }
}

impl FromStr for Source {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let (kind, folder) = match text.split_once(':') {
            Some((kind, folder)) => (kind, Some(folder)),
            None => (text, None),
        };
        FORMS
            .iter()
            .find(|form| form.kind == kind && folder != Some(""))
            .and_then(|form| (form.parse)(folder))
            .ok_or_else(|| DataError::Setting {
                name: "the data set",
                found: format!("`{text}`"),
                expected: Self::forms(),
            })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, folder) = self.form();
        f.write_str(form.kind)?;
        folder.map_or(Ok(()), |folder| write!(f, ":{}", folder.display()))
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let (_, Some(folder)) = self.form()
            && folder.to_str().is_none()
        {
            // Written with replacement characters it would name another folder.
            let folder = folder.display();
            return Err(ser::Error::custom(format!("{folder} is not UTF-8")));
        }
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_they_are_written() {
        for (text, source) in [
            ("digits", Source::Digits),
            ("mnist:a/b c:d", Source::Mnist("a/b c:d".into())),
            ("folder:a/b", Source::Folder("a/b".into())),
        ] {
            assert_eq!(text.parse::<Source>().unwrap(), source);
            assert_eq!(source.to_string(), text);
            let json = serde_json::to_string(&source).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Source>(&json).unwrap(), source);
        }
    }

    #[test]
    fn an_unknown_source_is_answered_with_the_valid_forms() {
        for wrong in [
            "",
            "digit",
            "Digits",
            "mnist",
            "mnist:",
            "folder:",
            "digits:x",
            "cifar:dir",
        ] {
            let error = wrong.parse::<Source>().unwrap_err().to_string();
            assert!(
                error.contains("`digits`") && error.contains("`mnist:DIR`"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_test_set_is_the_same_for_every_seed_and_the_validation_set_is_not() {
        let [one, two] = [1, 2].map(|seed| {
            let split = SplitOptions {
                seed,
                ..SplitOptions::default()
            };
            Source::Digits
                .load(&split, &FolderOptions::default())
                .unwrap()
        });
        assert_eq!(one.train.len() + one.validation.len(), 8_000);
        assert_eq!(one.validation.len(), 800);
        assert_eq!(one.test, two.test);
        assert_ne!(one.validation, two.validation);
    }

    #[test]
    fn a_fault_of_the_folder_is_passed_on() {
        let source = Source::Mnist("no/such/folder".into());
        let error = source
            .load(&SplitOptions::default(), &FolderOptions::default())
            .unwrap_err();
        assert!(error.to_string().contains("not a folder"), "{error}");
    }
}
