use anyhow::{Context, Result};
use data::{DataError, Dataset, LabelledImages, Pair, Purpose, balanced_pairs, stream};

use crate::settings::RunConfig;
use crate::terminal::usage;

/// The pairs that a run is judged on in training, fixed by its seed: half of each set's similar, half
/// dissimilar, or all of a kind where there are fewer.
pub struct EvaluationPairs {
    /// Of validation images.
    pub validation: Vec<Pair>,
    /// Of test images.
    pub test: TestPairs,
}

/// The pairs that a network is tested on.
pub struct TestPairs {
    /// Of test images.
    pub test: Vec<Pair>,
    /// Where those are of classes held out, of test images of the trained classes, if they make pairs.
    pub closed_test: Option<Vec<Pair>>,
}

impl EvaluationPairs {
    /// Draws them.
    ///
    /// # Errors
    /// For a set that has no similar or no dissimilar pair, and for fewer validation pairs than the
    /// operating point needs.
    pub fn new(config: &RunConfig, dataset: &Dataset) -> Result<Self> {
        let validation = pairs(config, &dataset.validation, Purpose::ValidationPairs)
            .with_context(|| {
                format!(
                    "pairing the {} validation images, to choose the threshold; hold out more \
                     (data.validation), or add pictures: two classes of six are enough to hold out \
                     some of each, six classes of two to hold out whole ones",
                    dataset.validation.len()
                )
            })?;
        let at = config.calibration.at;
        let (needed, dissimilar) = (
            at.dissimilar_pairs(),
            validation.iter().filter(|pair| !pair.similar).count(),
        );
        if dissimilar < needed {
            return Err(usage(format!(
                "calibration.at is {at}, which needs at least {needed} different dissimilar \
                 validation pairs (ten for each false accept it allows); the {} validation images \
                 make {dissimilar}: hold out more (data.validation, now {}), draw more \
                 (data.evaluation_pairs, now {}), or ask for a larger rate",
                dataset.validation.len(),
                config.data.validation,
                config.data.evaluation_pairs
            )));
        }
        Ok(Self {
            validation,
            test: TestPairs::new(config, dataset)?,
        })
    }
}

impl TestPairs {
    /// Draws them.
    ///
    /// # Errors
    /// For test images that make no similar or no dissimilar pair.
    pub fn new(config: &RunConfig, dataset: &Dataset) -> Result<Self> {
        let test = pairs(config, &dataset.test, Purpose::TestPairs).with_context(|| {
            format!(
                "pairing the {} images to test on, those set aside left out{}",
                dataset.test.len(),
                match dataset.notes.join("; ") {
                    notes if notes.is_empty() => notes,
                    notes => format!(" ({notes})"),
                }
            )
        })?;
        let closed = dataset.closed_test.as_ref();
        Ok(Self {
            test,
            closed_test: closed.and_then(|images| pairs(config, images, Purpose::TestPairs).ok()),
        })
    }
}

/// Pairs of validation images, if they make any.
pub fn validation_pairs(config: &RunConfig, dataset: &Dataset) -> Option<Vec<Pair>> {
    pairs(config, &dataset.validation, Purpose::ValidationPairs).ok()
}

fn pairs(
    config: &RunConfig,
    images: &LabelledImages,
    purpose: Purpose,
) -> Result<Vec<Pair>, DataError> {
    let mut rng = stream(config.seed, purpose, 0);
    balanced_pairs(images.labels(), config.data.evaluation_pairs, &mut rng)
}
