use anyhow::Result;
use data::{Dataset, FolderOptions, Framing, ImageShape, Manifest, SplitOptions};
use pretrained::Encoder;

use super::trunk::{encode, open_trunk};
use crate::settings::RunConfig;
use crate::terminal::{Voice, picture_bar, usage};

/// How images are loaded, besides what the settings say.
#[derive(Clone, Copy, Default)]
pub struct LoadAs<'a> {
    /// How the network that is judged on them frames pictures; for a new network, the source decides.
    pub framing: Option<Framing>,
    /// What makes the network's input of them, where its trunk is a pretrained one.
    pub encoder: Option<&'a Encoder>,
    /// Whether the network takes one channel where all pictures are grey, whatever the settings say.
    pub grey_as_found: bool,
    /// What they were used for before.
    pub before: Option<&'a Manifest>,
    /// Whether all of them are tested on, but those that the source itself reserves for training.
    pub only_test: bool,
    /// Whether the network is trained already.
    pub trained: bool,
}

/// Loads the images that a run trains on, for the pretrained trunk that its settings ask for, if they do;
/// `before` is what images were used for before. With `grey_as_found` and pictures that are all grey, the
/// settings' network is made to take one channel.
///
/// # Errors
/// As [`open_trunk`] and [`load`].
pub fn load_to_train(
    config: &mut RunConfig,
    before: Option<&Manifest>,
    grey_as_found: bool,
    voice: Voice,
) -> Result<Dataset> {
    let encoder = open_trunk(config)?;
    let request = LoadAs {
        before,
        encoder: encoder.as_ref(),
        grey_as_found,
        ..LoadAs::default()
    };
    let dataset = load(config, request, voice)?;
    if grey_as_found {
        config.net.input[0] = dataset.train.shape().channels;
    }
    Ok(dataset)
}

/// Loads a run's images and checks that its network takes them.
///
/// # Errors
/// For images that cannot be read, or that do not fit the settings.
pub fn load(config: &RunConfig, request: LoadAs, voice: Voice) -> Result<Dataset> {
    let bar = picture_bar(voice, "read")?;
    let options = FolderOptions {
        // Asked of folders alone: other images have a shape already, and it is compared below.
        shape: match config.data.source.takes_shape() {
            true => ImageShape::try_from(config.net.input)
                .map_err(|error| usage(format!("net.input: {error}")))?,
            false => ImageShape::MNIST,
        },
        grey_as_found: request.grey_as_found,
        framing: match request.encoder {
            Some(encoder) => encoder.framing(),
            None => request.framing.unwrap_or(Framing::Letterbox),
        },
        skip_corrupt: config.data.skip_corrupt,
        store: config.data.store,
        transposed: config.data.transposed,
        progress: &|read, all| {
            bar.set_length(all as u64);
            bar.set_position(read as u64);
        },
    };
    let split = SplitOptions {
        seed: config.seed,
        by: config.data.split,
        test: config.data.test,
        validation: config.data.validation,
        hold_out: &config.data.hold_out_classes,
        before: request.before,
        only_test: request.only_test,
        trained: request.trained,
    };
    let loaded = config.data.source.load(&split, &options);
    bar.finish_and_clear();
    let mut dataset = loaded?;
    let ImageShape {
        channels,
        height,
        width,
    } = dataset.train.shape();
    let found = [channels, height, width];
    let mut wanted = config.net.input;
    if request.grey_as_found {
        wanted[0] = channels;
    }
    if wanted != found {
        return Err(usage(format!(
            "net.input is {wanted:?}, but the images of {} are {found:?}",
            dataset.name
        )));
    }
    if let Some(encoder) = request.encoder {
        encode(&mut dataset, encoder, &config.pretrained, voice)?;
        return Ok(dataset);
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
