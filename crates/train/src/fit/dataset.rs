use anyhow::{Context, Result};
use data::{Dataset, FolderOptions, ImageShape};

use crate::settings::RunConfig;
use crate::terminal::{Voice, reading_bar, usage};

/// Loads a run's images and checks that its network takes them.
///
/// # Errors
/// For images that cannot be read, or that do not fit the settings.
pub fn load(config: &RunConfig, voice: Voice) -> Result<Dataset> {
    let bar = reading_bar(voice)?;
    let options = FolderOptions {
        // Asked of folders alone: other images have a shape already, and it is compared below.
        shape: match config.data.source.takes_shape() {
            true => ImageShape::try_from(config.net.input)
                .map_err(|error| usage(format!("net.input: {error}")))?,
            false => ImageShape::MNIST,
        },
        test: config.data.test,
        skip_corrupt: config.data.skip_corrupt,
        store: config.data.store,
        transposed: config.data.transposed,
        progress: &|read, all| {
            bar.set_length(all as u64);
            bar.set_position(read as u64);
        },
    };
    let loaded = config
        .data
        .source
        .load(config.data.validation, config.seed, &options);
    bar.finish_and_clear();
    let dataset = loaded?
        .open_set(&config.data.hold_out_classes)
        .context("holding out classes (--hold-out-classes, data.hold_out_classes)")?;
    let ImageShape {
        channels,
        height,
        width,
    } = dataset.train.shape();
    let found = [channels, height, width];
    if config.net.input != found {
        return Err(usage(format!(
            "net.input is {:?}, but the images of {} are {found:?}",
            config.net.input, dataset.name
        )));
    }
    let side = height.min(width);
    if config.transform.shift as usize >= side {
        return Err(usage(format!(
            "transform.shift is {}; it must be less than the images' {side} pixels, or nothing of \
             them may be left",
            config.transform.shift
        )));
    }
    Ok(dataset)
}
