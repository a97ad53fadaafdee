//! A source's images, divided into those to train on, to choose a threshold on and to test on.

mod assign;
mod copies;
mod inspect;
mod split;
mod steady;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use split::{hold_out, split_classes};

use crate::manifest::Manifest;
use crate::sources::Loaded;
use crate::{DataError, LabelledImages};

/// What an image is used for. Of two copies of an image the smaller part counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// To train on.
    Train,
    /// Was trained on, and is no longer in the data, or not as such.
    Past,
    /// The threshold was chosen on it, which is no longer in the data, or not as such.
    Calibrated,
    /// To choose the threshold on.
    Validation,
    /// Nothing: it is a copy of another, or of a class that has no use.
    Unused,
    /// To test on, though its class is trained on, where others are not.
    ClosedTest,
    /// To test on.
    Test,
}

impl Part {
    /// Whether such an image is in the data.
    pub fn is_present(self) -> bool {
        !matches!(self, Self::Past | Self::Calibrated)
    }

    /// Whether a network was trained on such an image.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Train | Self::Past)
    }

    /// Whether a network, or its threshold, depends on such an image.
    pub fn is_used(self) -> bool {
        self.is_trained() || matches!(self, Self::Calibrated | Self::Validation)
    }
}

/// How images without a split of their own are divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// By classes where a dozen have two images, or classes are too small to be divided; else by
    /// images.
    #[default]
    Auto,
    /// Images of each class are held out.
    Images,
    /// Whole classes are held out, so that they are new to the network.
    Classes,
}

/// How a data set is divided.
#[derive(Clone, Copy, Debug)]
pub struct SplitOptions<'a> {
    /// Chooses what is held out.
    pub seed: u64,
    /// By what.
    pub by: SplitBy,
    /// Fraction of the images, or of the classes, to test on, where the source has no test images; 0
    /// for none.
    pub test: f64,
    /// Fraction of what is left to choose the threshold on.
    pub validation: f64,
    /// Classes to test on and never train on: names, or patterns with `*`, `?` and `[…]`.
    pub hold_out: &'a [String],
    /// What the images were used for before; they keep their parts.
    pub before: Option<&'a Manifest>,
    /// Whether to test on all images that the source does not reserve for training.
    pub only_test: bool,
    /// Whether the network is trained already: images that are new since are tested on or unused.
    pub trained: bool,
}

impl Default for SplitOptions<'_> {
    /// A fifth to test on, a tenth of the rest to choose the threshold on.
    fn default() -> Self {
        Self {
            seed: 1,
            by: SplitBy::Auto,
            test: 0.2,
            validation: 0.1,
            hold_out: &[],
            before: None,
            only_test: false,
            trained: false,
        }
    }
}

/// Images to train on, to choose a threshold on, and to test on.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The source as the user writes it.
    pub name: String,
    /// To train on; shared, since batches are made on another thread.
    pub train: Arc<LabelledImages>,
    /// To choose the threshold on.
    pub validation: LabelledImages,
    /// To test on.
    pub test: LabelledImages,
    /// Where [`test`](Self::test) is of classes held out, test images of the classes trained on.
    pub closed_test: Option<LabelledImages>,
    /// Whether no class of the validation images is trained on.
    pub new_validation_classes: bool,
    /// Whether no class of the test images is trained on.
    pub new_test_classes: bool,
    /// Whether there is nothing to test on, and [`test`](Self::test) is the validation images.
    pub tests_validation: bool,
    /// How the images were divided; [`SplitBy::Auto`] where the source has a split of its own.
    pub split: SplitBy,
    /// All images, each with its part.
    pub manifest: Manifest,
    /// What was left out, and what to know of the images, a sentence each.
    pub notes: Vec<String>,
}

/// Images of a source, each with its part.
struct Divided {
    images: LabelledImages,
    /// Of each image's pixels.
    hashes: Vec<u64>,
    parts: Vec<Part>,
}

impl Divided {
    fn select(&self, part: Part) -> LabelledImages {
        let places = (0..self.parts.len()).filter(|&i| self.parts[i] == part);
        self.images.select(&places.collect::<Vec<_>>())
    }
}

impl Dataset {
    /// Divides what a source has.
    pub(crate) fn divide(
        name: String,
        loaded: Loaded,
        options: &SplitOptions,
    ) -> Result<Self, DataError> {
        let (given, mut notes) = (loaded.given, loaded.notes);
        let has = |part: Part| given.contains(&Some(part));
        if has(Part::Validation) && !has(Part::Test) {
            notes.push("the validation images are tested on, as there are no others".into());
        }
        let (mut sets, split) = assign::parts(loaded.images, &given, loaded.test, options)?;
        notes.extend(copies::set_aside(&mut sets, options.before)?);
        let mut manifest = Manifest::default();
        for set in &sets {
            manifest.add(&set.images, &set.parts, &set.hashes);
        }
        if let Some(before) = options.before {
            manifest.remember(before);
        }
        // Test images that lie elsewhere come last, and no others are tested on then.
        let (first, last) = (&sets[0], &sets[sets.len() - 1]);
        let (train, validation) = (first.select(Part::Train), first.select(Part::Validation));
        let (test, closed) = (last.select(Part::Test), last.select(Part::ClosedTest));
        let trained = train.class_counts();
        let is_new = |images: &LabelledImages| {
            let mut labels = images.labels().iter();
            !images.is_empty() && labels.all(|&label| trained[label as usize] == 0)
        };
        let tests_validation = test.is_empty() && options.test == 0.0;
        let mut set = Self {
            name,
            new_validation_classes: is_new(&validation),
            new_test_classes: is_new(&test) && !options.only_test,
            test: match tests_validation {
                true => validation.clone(),
                false => test,
            },
            closed_test: (!closed.is_empty()).then_some(closed),
            train: Arc::new(train),
            validation,
            tests_validation,
            split,
            manifest,
            notes,
        };
        let seen = inspect::notes(&set);
        set.notes.extend(seen);
        Ok(set)
    }
}
