//! With classes held out: other images of the classes that the network was trained on.

use anyhow::Result;
use metrics::{Retrieval, Verification};
use serde::{Deserialize, Serialize};
use verifier::embed_images;

use super::{Row, decimal, percent};
use crate::judging::distances::{distances, roc};
use crate::judging::test_report::Judged;

/// How good a network is on test images of the classes that it was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosedSet {
    /// Verdicts on their pairs.
    pub verification: Verification,
    /// Among them.
    pub retrieval: Retrieval,
}

pub fn measure(judged: &Judged) -> Result<Option<ClosedSet>> {
    let (Some(images), Some(pairs)) = (&judged.dataset.closed_test, judged.closed_pairs) else {
        return Ok(None);
    };
    let embedded = embed_images(judged.net, images, judged.transform)?;
    let roc = roc(&distances(&embedded, pairs), pairs)?;
    Ok(Some(ClosedSet {
        verification: Verification::new(&roc, judged.threshold),
        retrieval: metrics::retrieval(&embedded, images.labels())?,
    }))
}

pub fn rows(closed: Option<&ClosedSet>) -> Vec<Row> {
    let Some(ClosedSet {
        verification,
        retrieval,
    }) = closed
    else {
        return Vec::new();
    };
    vec![
        ("trained classes: accuracy", percent(verification.accuracy)),
        ("trained classes: AUC", decimal(verification.auc)),
        ("trained classes: EER", percent(verification.eer)),
        ("trained classes: P@1", percent(retrieval.p_at_1)),
    ]
}
