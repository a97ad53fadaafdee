//! What the figures are of.

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
    /// The images that chose the threshold, for lack of others.
    Validation,
    /// Images of another data set than it was trained on.
    OtherData,
}

pub fn measure(judged: &Judged) -> TestedOn {
    let dataset = judged.dataset;
    let counts = dataset.test.class_counts();
    TestedOn {
        images: dataset.test.len(),
        classes: counts.iter().filter(|&&count| count > 0).count(),
        kind: if dataset.tests_validation {
            Kind::Validation
        } else if dataset.new_test_classes {
            Kind::NewClasses
        } else if dataset.train.is_empty() {
            Kind::OtherData
        } else {
            Kind::TrainedClasses
        },
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
