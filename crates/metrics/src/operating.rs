//! Where on the curve to work, and how sure the pairs can be of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{MetricsError, Roc};

/// What a threshold is chosen for; written `accuracy`, `eer` or `far=0.001`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OperatingRule {
    /// Most right verdicts: [`Roc::best_threshold`].
    #[default]
    Accuracy,
    /// As many false accepts as false rejects, as rates: [`Roc::eer`].
    EqualErrorRate,
    /// At most this share of different pairs passes for the same: [`Roc::threshold_at_far`].
    FalseAcceptRate(f64),
}

impl OperatingRule {
    /// The threshold that it chooses, in units of distance.
    ///
    /// # Errors
    ///
    /// Those of [`Roc::threshold_at_far`].
    pub fn threshold(self, roc: &Roc) -> Result<f64, MetricsError> {
        match self {
            Self::Accuracy => Ok(roc.best_threshold()),
            Self::EqualErrorRate => Ok(roc.eer().threshold),
            Self::FalseAcceptRate(most) => roc.threshold_at_far(most),
        }
    }

    /// How many different pairs it needs.
    pub fn different_pairs(self) -> usize {
        match self {
            Self::Accuracy | Self::EqualErrorRate => 1,
            Self::FalseAcceptRate(most) => different_pairs_for(most),
        }
    }
}

/// Ten for each false accept that a rate of `far` allows.
pub(crate) fn different_pairs_for(far: f64) -> usize {
    // 10 / 0.001 is 10000 and a little more than that in binary.
    (10.0 / far * (1.0 - 1e-12)).ceil() as usize
}

impl fmt::Display for OperatingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accuracy => f.write_str("accuracy"),
            Self::EqualErrorRate => f.write_str("eer"),
            Self::FalseAcceptRate(most) => write!(f, "far={most}"),
        }
    }
}

impl FromStr for OperatingRule {
    type Err = MetricsError;

    fn from_str(text: &str) -> Result<Self, MetricsError> {
        let unknown = || MetricsError::UnknownRule { found: text.into() };
        match text {
            "accuracy" => Ok(Self::Accuracy),
            "eer" => Ok(Self::EqualErrorRate),
            _ => {
                let far = text.strip_prefix("far=").ok_or_else(unknown)?;
                match far.parse().map_err(|_| unknown())? {
                    far if far > 0.0 && far < 1.0 => Ok(Self::FalseAcceptRate(far)),
                    found => Err(MetricsError::FarRange { found }),
                }
            }
        }
    }
}

impl TryFrom<String> for OperatingRule {
    type Error = MetricsError;

    fn try_from(text: String) -> Result<Self, MetricsError> {
        text.parse()
    }
}

impl From<OperatingRule> for String {
    fn from(rule: OperatingRule) -> Self {
        rule.to_string()
    }
}

/// A share of pairs with the wrong verdict, and between what the rate behind it lies.
///
/// The interval is Wilson's of 95% (Journal of the American Statistical Association 22, 1927), which
/// also holds where no error or nothing else was seen. It takes the pairs for independent; pairs that
/// share images are less than that, and the true interval is wider.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ErrorRate {
    /// Errors as a share of `pairs`, in [0, 1].
    pub rate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Wrong verdicts.
    pub errors: usize,
    /// Pairs that could have had one.
    pub pairs: usize,
}

impl ErrorRate {
    /// `errors` among `pairs`. Of no pairs the rate is 0 and the interval [0, 1].
    pub fn new(errors: usize, pairs: usize) -> Self {
        if pairs == 0 {
            return Self {
                rate: 0.0,
                low: 0.0,
                high: 1.0,
                errors,
                pairs,
            };
        }
        // The normal distribution's quantile at 97.5%.
        const Z: f64 = 1.959_963_984_540_054;
        let n = pairs as f64;
        let rate = errors as f64 / n;
        let middle = rate + Z * Z / (2.0 * n);
        let spread = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        Self {
            rate,
            low: if errors == 0 {
                0.0
            } else {
                (middle - spread) / scale
            },
            high: if errors == pairs {
                1.0
            } else {
                (middle + spread) / scale
            },
            errors,
            pairs,
        }
    }
}

impl fmt::Display for ErrorRate {
    /// `0.12% (0.07% to 0.21%)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [rate, low, high] = [self.rate, self.low, self.high].map(|share| 100.0 * share);
        write!(f, "{rate:.2}% ({low:.2}% to {high:.2}%)")
    }
}
