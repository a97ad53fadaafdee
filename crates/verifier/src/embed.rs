use std::ops::Range;

use candle_core::{DType, Tensor};
use data::{Compose, LabelledImages, batch_of};
use metrics::Embeddings;
use model::{Embedder, ModelError, Network};

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
    in_batches(net, &net.embedder()?, images.len(), |batch| {
        Ok(batch_of(images, batch, transform))
    })
}

/// The embeddings of images whose network input (N, C, H, W) is `input`.
///
/// # Errors
/// As [`embed_images`].
pub fn embed_input(net: &Network, input: &[f32]) -> Result<Embeddings> {
    let each = net.config().input.into_iter().product::<usize>();
    in_batches(net, &net.embedder()?, input.len() / each, |batch| {
        Ok(input[batch.start * each..batch.end * each].to_vec())
    })
}

/// The features that the network's last layer makes embeddings of, of every image of a set, as
/// [`embed_images`] does: [`Embedder::features`].
///
/// # Errors
/// As [`embed_images`].
pub fn image_features(
    net: &Network,
    images: &LabelledImages,
    transform: &Compose,
) -> Result<Embeddings> {
    let (embedder, dimension) = (net.embedder()?, net.last_layer().0.dims()[1]);
    let pass = |input: &Tensor| embedder.features(input);
    let input = |batch| Ok(batch_of(images, batch, transform));
    passed(net, pass, dimension, images.len(), input)
}

/// The embeddings of `images` images by `net`'s `embedder`, whose network input (N, C, H, W) `input` gives, a
/// batch at a time.
pub fn in_batches(
    net: &Network,
    embedder: &Embedder,
    images: usize,
    input: impl Fn(Range<usize>) -> Result<Vec<f32>>,
) -> Result<Embeddings> {
    let pass = |input: &Tensor| embedder.forward(input);
    passed(net, pass, net.config().embedding, images, input)
}

/// What `pass` makes of images, `dimension` numbers of each.
fn passed(
    net: &Network,
    pass: impl Fn(&Tensor) -> model::Result<Tensor>,
    dimension: usize,
    images: usize,
    input: impl Fn(Range<usize>) -> Result<Vec<f32>>,
) -> Result<Embeddings> {
    let mut values = Vec::with_capacity(images * dimension);
    for from in (0..images).step_by(BATCH) {
        let batch = from..images.min(from + BATCH);
        let input = input_of(net, batch.len(), input(batch)?)?;
        values.extend(flat(&pass(&input)?)?);
    }
    Ok(Embeddings::new(values, dimension)?)
}

/// Values (N, C, H, W) as a network takes them.
fn input_of(net: &Network, images: usize, values: Vec<f32>) -> model::Result<Tensor> {
    let [c, h, w] = net.config().input;
    let dtype = net.parameters()[0].var.dtype();
    let input = Tensor::from_vec(values, (images, c, h, w), net.device())?;
    Ok(input.to_dtype(dtype)?)
}

fn flat(output: &Tensor) -> model::Result<Vec<f32>> {
    let output = output.to_dtype(DType::F32)?.flatten_all()?;
    output.to_vec1().map_err(ModelError::from)
}
