//! The nearest training image of each test image.

use anyhow::Result;

use super::{Row, percent};
use crate::judging::test_report::Judged;

pub fn measure(judged: &Judged) -> Result<Option<f64>> {
    let Judged { train, test, .. } = judged;
    let trained = judged.dataset.train.class_counts();
    let known = test.labels.iter().any(|&label| trained[label as usize] > 0);
    let measured = known.then(|| {
        metrics::precision_at_1_against(
            &test.values,
            &test.labels,
            &train.values,
            &train.labels,
            test.dim,
        )
    });
    Ok(measured.transpose()?)
}

pub fn rows(p_at_1: Option<f64>) -> Vec<Row> {
    let row = |share| ("P@1 against training images", percent(share));
    p_at_1.map(row).into_iter().collect()
}
