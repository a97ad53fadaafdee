//! What a run needs to go on as if it had never stopped: the weights, what the optimiser remembers
//! and the number of steps taken. Pairs and augmentation are functions of the seed and the step, so
//! no generator has a state to save.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::run_folder::RunFolder;
use crate::trainer::Trainer;

/// The newest checkpoint's file.
pub const LATEST: &str = "checkpoints/latest.safetensors";
/// The file of the one with the smallest validation loss.
pub const BEST: &str = "checkpoints/best.safetensors";

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Seconds spent on them, over all sittings.
    pub seconds: f64,
    /// The smallest validation loss so far, and the step it was met at.
    pub best: Option<(f64, u64)>,
}

/// Writes a checkpoint, whole or not at all. It has no device: any can go on from it.
pub fn save(run: &RunFolder, name: &str, trainer: &Trainer, progress: Progress) -> Result<()> {
    let weights = trainer
        .net()
        .parameters()
        .iter()
        .map(|parameter| (format!("net.{}", parameter.name), parameter.var.as_tensor()));
    let memory = trainer
        .optimiser()
        .state()
        .map(|(name, memory)| (format!("optimiser.{name}"), memory));
    // Fetched here: `serialize` would panic where a GPU fails.
    let tensors = weights
        .chain(memory)
        .map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?)))
        .collect::<Result<Vec<_>>>()?;
    let header = HashMap::from([("progress".to_string(), serde_json::to_string(&progress)?)]);
    let bytes = safetensors::serialize(tensors, Some(header))
        .with_context(|| format!("putting {name} together"))?;
    run.write(name, &bytes)
}

/// Puts the newest checkpoint's values into a trainer of the same configuration.
pub fn restore(run: &RunFolder, trainer: &mut Trainer) -> Result<Progress> {
    let path = run.path(LATEST);
    let bytes = std::fs::read(&path)
        .with_context(|| format!("cannot read the checkpoint {}", path.display()))?;
    restore_from(&bytes, &path, trainer)
        .with_context(|| format!("the checkpoint {} is of no use", path.display()))
}

fn restore_from(bytes: &[u8], path: &Path, trainer: &mut Trainer) -> Result<Progress> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let progress = header
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get("progress"));
    let progress = progress.context("its header does not say how far the run had come")?;
    let progress: Progress = serde_json::from_str(progress)?;
    let tensors = candle_core::safetensors::load_buffer(bytes, trainer.net().device())?;
    let tensor = |name: String| -> Result<Tensor> {
        let found = tensors.get(&name);
        found.cloned().with_context(|| format!("{name} is missing"))
    };
    for parameter in trainer.net().parameters() {
        let found = tensor(format!("net.{}", parameter.name))?;
        ensure!(
            found.dims() == parameter.var.dims(),
            "{} is {:?} there and {:?} in the configuration beside {}",
            parameter.name,
            found.dims(),
            parameter.var.dims(),
            path.display()
        );
        parameter.var.set(&found)?;
    }
    let optimiser = trainer.optimiser_mut();
    optimiser.restore(progress.step, |name| tensor(format!("optimiser.{name}")))?;
    Ok(progress)
}
