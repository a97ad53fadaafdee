//! The batches that a run trains on.

use std::sync::Arc;

use anyhow::{Context, Result};
use data::{Dataset, LabelledImages, Loader, MPerClass, PairSampler, Repeated, Sampler};

use crate::settings::{Groups, LossKind, RunConfig};

/// Batches made ahead by the loader's thread: it needs no more than the time of one step.
pub const AHEAD: usize = 2;

/// Whether there is a second training, on the images of the validation classes too. Not where figures are of
/// the validation images, which it would turn into ones of images that were trained on.
pub fn refits(config: &RunConfig, dataset: &Dataset) -> bool {
    config.training.refit && dataset.new_validation_classes && !dataset.tests_validation
}

/// Draws batches of `images` to train on, as the loss wants them.
pub fn loader(config: &RunConfig, images: &Arc<LabelledImages>) -> Result<Arc<Loader>> {
    let (seed, turns) = (config.seed, config.data.turns);
    let labels = images.labels();
    let sampler: Box<dyn Sampler> = match config.loss.kind {
        LossKind::Pairs => {
            let (pairing, pairs) = (config.data.pairing, config.training.pairs_per_batch);
            let sampler = PairSampler::new(labels, pairing, pairs, seed);
            let sampler = sampler
                .context("pairing the training images; hold out fewer with data.validation")?;
            Box::new(sampler.with_turns(turns))
        }
        LossKind::InBatch => {
            let settings = &config.in_batch;
            let classes = settings.classes_per_batch;
            let sampler = MPerClass::new(labels, classes, settings.samples_per_class, seed);
            let sampler = sampler.context(
                "drawing batches of the training images; see in_batch.classes_per_batch and \
                 in_batch.samples_per_class",
            )?;
            let sampler = match settings.groups {
                Groups::Mixed => sampler,
                Groups::Together => sampler.with_groups(&images.groups())?,
            };
            Box::new(sampler.with_turns(turns))
        }
    };
    Ok(Arc::new(drawing(config, images, sampler)?))
}

/// Draws `count` of `images` at every step, the same, transformed as those of [`loader`].
pub fn preview_loader(
    config: &RunConfig,
    images: &Arc<LabelledImages>,
    count: usize,
) -> Result<Loader> {
    let sampler = Repeated::new(images.labels(), count, config.seed);
    drawing(
        config,
        images,
        Box::new(sampler.with_turns(config.data.turns)),
    )
}

fn drawing(
    config: &RunConfig,
    images: &Arc<LabelledImages>,
    sampler: Box<dyn Sampler>,
) -> Result<Loader> {
    Ok(Loader::new(
        Arc::clone(images),
        sampler,
        config.transform.train(),
        config.seed,
    )?)
}
