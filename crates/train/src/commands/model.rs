use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use model::weights;
use verifier::Verifier;

use crate::device::DeviceArgs;
use crate::run::RunFolder;
use crate::terminal::{Voice, VoiceArgs};

/// What every command has that uses a trained model.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Run folder or model.safetensors
    pub run: PathBuf,
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
        let (net, file) = match self.run.is_file() {
            true => weights::open(&self.run, &device)?,
            false => RunFolder::open(&self.run)?.model(&device)?,
        };
        Ok((Verifier::new(net, file)?, voice))
    }

    /// The folder or file, as the user has written it.
    pub fn path(&self) -> &Path {
        &self.run
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
        let (net, file) = run.model(&self.device.open(voice)?)?;
        Ok((run, Verifier::new(net, file)?, voice))
    }
}
