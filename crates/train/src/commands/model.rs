use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use clap::Args;
use data::{Part, Picture, pixel_hash};
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
        match self.run.is_dir() {
            true => self.run.join("model.safetensors"),
            false => self.run.clone(),
        }
    }
}

impl ModelArgs {
    /// Which pictures, read for the model, its run has used as an image of a part that `counts`. None
    /// for a model without its run.
    pub fn known(&self, pictures: &[Picture], counts: fn(Part) -> bool) -> Result<Vec<bool>> {
        let run = RunFolder::of_model(&self.run);
        let manifest = run.map(|run| run.manifest()).transpose()?.flatten();
        let used = manifest.map(|manifest| manifest.pixels_of(counts));
        let used = used.unwrap_or_default();
        let known = |picture: &Picture| used.contains(&pixel_hash(&picture.pixels));
        Ok(pictures.iter().map(known).collect())
    }
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

fn open(path: &Path, device: &Device) -> Result<Verifier> {
    Verifier::open(path, device).map_err(|error| match error {
        VerifierError::NoModel { path } => usage(format!(
            "{0} has no trained model yet: finish the run with `train fit --resume {0}`",
            path.display()
        )),
        error => error.into(),
    })
}
