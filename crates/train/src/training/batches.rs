//! The batches that a run trains on, drawn and transformed as its loss wants them.

use std::mem::take;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use data::{
    ClassBatch, ClassLoader, Dataset, MPerClassSampler, PairBatch, PairLoader, PairSampler,
};

use crate::settings::{LossKind, RunConfig};

/// Batches made ahead by the loader's thread: it needs no more than the time of one step.
const AHEAD: usize = 2;

/// The input of a step.
pub enum Batch {
    /// Images of pairs, and which pairs are similar.
    Pairs(PairBatch),
    /// Images, and their classes.
    Classes(ClassBatch),
}

impl Batch {
    /// Which training images are in it, for people.
    pub fn images(&self) -> String {
        let list = |words: Vec<String>| words.join(", ");
        match self {
            Self::Pairs(batch) => {
                let pairs = batch.pairs.iter();
                let pairs = pairs.map(|pair| format!("{}-{}", pair.first, pair.second));
                format!("its pairs of training images: {}", list(pairs.collect()))
            }
            Self::Classes(batch) => {
                let images = batch.images.iter().map(u32::to_string);
                format!("its training images: {}", list(images.collect()))
            }
        }
    }

    /// Moved out: the images (N, C, H, W) and the labels that [`Trainer::step`](crate::Trainer::step)
    /// takes, on `device`.
    pub fn tensors(&mut self, [c, h, w]: [usize; 3], device: &Device) -> Result<(Tensor, Tensor)> {
        let images = |pixels, count: usize| Tensor::from_vec(pixels, (count, c, h, w), device);
        Ok(match self {
            Self::Pairs(batch) => {
                let pairs = batch.same.len();
                let same = Tensor::from_vec(take(&mut batch.same), pairs, device)?;
                (images(take(&mut batch.pixels), 2 * pairs)?, same)
            }
            Self::Classes(batch) => {
                let count = batch.labels.len();
                let labels = Tensor::from_vec(take(&mut batch.labels), count, device)?;
                (images(take(&mut batch.pixels), count)?, labels)
            }
        })
    }
}

/// Draws a run's batches.
pub enum Loader {
    Pairs(Arc<PairLoader>),
    Classes(Arc<ClassLoader>),
}

impl Loader {
    /// Of the training images of `dataset`.
    pub fn new(config: &RunConfig, dataset: &Dataset) -> Result<Self> {
        let images = Arc::clone(&dataset.train);
        let transform = config.transform.train();
        match config.loss.kind {
            LossKind::Pairs => {
                let sampler = PairSampler::new(images.labels(), config.data.pairing, config.seed)
                    .context(
                    "pairing the training images; hold out fewer with data.validation",
                )?;
                let pairs = config.training.pairs_per_batch;
                let loader = PairLoader::new(images, sampler, transform, pairs, config.seed)?;
                Ok(Self::Pairs(loader.into()))
            }
            LossKind::InBatch => {
                let settings = &config.in_batch;
                let sampler = MPerClassSampler::new(
                    images.labels(),
                    settings.classes_per_batch,
                    settings.samples_per_class,
                    config.seed,
                )
                .context(
                    "drawing batches of the training images; see in_batch.classes_per_batch and \
                     in_batch.samples_per_class",
                )?;
                let loader = ClassLoader::new(images, sampler, transform, config.seed)?;
                Ok(Self::Classes(loader.into()))
            }
        }
    }

    /// Classes with too few images to be in any batch.
    pub fn left_out(&self) -> usize {
        match self {
            Self::Pairs(_) => 0,
            Self::Classes(loader) => loader.left_out(),
        }
    }

    /// The batches of steps `from` to `to`, the last excluded, made ahead on a thread of their own.
    pub fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = Batch>> {
        match self {
            Self::Pairs(loader) => Box::new(
                Arc::clone(loader)
                    .prefetch(from, to, AHEAD)
                    .map(Batch::Pairs),
            ),
            Self::Classes(loader) => Box::new(
                Arc::clone(loader)
                    .prefetch(from, to, AHEAD)
                    .map(Batch::Classes),
            ),
        }
    }
}
