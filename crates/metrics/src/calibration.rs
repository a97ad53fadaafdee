use serde::{Deserialize, Serialize};

use crate::OperatingPoint;

/// What a threshold was chosen by, enough to choose another: the ROC curve of pairs held out of
/// training, as columns with one row for each step that is kept, nearest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// What the threshold was chosen for.
    pub at: OperatingPoint,
    /// Pairs up to this distance are judged the same; ascending.
    pub distance: Vec<f32>,
    /// How many similar pairs that accepts.
    pub same: Vec<u64>,
    /// How many dissimilar pairs that accepts.
    pub different: Vec<u64>,
}
