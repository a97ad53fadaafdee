//! What the commands have in common that take a run's settings.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{ArgGroup, Args};
use data::Dataset;
use model::Trunk;

use crate::fit::load_to_train;
use crate::run::RunFolder;
use crate::settings::{Layers, Preset, RunConfig, SettingFlags, read_text};
use crate::terminal::Voice;

/// The flags besides the settings' that make no sense for a run that is resumed.
pub const NEW_RUN: &str = "new-run";

/// Flags that make up a run's settings.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new(NEW_RUN).multiple(true))]
pub struct SettingsArgs {
    #[command(flatten)]
    flags: SettingFlags,
    /// Settings to start from
    #[arg(long, value_name = "NAME", value_enum, default_value_t, group = NEW_RUN)]
    preset: Preset,
    /// Read settings from a TOML file; they override the preset. A run's config.toml repeats that run
    #[arg(long, value_name = "FILE", group = NEW_RUN)]
    pub config: Option<PathBuf>,
    /// Change any setting by its name in config.toml, such as transform.shift=3; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl SettingsArgs {
    /// The settings that the flags ask for.
    ///
    /// # Errors
    /// For a file that cannot be read, or settings that do not exist or make no sense.
    pub fn settings(&self) -> Result<RunConfig> {
        self.layers()?.finish()
    }

    /// Loads the images of a new run with the [settings](Self::settings), and writes into them what they
    /// leave to a pretrained trunk and to the pictures.
    ///
    /// # Errors
    /// As [`load_to_train`].
    pub fn load(&self, config: &mut RunConfig, voice: Voice) -> Result<Dataset> {
        // A repeat is a new network, which has seen nothing: its data is compared, and no more.
        let before = RunFolder::manifest_of(RunFolder::of_model(Path::new(&config.training.init)))?;
        let given = config.net.trunk == Trunk::Onnx || self.layers()?.ask_for("net", "input");
        let grey_as_found = !given && config.data.source.takes_shape();
        load_to_train(config, before.as_ref(), grey_as_found, voice)
    }

    fn layers(&self) -> Result<Layers> {
        let mut layers = Layers::new(self.preset);
        if let Some(path) = &self.config {
            let text = read_text(path)?;
            layers = match RunFolder::of_config(path) {
                Some(_) => layers.run(path, &text)?,
                None => layers.text(path, &text)?,
            };
        }
        for (key, value) in &self.flags.0 {
            layers = layers.set(key, value.clone())?;
        }
        let mut assignments = self.set.iter();
        assignments.try_fold(layers, |layers, text| layers.assignment(text))
    }
}
