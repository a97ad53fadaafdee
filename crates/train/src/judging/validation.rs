use anyhow::Result;
use data::Dataset;
use metrics::{Calibration, Roc, Verification};
use model::Network;
use serde::{Deserialize, Serialize};
use verifier::embed_images;

use super::EvaluationPairs;
use super::distances::{distances, mean_loss, roc};
use crate::settings::RunConfig;
use crate::training::{NotFinite, collapsed};

/// How good a network in training is; a line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ValidationMetrics {
    /// Mean loss of the validation pairs.
    pub validation_loss: f64,
    /// Area under their ROC curve.
    pub validation_auc: f64,
    /// Mean loss of the test pairs, for the curve; nothing is chosen by it.
    pub test_loss: f64,
    /// Balanced accuracy on the test pairs at the threshold that is best on the validation pairs now;
    /// nothing is chosen by it.
    pub test_accuracy: f64,
    /// Area under their ROC curve.
    pub test_auc: f64,
    /// Their equal error rate.
    pub test_eer: f64,
    /// Share of test images whose nearest other test image shows the same class.
    pub test_p_at_1: f64,
    /// Whether the network maps all validation images to nearly one point.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub collapsed: bool,
}

impl ValidationMetrics {
    /// Embeds both sets and judges them.
    pub fn new(
        net: &Network,
        config: &RunConfig,
        dataset: &Dataset,
        pairs: &EvaluationPairs,
    ) -> Result<Self> {
        let transform = config.transform.evaluation();
        let loss = config.pair_loss();
        let validation = embed_images(net, &dataset.validation, &transform)?;
        let test = embed_images(net, &dataset.test, &transform)?;
        let validation_loss = mean_loss(&validation, loss, &pairs.validation)?;
        let test_loss = mean_loss(&test, loss, &pairs.test.test)?;
        // JSON has no such numbers, and what made them is not what would fail next.
        for loss in [validation_loss, test_loss] {
            NotFinite::check(loss, "the loss", "on images held out")?;
        }
        let apart = distances(&validation, &pairs.validation);
        let collapsed = collapsed(&apart, config.loss.margin.get());
        let validation = roc(&apart, &pairs.validation)?;
        let test_p_at_1 = metrics::precision_at_1(&test, dataset.test.labels())?;
        let test = roc(&distances(&test, &pairs.test.test), &pairs.test.test)?;
        let verification = Verification::new(&test, validation.best_threshold());
        Ok(Self {
            validation_loss,
            validation_auc: validation.auc(),
            test_loss,
            test_accuracy: verification.accuracy,
            test_auc: verification.auc,
            test_eer: verification.eer,
            test_p_at_1,
            collapsed,
        })
    }
}

/// The ROC curve of the validation pairs.
pub fn validation_roc(
    net: &Network,
    config: &RunConfig,
    dataset: &Dataset,
    pairs: &EvaluationPairs,
) -> Result<Roc> {
    let validation = embed_images(net, &dataset.validation, &config.transform.evaluation())?;
    roc(
        &distances(&validation, &pairs.validation),
        &pairs.validation,
    )
}

/// The threshold at the configuration's operating point on validation pairs, and what it was chosen
/// from.
pub fn calibrate(
    net: &Network,
    config: &RunConfig,
    dataset: &Dataset,
    pairs: &EvaluationPairs,
) -> Result<(f64, Calibration)> {
    let roc = validation_roc(net, config, dataset, pairs)?;
    let at = config.calibration.at;
    Ok((at.threshold(&roc)?, roc.calibration(at)))
}
