//! `summary.json`: a run's results.

use std::collections::BTreeMap;
use std::{fmt, iter};

use anyhow::{Context, Result};
use data::LabelledImages;
use serde::{Deserialize, Serialize};

use crate::judging::{Figures, Heads};

/// The results of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How good the network is.
    #[serde(flatten)]
    pub figures: Figures,
    /// The data set, as the configuration names it.
    pub data: String,
    /// Number of images, by set.
    pub images: BTreeMap<String, usize>,
    /// How evenly the training images are spread over the classes.
    pub classes: ClassSizes,
    /// Training steps.
    pub steps: u64,
    /// Steps after which the network had the weights that were kept.
    #[serde(default)]
    pub weights_of_step: u64,
    /// How many of the steps, the last, were a second training on the validation images as well; absent
    /// where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refit_steps: Option<u64>,
    /// The head that the network was given after training; absent where none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Heads>,
    /// What to know of the images and the run, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The same in epochs.
    pub epochs: f64,
    /// Seconds of training, evaluations included.
    pub seconds: f64,
    /// Images trained on in a second, two a pair.
    pub images_per_second: f64,
    /// Where it was trained, or trained last: `cpu`, or `cuda:N` and the GPU's name.
    pub device: String,
    /// The run's seed.
    pub seed: u64,
    /// The program's version.
    pub version: String,
}

/// How many training images the classes have, without those that are only tested on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassSizes {
    /// Classes with any.
    pub trained: usize,
    /// The class with the fewest.
    pub smallest: ClassSize,
    /// The class with the most.
    pub largest: ClassSize,
}

/// A class, and how many training images it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassSize {
    /// Its name.
    pub class: String,
    /// Its images.
    pub images: usize,
}

impl ClassSizes {
    /// Counts a training set's.
    ///
    /// # Errors
    /// If it is empty.
    pub fn of(train: &LabelledImages) -> Result<Self> {
        let counts = train.class_counts();
        let trained = || iter::zip(train.classes(), &counts).filter(|(_, images)| **images > 0);
        let size = |found: Option<(&String, &usize)>| {
            let (class, images) = found.context("no image to train on")?;
            Ok::<_, anyhow::Error>(ClassSize {
                class: class.clone(),
                images: *images,
            })
        };
        Ok(Self {
            trained: trained().count(),
            smallest: size(trained().min_by_key(|(_, images)| **images))?,
            largest: size(trained().max_by_key(|(_, images)| **images))?,
        })
    }
}

impl fmt::Display for ClassSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trained,
            smallest,
            largest,
        } = self;
        write!(
            f,
            "{trained} classes with {} ({}) to {} ({}) training images each",
            smallest.images, smallest.class, largest.images, largest.class
        )
    }
}
