//! The nearest training image of each test image of a class that was trained on.

use anyhow::Result;
use metrics::Embeddings;

use super::{Row, percent};
use crate::judging::test_report::Judged;

pub fn measure(judged: &Judged) -> Result<Option<f64>> {
    let (train, labels) = (&judged.dataset.train, judged.dataset.test.labels());
    let trained = train.class_counts();
    let (known, labels) = of_classes(judged.test, labels, |label| trained[label as usize] > 0);
    if labels.is_empty() {
        return Ok(None);
    }
    let known = Embeddings::new(known, judged.test.dimension())?;
    let share = metrics::precision_at_1_against(&known, &labels, &judged.train, train.labels())?;
    Ok(Some(share))
}

/// The values and the labels of the rows of such classes.
fn of_classes(
    rows: &Embeddings,
    labels: &[u32],
    wanted: impl Fn(u32) -> bool,
) -> (Vec<f32>, Vec<u32>) {
    let (mut values, mut kept) = (Vec::new(), Vec::new());
    for (row, &label) in rows.rows().zip(labels) {
        if wanted(label) {
            values.extend_from_slice(row);
            kept.push(label);
        }
    }
    (values, kept)
}

pub fn rows(p_at_1: Option<f64>) -> Vec<Row> {
    let row = |share| ("P@1 against training images", percent(share));
    p_at_1.map(row).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rows_of_wanted_classes_are_kept() {
        let rows = Embeddings::new(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 2).unwrap();
        let found = of_classes(&rows, &[7, 8, 7], |label| label == 7);
        assert_eq!(found, (vec![0.0, 1.0, 4.0, 5.0], vec![7, 7]));
    }
}
