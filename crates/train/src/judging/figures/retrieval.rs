//! Neighbours among the test images.

use anyhow::Result;
use metrics::Retrieval;

use super::{Row, percent};
use crate::judging::test_report::Judged;

pub fn measure(judged: &Judged) -> Result<Retrieval> {
    let labels = judged.dataset.test.labels();
    Ok(metrics::retrieval(judged.test, labels)?)
}

/// The nearest neighbour, and all others: P@1 against training images stands between them.
pub fn rows(retrieval: &Retrieval) -> (Vec<Row>, Vec<Row>) {
    (
        vec![("P@1 among test images", percent(retrieval.p_at_1))],
        vec![
            ("R-precision", percent(retrieval.r_precision)),
            ("MAP@R", percent(retrieval.map_at_r)),
        ],
    )
}
