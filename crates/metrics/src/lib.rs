//! How good an embedding is at verification (do two images show the same thing?) and at retrieval
//! (does an image find others of its class?).
//!
//! Verification looks at the distance of each pair; the smaller, the more similar. [`Roc`] gives the
//! error rates at every threshold, the area under the curve, the equal error rate and the threshold
//! for an [`OperatingPoint`]. [`is_same`] is the rule that turns a threshold into a [`Verdict`]:
//!
//! ```
//! use metrics::{Roc, Verification, is_same};
//!
//! # fn main() -> Result<(), metrics::MetricsError> {
//! let validation = Roc::new(&[0.1, 0.3, 0.9, 0.8], &[true, true, false, false])?;
//! let threshold = validation.best_threshold();
//!
//! let test = Roc::new(&[0.2, 0.7, 0.6, 1.1], &[true, true, false, false])?;
//! let result = Verification::new(&test, threshold);
//! assert_eq!(result.accuracy, 0.75);
//! assert_eq!(result.auc, 0.75);
//! assert!(is_same(0.4, threshold));
//! # Ok(())
//! # }
//! ```
//!
//! Retrieval looks at the [`Embeddings`] themselves: [`retrieval`] within one set, each embedding
//! left out in turn ([`precision_at_1`] is its quick part), and [`precision_at_1_against`] from one
//! set to another. [`Embeddings::nearest`] searches for one probe.
//!
//! [`Whitening`] makes features of pixels that an embedding has to beat.
//!
//! [`pair_intervals`] says how far the error rates and the other figures of pairs can be trusted.
//! Few-shot classification asks which of a few new classes a picture belongs to: [`few_shot`] draws
//! its trials, [`fixed_trials`] takes given ones.
//!
//! Counts are exact integers and results are the same bits for any number of threads.

mod bootstrap;
mod calibration;
mod distance;
mod embeddings;
mod error;
mod error_rate;
mod few_shot;
mod fixed_trials;
mod narrow;
mod nearest;
mod operating_point;
mod query_errors;
mod retrieval;
mod roc;
mod verdict;
mod verification;
mod whitening;
mod wide;

pub use bootstrap::{Interval, PairIntervals, pair_intervals};
pub use calibration::Calibration;
pub use distance::euclidean;
pub use embeddings::{Embeddings, Neighbour};
pub use error::MetricsError;
pub use error_rate::ErrorRate;
pub use few_shot::{FewShot, Trials, few_shot};
pub use fixed_trials::{FixedTrial, FixedTrials, fixed_trials};
pub use operating_point::OperatingPoint;
pub use query_errors::QueryErrors;
pub use retrieval::{Retrieval, precision_at_1, precision_at_1_against, retrieval};
pub use roc::{EqualErrorRate, Roc, RocPoint};
pub use verdict::{Verdict, is_same};
pub use verification::Verification;
pub use whitening::{Whitening, principal_components};
