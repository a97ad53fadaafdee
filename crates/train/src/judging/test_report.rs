use anyhow::Result;
use data::{Compose, Dataset, Pair};
use metrics::{Embeddings, Roc};
use model::Network;
use verifier::embed_images;

use super::Figures;
use super::distances::{distances, roc};
use super::pairs::{TestPairs, validation_pairs};
use crate::settings::RunConfig;

/// A trained network on the test images.
pub struct TestReport {
    /// How good it is.
    pub figures: Figures,
    /// Embeddings of the test images.
    pub embeddings: Embeddings,
    /// The test pairs.
    pub pairs: Vec<Pair>,
    /// Their distances.
    pub distances: Vec<f32>,
    /// Their ROC curve.
    pub roc: Roc,
}

impl TestReport {
    /// Embeds the training and the test images, made network input by `transform`, and judges them at
    /// `threshold`.
    ///
    /// # Errors
    /// For sets that cannot be paired, and whatever the network's device reports.
    pub fn new(
        net: &Network,
        transform: &Compose,
        config: &RunConfig,
        dataset: &Dataset,
        threshold: f64,
    ) -> Result<Self> {
        let TestPairs {
            test: pairs,
            closed_test,
        } = TestPairs::new(config, dataset)?;
        let embeddings = embed_images(net, &dataset.test, transform)?;
        let distances = distances(&embeddings, &pairs);
        let roc = roc(&distances, &pairs)?;
        let figures = Figures::new(&Judged {
            net,
            transform,
            config,
            dataset,
            threshold,
            train: embed_images(net, &dataset.train, transform)?,
            test: &embeddings,
            pairs: &pairs,
            closed_pairs: closed_test.as_deref(),
            distances: &distances,
            roc: &roc,
            validation_pairs: validation_pairs(config, dataset).as_deref(),
        })?;
        Ok(Self {
            figures,
            embeddings,
            pairs,
            distances,
            roc,
        })
    }
}

/// What figures are made of.
pub struct Judged<'a> {
    /// The network.
    pub net: &'a Network,
    /// What makes network input of an image's pixels.
    pub transform: &'a Compose,
    /// Its run's settings.
    pub config: &'a RunConfig,
    /// Its run's images.
    pub dataset: &'a Dataset,
    /// Pairs at this distance or less are judged the same.
    pub threshold: f64,
    /// Embeddings of the training images.
    pub train: Embeddings,
    /// Embeddings of the test images.
    pub test: &'a Embeddings,
    /// The test pairs.
    pub pairs: &'a [Pair],
    /// With classes held out, test pairs of the trained classes.
    pub closed_pairs: Option<&'a [Pair]>,
    /// The distances of the test pairs.
    pub distances: &'a [f32],
    /// The ROC curve of the test pairs.
    pub roc: &'a Roc,
    /// The pairs that a threshold can be chosen on, if there are any.
    pub validation_pairs: Option<&'a [Pair]>,
}
