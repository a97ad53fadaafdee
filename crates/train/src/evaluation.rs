//! What a network is worth on images it was not trained on.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use data::{Dataset, LabelledImages, Pair, Purpose, balanced_pairs, stream};
use loss_kernel::ContrastiveLoss;
use metrics::{Embeddings, Retrieval, Roc, Verification, euclidean};
use model::{Calibration, Network};
use serde::{Deserialize, Serialize};
use verifier::embed_images;

use crate::config::RunConfig;
use crate::watch::{NotFinite, collapsed};

/// The Euclidean distance of each pair.
fn distances(embeddings: &Embeddings, pairs: &[Pair]) -> Vec<f32> {
    let row = |image: u32| embeddings.row(image as usize);
    let distance = |pair: &Pair| euclidean(row(pair.first), row(pair.second));
    pairs.iter().map(distance).collect()
}

/// The mean loss of the pairs, on the CPU, where the embeddings are.
fn mean_loss(embeddings: &Embeddings, loss: ContrastiveLoss, pairs: &[Pair]) -> Result<f64> {
    let side = |image: fn(&Pair) -> u32| -> Result<Tensor> {
        let rows = pairs
            .iter()
            .flat_map(|pair| embeddings.row(image(pair) as usize));
        let rows: Vec<f32> = rows.copied().collect();
        let shape = (pairs.len(), embeddings.dimension());
        Ok(Tensor::from_vec(rows, shape, &Device::Cpu)?)
    };
    let same: Vec<u8> = pairs.iter().map(|pair| pair.same.into()).collect();
    let same = Tensor::from_vec(same, pairs.len(), &Device::Cpu)?;
    let loss = loss.forward(&side(|pair| pair.first)?, &side(|pair| pair.second)?, &same)?;
    Ok(loss.to_scalar::<f32>()?.into())
}

/// The pairs that a run's figures are reported on, fixed by its seed.
pub struct EvaluationPairs {
    validation: Vec<Pair>,
    test: Vec<Pair>,
    closed_test: Option<Vec<Pair>>,
}

impl EvaluationPairs {
    /// Half similar, half dissimilar, of each set.
    pub fn new(config: &RunConfig, dataset: &Dataset) -> Result<Self> {
        let pairs = |images: &LabelledImages, purpose| {
            let mut rng = stream(config.seed, purpose, 0);
            balanced_pairs(images.labels(), config.data.evaluation_pairs, &mut rng)
        };
        Ok(Self {
            validation: pairs(&dataset.validation, Purpose::ValidationPairs)
                .context("pairing the validation images; hold out more with data.validation")?,
            test: pairs(&dataset.test, Purpose::TestPairs).context("pairing the test images")?,
            closed_test: dataset
                .closed_test
                .as_ref()
                .map(|images| pairs(images, Purpose::TestPairs))
                .transpose()
                .context("pairing the trained classes' test images")?,
        })
    }
}

/// A look at a network in training.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Checkup {
    /// Mean loss of the validation pairs.
    pub validation_loss: f64,
    /// Area under their ROC curve.
    pub validation_auc: f64,
    /// Mean loss of the test pairs: for the curve, nothing is chosen by it.
    pub test_loss: f64,
    /// Share of test pairs judged rightly at the threshold that is best for the validation pairs now:
    /// as the loss, nothing is chosen by it.
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

