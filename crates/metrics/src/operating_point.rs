use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{MetricsError, Roc};

/// What a threshold is chosen for; written `accuracy`, `eer` or `far=0.001`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OperatingPoint {
    /// The best balanced accuracy: [`Roc::best_threshold`].
    #[default]
    Accuracy,
    /// Equal false accept and false reject rates: [`Roc::eer`].
    EqualErrorRate,
    /// At most this false accept rate: [`Roc::threshold_at_far`].
    FalseAcceptRate(f64),
}

impl OperatingPoint {
    /// The threshold for it on these pairs, a distance of at least 0.
    ///
    /// # Errors
    ///
    /// Those of [`Roc::threshold_at_far`].
    pub fn threshold(self, roc: &Roc) -> Result<f64, MetricsError> {
        let threshold = match self {
            Self::Accuracy => roc.best_threshold(),
            Self::EqualErrorRate => roc.eer().threshold,
            Self::FalseAcceptRate(most) => roc.threshold_at_far(most)?,
        };
        // Where nothing may be accepted, just below the smallest distance may be just below 0.
        Ok(threshold.max(0.0))
    }

    /// How many dissimilar pairs it needs.
    pub fn dissimilar_pairs(self) -> usize {
        match self {
            Self::Accuracy | Self::EqualErrorRate => 1,
            Self::FalseAcceptRate(most) => dissimilar_pairs_for(most),
        }
    }
}

/// Ten for each false accept that a rate of `far` allows.
pub(crate) fn dissimilar_pairs_for(far: f64) -> usize {
    // 10 / 0.001 is 10000 and a little more than that in binary.
    (10.0 / far * (1.0 - 1e-12)).ceil() as usize
}

impl fmt::Display for OperatingPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accuracy => f.write_str("accuracy"),
            Self::EqualErrorRate => f.write_str("eer"),
            Self::FalseAcceptRate(most) => write!(f, "far={most}"),
        }
    }
}

impl FromStr for OperatingPoint {
    type Err = MetricsError;

    fn from_str(text: &str) -> Result<Self, MetricsError> {
        let unknown = || {
            MetricsError::OperatingPoint(format!(
                "`{text}` is no operating point: write accuracy, eer or far=RATE, such as far=0.001"
            ))
        };
        match text {
            "accuracy" => Ok(Self::Accuracy),
            "eer" => Ok(Self::EqualErrorRate),
            _ => {
                let far = text.strip_prefix("far=").ok_or_else(unknown)?;
                far.parse()
                    .map_err(|_| unknown())
                    .and_then(check_far)
                    .map(Self::FalseAcceptRate)
            }
        }
    }
}

/// The rate itself, if a threshold can be chosen for it.
pub(crate) fn check_far(far: f64) -> Result<f64, MetricsError> {
    if far > 0.0 && far < 1.0 {
        return Ok(far);
    }
    Err(MetricsError::OperatingPoint(format!(
        "a false accept rate of {far} cannot be asked for: it is between 0 and 1"
    )))
}

impl TryFrom<String> for OperatingPoint {
    type Error = MetricsError;

    fn try_from(text: String) -> Result<Self, MetricsError> {
        text.parse()
    }
}

impl From<OperatingPoint> for String {
    fn from(point: OperatingPoint) -> Self {
        point.to_string()
    }
}
