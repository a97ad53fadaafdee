use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Interval;

/// The share of pairs with a wrong verdict, with a confidence interval.
///
/// The interval is Wilson's at 95% (Journal of the American Statistical Association 22, 1927), which
/// stays sensible if no pair or every pair was judged wrong. It assumes independent pairs; for pairs
/// that share images or classes the true interval is wider: see [`widened`](Self::widened).
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
    /// Pairs judged.
    pub pairs: usize,
}

impl ErrorRate {
    /// `errors` among `pairs`. Without pairs the rate is 0 and the interval [0, 1].
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

    /// With the smallest interval that contains this one and `other`, such as that of
    /// [`pair_intervals`](crate::pair_intervals).
    ///
    /// Each makes up for what the other lacks: Wilson's does not know which pairs go together, and a
    /// bootstrap of pairs without an error has no width.
    pub fn widened(self, other: Interval) -> Self {
        Self {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            ..self
        }
    }
}

impl fmt::Display for ErrorRate {
    /// `0.12% (0.07% to 0.21%)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rate(f, [self.rate, self.low, self.high])
    }
}

/// A rate with the ends of its interval, as [`ErrorRate`] is displayed.
pub(crate) fn write_rate(f: &mut fmt::Formatter<'_>, shares: [f64; 3]) -> fmt::Result {
    let [rate, low, high] = shares.map(|share| 100.0 * share);
    write!(f, "{rate:.2}% ({low:.2}% to {high:.2}%)")
}
