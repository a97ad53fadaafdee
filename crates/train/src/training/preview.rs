//! Training images as training steps see them.

use std::iter::once;

use anyhow::Result;
use data::{Dataset, LabelledImages, batch_of};

use super::batches::preview_loader;
use crate::settings::RunConfig;

/// Some of the training images of `dataset`, `images` of them or all if there are fewer: each as it is
/// evaluated, and after it `copies` times as a step sees it. They depend on the settings' seed alone.
///
/// # Errors
/// For images that cannot be turned as the settings ask.
pub fn preview(
    config: &RunConfig,
    dataset: &Dataset,
    images: usize,
    copies: usize,
) -> Result<LabelledImages> {
    let loader = preview_loader(config, &dataset.train, images)?;
    let shown = loader.sampler().draw(0).images;
    let plain = shown.iter().map(|&image| image as usize);
    let plain = batch_of(&dataset.train, plain, &config.transform.evaluation());
    let copies = (0..copies as u64).map(|step| loader.batch(step).pixels);
    let columns: Vec<Vec<f32>> = once(plain).chain(copies).collect();

    let shape = dataset.train.shape();
    let values = shape.values();
    let row = |row: usize| {
        columns
            .iter()
            .map(move |column| &column[row * values..][..values])
    };
    let cells = (0..shown.len()).flat_map(row);
    let pixels = cells
        .flat_map(|cell| config.transform.pixels(cell))
        .collect();
    let labels = vec![0; shown.len() * columns.len()];
    Ok(LabelledImages::new(
        shape,
        pixels,
        labels,
        vec![String::new()],
    )?)
}
