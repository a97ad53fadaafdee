//! How good a network is on images that it was not trained on.

mod distances;
mod figures;
mod heads;
mod pairs;
mod test_report;
mod validation;

pub use figures::Figures;
pub use heads::{Candidate, Head, Heads};
pub use pairs::EvaluationPairs;
pub use test_report::TestReport;
pub use validation::{ValidationMetrics, calibrate, validation_roc};