impl Checkup {
    /// Embeds both sets.
    pub fn new(
        net: &Network,
        config: &RunConfig,
        dataset: &Dataset,
        pairs: &EvaluationPairs,
    ) -> Result<Self> {
        let transform = config.transform.evaluation();
        let loss = config.loss.of_pairs();
        let validation = embed_images(net, &dataset.validation, &transform)?;
        let test = embed_images(net, &dataset.test, &transform)?;
        let validation_loss = mean_loss(&validation, loss, &pairs.validation)?;
        let test_loss = mean_loss(&test, loss, &pairs.test)?;
        // JSON has no such numbers, and what made them is not what would fail next.
        for loss in [validation_loss, test_loss] {
            NotFinite::check(loss, "the loss", "on images held out")?;
        }
        let distances = distances(&validation, &pairs.validation);
        let collapsed = collapsed(&distances, config.loss.margin.get());
        let validation = roc(&distances, &pairs.validation)?;
        let test_p_at_1 = metrics::precision_at_1(&test, dataset.test.labels())?;
        let test = roc(&self::distances(&test, &pairs.test), &pairs.test)?;
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

/// The threshold that the configuration asks for on validation pairs, and what it was chosen by.
pub fn calibrate(
    net: &Network,
    config: &RunConfig,
    dataset: &Dataset,
    pairs: &EvaluationPairs,
) -> Result<(f64, Calibration)> {
    let validation = embed_images(net, &dataset.validation, &config.transform.evaluation())?;
    let roc = roc(
        &distances(&validation, &pairs.validation),
        &pairs.validation,
    )?;
    let at = config.calibration.at;
    Ok((at.threshold(&roc)?, roc.calibration(at)))
}

/// What a trained network is worth.
pub struct Assessment {
    /// The figures.
    pub figures: Figures,
    /// Embeddings of the test images.
    pub test: Embeddings,
    /// The test pairs.
    pub pairs: Vec<Pair>,
    /// Their distances.
    pub distances: Vec<f32>,
    /// Their ROC curve.
    pub roc: Roc,
}

/// The figures that `summary.json` and `train evaluate` give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// On test pairs, at the threshold chosen on validation pairs.
    pub verification: Verification,
    /// Among the test images, each against all others.
    pub retrieval: Retrieval,
    /// Share of test images whose nearest training image shows the same class; none where no training
    /// image can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_at_1_against_training: Option<f64>,
    /// Mean loss by set, each on pairs of its own, half of them similar.
    pub loss: BTreeMap<String, f64>,
    /// Where `verification` and `retrieval` are of classes held out: the same of the classes trained
    /// on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_set: Option<ClosedSet>,
}

/// What a network is worth on other images of the classes that it was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosedSet {
    /// On pairs of their test images.
    pub verification: Verification,
    /// Among them.
    pub retrieval: Retrieval,
}

impl Assessment {
    /// Embeds the training and the test images and judges them at `threshold`.
    pub fn new(
        net: &Network,
        config: &RunConfig,
        dataset: &Dataset,
        threshold: f64,
    ) -> Result<Self> {
        let pairs = EvaluationPairs::new(config, dataset)?;
        let transform = config.transform.evaluation();
        let loss = config.loss.of_pairs();
        let test = embed_images(net, &dataset.test, &transform)?;
        let train = embed_images(net, &dataset.train, &transform)?;
        let train_pairs = balanced_pairs(
            dataset.train.labels(),
            config.data.evaluation_pairs,
            &mut stream(config.seed, Purpose::TestPairs, 1),
        )?;
        let closed_set = match (&dataset.closed_test, &pairs.closed_test) {
            (Some(images), Some(pairs)) => {
                let embedded = embed_images(net, images, &transform)?;
                let roc = roc(&distances(&embedded, pairs), pairs)?;
                Some(ClosedSet {
                    verification: Verification::new(&roc, threshold),
                    retrieval: metrics::retrieval(&embedded, images.labels())?,
                })
            }
            _ => None,
        };
        let trained = dataset.train.class_counts();
        let known = dataset
            .test
            .labels()
            .iter()
            .any(|&label| trained[label as usize] > 0);
        let p_at_1_against_training = known
            .then(|| {
                metrics::precision_at_1_against(
                    &test,
                    dataset.test.labels(),
                    &train,
                    dataset.train.labels(),
                )
            })
            .transpose()?;
        let distances = distances(&test, &pairs.test);
        let roc = roc(&distances, &pairs.test)?;
        Ok(Self {
            figures: Figures {
                verification: Verification::new(&roc, threshold),
                retrieval: metrics::retrieval(&test, dataset.test.labels())?,
                p_at_1_against_training,
                loss: BTreeMap::from([
                    ("train".into(), mean_loss(&train, loss, &train_pairs)?),
                    ("test".into(), mean_loss(&test, loss, &pairs.test)?),
                ]),
                closed_set,
            },
            distances,
            pairs: pairs.test,
            roc,
            test,
        })
    }
}

/// Of pairs at their distances.
fn roc(distances: &[f32], pairs: &[Pair]) -> Result<Roc> {
    let same: Vec<bool> = pairs.iter().map(|pair| pair.same).collect();
    Ok(Roc::new(distances, &same)?)
}
