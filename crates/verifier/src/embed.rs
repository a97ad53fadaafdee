use std::ops::Range;

use candle_core::{DType, Tensor};
use data::{Compose, LabelledImages, batch_of};
use metrics::Embeddings;
use model::{ModelError, Network};

use crate::Result;

/// Images embedded at once: a few MB of activations.
const BATCH: usize = 256;

/// The embedding of every image of a set, in order, each image transformed by `transform` unless it has
/// features.
///
/// # Errors
/// [`VerifierError::Model`](crate::VerifierError::Model) if the images don't fit the network, or the
/// network's device fails.
pub fn embed_images(
    net: &Network,
    images: &LabelledImages,
    transform: &Compose,
) -> Result<Embeddings> {
    in_batches(net, images.len(), |batch| {
        Ok(batch_of(images, batch, transform))
    })
}

/// The embeddings of images whose network input (N, C, H, W) is `input`.
///
/// # Errors
/// As [`embed_images`].
pub fn embed_input(net: &Network, input: &[f32]) -> Result<Embeddings> {
    let each = net.config().input.into_iter().product::<usize>();
    in_batches(net, input.len() / each, |batch| {
        Ok(input[batch.start * each..batch.end * each].to_vec())
    })
}

/// The embeddings of `images` images, whose network input (N, C, H, W) `input` gives, a batch at a
/// time.
pub fn in_batches(
    net: &Network,
    images: usize,
    input: impl Fn(Range<usize>) -> Result<Vec<f32>>,
) -> Result<Embeddings> {
    let dimension = net.config().embedding;
    let mut values = Vec::with_capacity(images * dimension);
    for from in (0..images).step_by(BATCH) {
        let batch = from..images.min(from + BATCH);
        values.extend(forward(net, batch.len(), input(batch)?)?);
    }
    Ok(Embeddings::new(values, dimension)?)
}

fn forward(net: &Network, images: usize, input: Vec<f32>) -> model::Result<Vec<f32>> {
    let [c, h, w] = net.config().input;
    let dtype = net.parameters()[0].var.dtype();
    let input = Tensor::from_vec(input, (images, c, h, w), net.device())?;
    let output = net.forward(&input.to_dtype(dtype)?)?;
    let output = output.to_dtype(DType::F32)?.flatten_all()?;
    output.to_vec1().map_err(ModelError::from)
}
