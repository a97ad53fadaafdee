//! `summary.json`: a run's results.

use std::collections::BTreeMap;
use std::{fmt, iter};

use anyhow::{Context, Result};
use data::LabelledImages;
use serde::{Deserialize, Serialize};

use crate::evaluation::Figures;

/// What came out of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What the network is worth.
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

/// How many training images the classes have. Those that are tested on alone do not count.
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
    /// Of a training set.
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

impl Figures {
    /// Each figure with its name, for people.
    pub fn rows(&self) -> Vec<(String, String)> {
        let percent = |value: f64| format!("{:.2}%", 100.0 * value);
        let (verification, retrieval) = (&self.verification, &self.retrieval);
        let mut rows = vec![
            ("pair accuracy", percent(verification.accuracy)),
            ("ROC AUC", format!("{:.4}", verification.auc)),
            ("equal error rate", percent(verification.eer)),
            ("threshold", format!("{:.4}", verification.threshold)),
            ("false accepts", verification.far.to_string()),
            ("false rejects", verification.frr.to_string()),
            (
                "test pairs",
                format!(
                    "{}{}",
                    verification.pairs,
                    if verification.balanced {
                        ", half similar"
                    } else {
                        ""
                    }
                ),
            ),
            ("P@1 among test images", percent(retrieval.p_at_1)),
        ];
        let against_training = self.p_at_1_against_training.map(percent);
        rows.extend(against_training.map(|share| ("P@1 against training images", share)));
        rows.extend([
            ("R-precision", percent(retrieval.r_precision)),
            ("MAP@R", percent(retrieval.map_at_r)),
        ]);
        for (set, loss) in &self.loss {
            let name = if set == "train" {
                "loss, training pairs"
            } else {
                "loss, test pairs"
            };
            rows.push((name, format!("{loss:.4}")));
        }
        if let Some(closed) = &self.closed_set {
            rows.extend([
                (
                    "trained classes: accuracy",
                    percent(closed.verification.accuracy),
                ),
                (
                    "trained classes: AUC",
                    format!("{:.4}", closed.verification.auc),
                ),
                ("trained classes: EER", percent(closed.verification.eer)),
                ("trained classes: P@1", percent(closed.retrieval.p_at_1)),
            ]);
        }
        rows.into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.rows() {
            writeln!(f, "{name:<28} {value}")?;
        }
        Ok(())
    }
}
