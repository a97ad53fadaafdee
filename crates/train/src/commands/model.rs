use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use clap::Args;
use data::{Manifest, Part, Picture, pixel_hash};
use verifier::{Verifier, VerifierError};

use crate::device::DeviceArgs;
use crate::run::RunFolder;
use crate::terminal::{Voice, VoiceArgs, usage};

/// What every command has that uses a trained model.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Run folder or model.safetensors
    run: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    voice: VoiceArgs,
}

impl ModelArgs {
    /// Opens the model on the device that is asked for.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn open(&self) -> Result<(Verifier, Voice)> {
        let voice = self.voice.voice();
        let device = self.device.open(voice)?;
        if !self.run.is_file() {
            RunFolder::open(&self.run)?;
        }
        Ok((open(&self.run, &device)?, voice))
    }

    /// The folder or file, as the user has written it.
    pub fn path(&self) -> &Path {
        &self.run
    }

    /// The model file: the run folder's, or the one named.
    pub fn file(&self) -> PathBuf {
        RunFolder::model_file(&self.run)
    }

    /// Which pictures, read for the model from `files`, its run has used as an image of a part that
    /// `counts`. None, with a note, for a model without its run.
    ///
    /// # Errors
    /// For a run's list of images, or a file, that cannot be read.
    pub fn known(
        &self,
        files: &[PathBuf],
        pictures: &[Picture],
        counts: fn(Part) -> bool,
        voice: Voice,
    ) -> Result<Vec<bool>> {
        let manifest = RunFolder::manifest_of(RunFolder::of_model(&self.run))?;
        if manifest.is_none() {
            voice.say(UNKNOWN);
        }
        known(manifest.as_ref(), files, pictures, counts)
    }
}

/// What is said of a model without the list of its run's images.
pub const UNKNOWN: &str = "note: which pictures the model was trained on is not known: figures \
                           flatter if some of them are in the list";

/// Which pictures, read for the model from `files`, are images of a part that `counts`: those with the
/// same pixels, or with the same file, which a network of another input size sees as other pixels.
///
/// # Errors
/// For a file that cannot be read.
pub fn known(
    manifest: Option<&Manifest>,
    files: &[PathBuf],
    pictures: &[Picture],
    counts: fn(Part) -> bool,
) -> Result<Vec<bool>> {
    let Some(manifest) = manifest else {
        return Ok(vec![false; pictures.len()]);
    };
    let (pixels, contents) = (manifest.pixels_of(counts), manifest.contents_of(counts));
    let known = |(file, picture): (&PathBuf, &Picture)| {
        let by_pixels = pixels.contains(&pixel_hash(&picture.pixels));
        if by_pixels || contents.is_empty() {
            return Ok(by_pixels);
        }
        Ok(contents.contains(&*Manifest::content_of(file)?))
    };
    files.iter().zip(pictures).map(known).collect()
}

/// What every command has that judges a run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Run folder
    run: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    voice: VoiceArgs,
}

impl RunArgs {
    /// Opens the run and its model.
    ///
    /// # Errors
    /// Where it is no run, or not finished.
    pub fn open(&self) -> Result<(RunFolder, Verifier, Voice)> {
        let voice = self.voice.voice();
        let run = RunFolder::open(&self.run)?;
        let verifier = open(&self.run, &self.device.open(voice)?)?;
        Ok((run, verifier, voice))
    }
}

/// What is said of a run folder without a model.
pub fn unfinished(run: &Path) -> anyhow::Error {
    usage(format!(
        "{0} has no trained model yet: finish the run with `train fit --resume {0}`",
        run.display()
    ))
}

fn open(path: &Path, device: &Device) -> Result<Verifier> {
    Verifier::open(path, device).map_err(|error| match error {
        VerifierError::NoModel { path } => unfinished(&path),
        error => error.into(),
    })
}
