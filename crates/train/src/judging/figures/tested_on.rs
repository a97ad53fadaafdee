//! What the figures are of.

use data::Dataset;
use serde::{Deserialize, Serialize};

use super::Row;
use crate::judging::test_report::Judged;

/// The images that a network is judged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedOn {
    /// How many.
    pub images: usize,
    /// Of how many classes.
    pub classes: usize,
    /// Of these, how many the network was not trained on, where it was on others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_classes: Option<usize>,
    /// What the network knows of them.
    pub kind: Kind,
}

/// What a network knows of the images that it is judged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// New images of classes that it was trained on: a closed set.
    TrainedClasses,
    /// Images of classes that it was not trained on: an open set.
    NewClasses,
    /// Images of classes that it was trained on and of others.
    MixedClasses,
    /// The images that chose the threshold, for lack of others.
    Validation,
    /// Images of another data set than it was trained on.
    OtherData,
}

pub fn measure(judged: &Judged) -> TestedOn {
    let dataset = judged.dataset;
    let trained = dataset.train.class_counts();
    let counts = dataset.test.class_counts();
    let tested = || (0..counts.len()).filter(|&class| counts[class] > 0);
    let new = tested().filter(|&class| trained[class] == 0).count();
    let kind = kind(dataset, new);
    TestedOn {
        images: dataset.test.len(),
        classes: tested().count(),
        new_classes: (kind == Kind::MixedClasses).then_some(new),
        kind,
    }
}

fn kind(dataset: &Dataset, new_classes: usize) -> Kind {
    if dataset.tests_validation {
        Kind::Validation
    } else if dataset.new_test_classes {
        Kind::NewClasses
    } else if dataset.train.is_empty() {
        Kind::OtherData
    } else if new_classes > 0 {
        Kind::MixedClasses
    } else {
        Kind::TrainedClasses
    }
}

pub fn rows(tested: Option<&TestedOn>) -> Vec<Row> {
    let words = |tested: &TestedOn| {
        let TestedOn {
            images, classes, ..
        } = tested;
        match tested.kind {
            Kind::TrainedClasses => {
                format!("{images} new images of {classes} classes that it was trained on")
            }
            Kind::NewClasses => format!("{images} images of {classes} classes that it never saw"),
            Kind::MixedClasses => {
                let new = tested.new_classes.unwrap_or_default();
                format!("{images} images of {classes} classes, {new} of which it never saw")
            }
            Kind::Validation => {
                format!("{images} images that chose the threshold, as there are no others")
            }
            Kind::OtherData => format!("{images} images of {classes} classes of other data"),
        }
    };
    tested
        .map(|of| ("tested on", words(of)))
        .into_iter()
        .collect()
}
