use anyhow::{Context, Result};
use data::{Dataset, LabelledImages, Pair, Purpose, balanced_pairs, stream};

use crate::settings::RunConfig;

/// The pairs that a run is judged on, fixed by its seed: half of each set's similar, half dissimilar.
pub struct EvaluationPairs {
    /// Of validation images.
    pub validation: Vec<Pair>,
    /// Of test images.
    pub test: Vec<Pair>,
    /// With classes held out, of test images of the trained classes.
    pub closed_test: Option<Vec<Pair>>,
}

impl EvaluationPairs {
    /// Draws them.
    ///
    /// # Errors
    /// For a set that has no similar or no dissimilar pair.
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
