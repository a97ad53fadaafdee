use serde::{Deserialize, Serialize};

use crate::LossError;

/// How far apart dissimilar pairs are pushed; positive and finite. Caffe's default is 1.
///
/// The exponential variants read it as `Q`, the upper bound of the distance.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Margin(f64);

impl Margin {
    /// Checks the value.
    pub fn new(value: f64) -> Result<Self, LossError> {
        if value.is_finite() && value > 0.0 {
            Ok(Self(value))
        } else {
            Err(LossError::Margin(value))
        }
    }

    /// The number itself, in units of the embedding's distance.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Margin {
    fn default() -> Self {
        Self(1.0)
    }
}

impl TryFrom<f64> for Margin {
    type Error = LossError;

    fn try_from(value: f64) -> Result<Self, LossError> {
        Self::new(value)
    }
}

impl From<Margin> for f64 {
    fn from(margin: Margin) -> Self {
        margin.0
    }
}
