//! The nearest training image of each test image.

use anyhow::Result;

use super::{Row, percent};
use crate::judging::test_report::Judged;

pub fn measure(judged: &Judged) -> Result<Option<f64>> {
    let (train, test) = (&judged.dataset.train, &judged.dataset.test);
    let trained = train.class_counts();
    let mut labels = test.labels().iter();
    let known = labels.any(|&label| trained[label as usize] > 0);
    let measured = known.then(|| {
        metrics::precision_at_1_against(judged.test, test.labels(), &judged.train, train.labels())
    });
    Ok(measured.transpose()?)
}

pub fn rows(p_at_1: Option<f64>) -> Vec<Row> {
    let row = |share| ("P@1 against training images", percent(share));
    p_at_1.map(row).into_iter().collect()
}
