//! Classes that a network never sees in training.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Dataset;
use crate::{DataError, LabelledImages};

impl Dataset {
    /// Keeps the classes named in `held_out` out of training and validation, and tests on them alone:
    /// how a network places classes it has never seen shows whether it is more than a classifier.
    /// The other classes' test images become [`closed_test`](Self::closed_test). Class names and
    /// labels stay as they are. Without names nothing changes.
    ///
    /// # Errors
    /// [`DataError::Images`] for a name that is no class; [`DataError::Setting`] where fewer than two
    /// classes are held out or left, which gives no dissimilar pairs.
    pub fn open_set(self, held_out: &[String]) -> Result<Self, DataError> {
        if held_out.is_empty() {
            return Ok(self);
        }
        let names = self.train.classes();
        let mut unseen = BTreeSet::new();
        for name in held_out {
            let class = names.iter().position(|known| known == name);
            unseen.insert(class.ok_or_else(|| {
                let names = names.join(", ");
                DataError::Images(format!(
                    "there is no class `{name}` to hold out; the classes are {names}"
                ))
            })?);
        }
        for (name, found) in [
            ("the number of classes held out", unseen.len()),
            (
                "the number of classes to train on",
                names.len() - unseen.len(),
            ),
        ] {
            if found < 2 {
                return Err(DataError::Setting {
                    name,
                    found: found.to_string(),
                    expected: "at least 2, for dissimilar pairs".into(),
                });
            }
        }
        let part = |images: &LabelledImages, of_unseen: bool| {
            let labels = images.labels().iter().enumerate();
            let chosen: Vec<usize> = labels
                .filter(|(_, label)| unseen.contains(&(**label as usize)) == of_unseen)
                .map(|(image, _)| image)
                .collect();
            images.select(&chosen)
        };
        Ok(Self {
            train: Arc::new(part(&self.train, false)),
            validation: part(&self.validation, false),
            test: part(&self.test, true),
            closed_test: Some(part(&self.test, false)),
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{DataError, Dataset, FolderOptions, LabelledImages, Source};

    fn open(held_out: &[&str]) -> Result<Dataset, DataError> {
        let held_out: Vec<String> = held_out.iter().map(ToString::to_string).collect();
        Source::Digits
            .load(0.1, 1, &FolderOptions::default())?
            .open_set(&held_out)
    }

    #[test]
    fn classes_held_out_are_tested_on_alone_and_trained_on_never() {
        let whole = open(&[]).unwrap();
        assert!(whole.closed_test.is_none());
        let set = open(&["9", "7", "7"]).unwrap();
        let counts = |images: &LabelledImages, unseen: bool| {
            let counts = images.class_counts().into_iter().enumerate();
            counts
                .map(|(class, count)| {
                    if (class == 7 || class == 9) == unseen {
                        count
                    } else {
                        0
                    }
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(set.train.class_counts(), counts(&whole.train, false));
        assert_eq!(
            set.validation.class_counts(),
            counts(&whole.validation, false)
        );
        assert_eq!(set.test.class_counts(), counts(&whole.test, true));
        let closed = set.closed_test.unwrap();
        assert_eq!(closed.class_counts(), counts(&whole.test, false));
        assert_eq!(set.test.len() + closed.len(), whole.test.len());
        assert_eq!(set.train.classes(), whole.train.classes());
    }

    #[test]
    fn a_class_that_is_not_there_and_too_few_classes_are_named() {
        let says = |held_out: &[&str], words: &str| {
            let error = open(held_out).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        says(&["7", "ten"], "no class `ten`");
        says(&["7", "7"], "classes held out is 1");
        says(
            &["1", "2", "3", "4", "5", "6", "7", "8", "9"],
            "to train on is 1",
        );
    }
}
