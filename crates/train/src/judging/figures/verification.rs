//! Verdicts on the test pairs, at the threshold chosen on validation pairs.

use metrics::Verification;

use super::{Row, decimal, percent};
use crate::judging::test_report::Judged;

pub fn measure(judged: &Judged) -> Verification {
    Verification::new(judged.roc, judged.threshold)
}

pub fn rows(verification: &Verification) -> Vec<Row> {
    let balanced = match verification.balanced {
        true => ", half similar",
        false => "",
    };
    vec![
        ("pair accuracy", percent(verification.accuracy)),
        ("ROC AUC", decimal(verification.auc)),
        ("equal error rate", percent(verification.eer)),
        ("threshold", decimal(verification.threshold)),
        ("false accepts", verification.far.to_string()),
        ("false rejects", verification.frr.to_string()),
        ("test pairs", format!("{}{balanced}", verification.pairs)),
    ]
}
