//! Where images come from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{
    DataError, FolderOptions, LabelledImages, Purpose, digits, hold_out, mnist_folder,
    picture_folder, stream,
};

/// A data set that can be loaded; written `digits`, `mnist:DIR` or `folder:DIR`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The 10,000 digits that the program carries.
    #[default]
    Digits,
    /// A folder in MNIST's format.
    Mnist(PathBuf),
    /// A folder of pictures, one sub-folder a class.
    Folder(PathBuf),
}

/// Images to train on, to choose a threshold on, and to test on.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The source as the user writes it.
    pub name: String,
    /// Training images that are not held out; shared, since batches are made on another thread.
    pub train: Arc<LabelledImages>,
    /// Training images held out.
    pub validation: LabelledImages,
    /// The source's own test images; of an [open set](Self::open_set) those of the classes held out.
    pub test: LabelledImages,
    /// Of an open set, the test images of the classes trained on.
    pub closed_test: Option<LabelledImages>,
    /// What of the source was left out, a sentence each.
    pub notes: Vec<String>,
}

impl Source {
    /// Loads the images; `validation` is the fraction of each class's training images held out,
    /// chosen by `seed`. `options` are for folders of pictures alone.
    ///
    /// # Errors
    /// [`DataError::Setting`] unless 0 < `validation` < 1; any fault of the source's files.
    pub fn load(
        &self,
        validation: f64,
        seed: u64,
        options: &FolderOptions,
    ) -> Result<Dataset, DataError> {
        let mut notes = Vec::new();
        let (all, test) = match self {
            Self::Digits => digits()?,
            Self::Mnist(folder) => mnist_folder(folder)?,
            Self::Folder(folder) => {
                let read = picture_folder(folder, seed, options)?;
                notes = read.notes;
                (read.train, read.test)
            }
        };
        let mut rng = stream(seed, Purpose::Split, 0);
        let (kept, held_out) = hold_out(all.labels(), validation, "validation", &mut rng)?;
        Ok(Dataset {
            name: self.to_string(),
            train: Arc::new(all.select(&kept)),
            validation: all.select(&held_out),
            test,
            closed_test: None,
            notes,
        })
    }
}

impl FromStr for Source {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        match text.split_once(':') {
            None if text == "digits" => Ok(Self::Digits),
            Some(("mnist", folder)) if !folder.is_empty() => Ok(Self::Mnist(folder.into())),
            Some(("folder", folder)) if !folder.is_empty() => Ok(Self::Folder(folder.into())),
            _ => Err(DataError::UnknownSource { found: text.into() }),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digits => f.write_str("digits"),
            Self::Mnist(folder) => write!(f, "mnist:{}", folder.display()),
            Self::Folder(folder) => write!(f, "folder:{}", folder.display()),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self::Mnist(folder) | Self::Folder(folder) = self
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
            Source::Digits
                .load(0.1, seed, &FolderOptions::default())
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
        assert!(matches!(
            source.load(0.1, 1, &FolderOptions::default()),
            Err(DataError::NotAFolder { .. })
        ));
    }
}
