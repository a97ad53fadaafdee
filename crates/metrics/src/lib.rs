//! How good an embedding is: verification (are two images the same thing?) and retrieval (does
//! an image find its own kind?).
//!
//! Verification looks at one distance a pair; the smaller, the more similar. [`Roc`] gives every
//! operating point, the area under the curve, the equal error rate and the threshold to use, and
//! [`is_same`] is the rule that turns a threshold into a verdict:
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
//! Retrieval looks at the embeddings themselves: [`retrieval`] within one set, each point left out
//! in turn ([`precision_at_1`] is its quick part), and [`precision_at_1_against`] from one set to
//! another.
//!
//! Counts are exact integers and results are the same bits for any number of threads.

mod distance;
mod error;
mod operating;
mod retrieval;
mod roc;
mod verification;

pub use distance::euclidean;
pub use error::MetricsError;
pub use operating::{ErrorRate, OperatingRule};
pub use retrieval::{Retrieval, precision_at_1, precision_at_1_against, retrieval};
pub use roc::{EqualErrorRate, OperatingPoint, Roc, RocColumns, is_same};
pub use verification::Verification;
