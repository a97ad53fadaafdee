use serde::Serialize;

use crate::{Roc, euclidean};

/// Whether two pictures show the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The distance is at most the threshold.
    pub same: bool,
    /// The Euclidean distance of the two embeddings.
    pub distance: f32,
    /// The largest distance that counts as the same.
    pub threshold: f64,
    /// The false accept rate of the calibration pairs at this threshold, in [0, 1]; `None`, and left
    /// out of JSON, if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub far_at_threshold: Option<f64>,
}

impl Verdict {
    /// Compares two embeddings, (D,) each. `calibration` is the ROC of pairs held out of training.
    pub fn new(a: &[f32], b: &[f32], threshold: f64, calibration: Option<&Roc>) -> Self {
        let distance = euclidean(a, b);
        Self {
            same: is_same(distance, threshold),
            distance,
            threshold,
            far_at_threshold: calibration.map(|roc| roc.far_at(threshold)),
        }
    }
}

/// Whether a pair at this distance is judged the same: if the distance is at most the threshold.
///
/// Metrics and verdicts both go by this rule. The threshold is an f64 so that it can lie between
/// any two f32 distances. A NaN on either side is not the same.
pub fn is_same(distance: f32, threshold: f64) -> bool {
    f64::from(distance) <= threshold
}
