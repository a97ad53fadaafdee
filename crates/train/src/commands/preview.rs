//! `train preview`: what a network sees in training.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use model::Trunk;
use report::contact_sheet::ContactSheet;
use serde_json::json;

use super::settings::SettingsArgs;
use crate::fit::fit_to_images;
use crate::run::write_whole;
use crate::terminal::{VoiceArgs, usage};
use crate::training;

/// The shortest side of an image on the sheet, in pixels.
const SIDE: u32 = 64;

/// Values on a sheet at most, before images are enlarged: 256 MiB.
const MOST_VALUES: usize = 1 << 28;

/// Flags of `train preview`: those of `train fit` that make up the settings, and its own.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// PNG file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Training images to show, a row each, drawn from all classes
    #[arg(long, value_name = "N", default_value = "12", value_parser = count())]
    images: usize,
    /// Times to show each as a training step sees it, after the image as it is evaluated
    #[arg(long, value_name = "M", default_value = "8", value_parser = count())]
    copies: usize,
    #[command(flatten)]
    voice: VoiceArgs,
}

fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=200)
}

/// Writes a sheet of training images with random transforms.
///
/// # Errors
/// For settings or images that cannot be trained with, or a file that cannot be written.
pub fn preview(args: &PreviewArgs) -> Result<()> {
    let voice = args.voice.voice();
    let mut config = args.settings.settings()?;
    if config.net.trunk == Trunk::Onnx {
        return Err(usage(
            "a pretrained trunk sees each training image as it is; leave out --trunk to preview transforms",
        ));
    }
    let dataset = args.settings.load(&mut config, voice)?;
    for note in fit_to_images(&mut config, &dataset) {
        voice.say(&format!("note: {note}"));
    }
    let columns = 1 + args.copies;
    let values = args.images * columns * dataset.train.shape().values();
    if values > MOST_VALUES {
        return Err(usage(format!(
            "{} times {columns} images of {} are too large a sheet; lower --images or --copies",
            args.images,
            dataset.train.shape(),
        )));
    }
    let rows = training::preview(&config, &dataset, args.images, args.copies)?;
    let images = rows.len() / columns;
    let sheet = ContactSheet::in_rows(&rows, columns, SIDE)?;
    write_whole(&args.out, &sheet.png)?;
    voice.say(&format!(
        "wrote {}: {images} training images of {}, a row each: as it is evaluated, then {} times as a \
         training step sees it",
        args.out.display(),
        dataset.name,
        args.copies,
    ));
    voice.emit(&json!({ "images": images, "copies": args.copies }))
}
