//! What a run needs to go on as if it had never stopped: the weights, what the optimiser remembers,
//! the number of steps taken and how far the log goes. Batches and augmentation are functions of the
//! seed and the step, so no generator has a state to save.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::RunFolder;
use crate::training::Trainer;

/// The folder that they are in.
const FOLDER: &str = "checkpoints";
/// The file of the one with the smallest validation loss.
pub const BEST: &str = "checkpoints/best.safetensors";
/// The file of the one at the end of the last epoch, which a run that diverges can go back to. When it
/// is written depends on steps alone, so that going back to it gives the same run every time.
pub const EPOCH: &str = "checkpoints/epoch.safetensors";

/// Where a file's header has the CRC-32C of the file with zeros in place of it.
const CHECKSUM: &str = "crc32c";
const NO_CHECKSUM: &str = "00000000";

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Seconds spent on them, over all sittings.
    pub seconds: f64,
    /// The smallest validation loss so far, and the step it was met at.
    pub best: Option<(f64, u64)>,
    /// Bytes of `metrics.jsonl` by then.
    pub logged: u64,
    /// How often the run has diverged and was taken back.
    pub rollbacks: Vec<Rollback>,
}

/// A return to an earlier checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// Steps taken before it.
    pub from: u64,
    /// Steps taken after it.
    pub to: u64,
}

/// The file of the checkpoint after `step` steps.
pub fn at(step: u64) -> String {
    format!("{FOLDER}/step-{step:08}.safetensors")
}

/// The steps that there are such files of, the newest first.
fn steps(run: &RunFolder) -> Result<Vec<u64>> {
    let folder = run.path(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot look into {}", folder.display()))?
    {
        let name = entry?.file_name();
        let step = name.to_str().and_then(|name| {
            let digits = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
            digits.parse::<u64>().ok()
        });
        steps.extend(step);
    }
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(steps)
}

/// The newest checkpoint's file, if there is one.
pub fn newest(run: &RunFolder) -> Result<Option<String>> {
    Ok(steps(run)?.first().map(|&step| at(step)))
}

/// Writes a checkpoint and removes all but the newest `keep`.
pub fn save_newest(
    run: &RunFolder,
    trainer: &Trainer,
    progress: &Progress,
    keep: usize,
) -> Result<()> {
    save(run, &at(progress.step), trainer, progress)?;
    for step in steps(run)?.into_iter().skip(keep) {
        run.remove(&at(step))?;
    }
    Ok(())
}

/// Removes the checkpoints of later steps than `step`, the newest first, so that whichever is the
/// newest when this is cut short leads to the same point again.
pub fn forget_after(run: &RunFolder, step: u64) -> Result<()> {
    for later in steps(run)?.into_iter().take_while(|&later| later > step) {
        run.remove(&at(later))?;
    }
    Ok(())
}

/// Writes a checkpoint, whole or not at all. It has no device: any can go on from it.
pub fn save(run: &RunFolder, name: &str, trainer: &Trainer, progress: &Progress) -> Result<()> {
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
    let header = HashMap::from([
        ("progress".to_string(), serde_json::to_string(progress)?),
        (CHECKSUM.to_string(), NO_CHECKSUM.to_string()),
    ]);
    let mut bytes = safetensors::serialize(tensors, Some(header))
        .with_context(|| format!("putting {name} together"))?;
    seal(&mut bytes)?;
    run.write(name, &bytes)
}

/// Puts the checksum into a header that has its place.
pub(crate) fn seal(bytes: &mut [u8]) -> Result<()> {
    let checksum = format!("{:08x}", crc32c::crc32c(bytes));
    let place = place_of(bytes, NO_CHECKSUM).context("the header has no place for a checksum")?;
    bytes[place..][..checksum.len()].copy_from_slice(checksum.as_bytes());
    Ok(())
}

/// Where `checksum` stands in the header.
fn place_of(bytes: &[u8], checksum: &str) -> Option<usize> {
    let entry = format!("\"{CHECKSUM}\":\"{checksum}\"");
    let found = bytes
        .windows(entry.len())
        .position(|window| window == entry.as_bytes())?;
    Some(found + entry.len() - 1 - checksum.len())
}

/// Reads a checkpoint's bytes, and says how far the run had come, if they are as they were written.
fn verify(path: &Path) -> Result<(Vec<u8>, Progress)> {
    check(fs::read(path)?)
}

/// The same of bytes that have been read.
pub(crate) fn check(mut bytes: Vec<u8>) -> Result<(Vec<u8>, Progress)> {
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let entry = |name: &str| header.metadata().as_ref()?.get(name).cloned();
    let checksum = entry(CHECKSUM).context("its header has no checksum")?;
    let place = place_of(&bytes, &checksum).context("its header has no checksum")?;
    bytes[place..][..checksum.len()].fill(b'0');
    let found = format!("{:08x}", crc32c::crc32c(&bytes));
    ensure!(
        found == checksum,
        "its checksum is {found}, and was {checksum} when it was written"
    );
    let progress = entry("progress").context("its header does not say how far the run had come")?;
    Ok((bytes, serde_json::from_str(&progress)?))
}

/// Puts the values of the newest sound checkpoint into a trainer of the same configuration, and says
/// through `report` which newer ones are damaged. `None` if there has been no checkpoint.
pub fn restore_newest(
    run: &RunFolder,
    trainer: &mut Trainer,
    logged: u64,
    mut report: impl FnMut(&str),
) -> Result<Option<Progress>> {
    let mut damaged = Vec::new();
    for step in steps(run)? {
        let path = run.path(&at(step));
        let sound = verify(&path).and_then(|(bytes, progress)| {
            ensure!(
                progress.logged <= logged,
                "metrics.jsonl has {logged} bytes, and had {} when it was written",
                progress.logged
            );
            Ok((bytes, progress))
        });
        match sound {
            Ok((bytes, progress)) => {
                for damage in &damaged {
                    report(&format!("{damage}; going on from {}", path.display()));
                }
                put(&bytes, &path, trainer, progress.step)?;
                return Ok(Some(progress));
            }
            Err(error) => {
                damaged.push(format!("{} is of no use: {error:#}", path.display()));
            }
        }
    }
    if !damaged.is_empty() {
        bail!(
            "no checkpoint is left to go on from; start again with `train fit --config {}`: {}",
            run.path("config.toml").display(),
            damaged.join("; ")
        );
    }
    Ok(None)
}

/// Puts the values of the checkpoint `name` into a trainer of the same configuration.
pub fn restore(run: &RunFolder, name: &str, trainer: &mut Trainer) -> Result<Progress> {
    let path = run.path(name);
    let (bytes, progress) =
        verify(&path).with_context(|| format!("{} is of no use", path.display()))?;
    put(&bytes, &path, trainer, progress.step)?;
    Ok(progress)
}

pub(crate) fn put(bytes: &[u8], path: &Path, trainer: &mut Trainer, step: u64) -> Result<()> {
    let mut put = || {
        let tensors = candle_core::safetensors::load_buffer(bytes, trainer.net().device())?;
        let tensor = |name: String| -> Result<Tensor> {
            let found = tensors.get(&name);
            found.cloned().with_context(|| format!("{name} is missing"))
        };
        for parameter in trainer.net().parameters() {
            let found = tensor(format!("net.{}", parameter.name))?;
            ensure!(
                found.dims() == parameter.var.dims(),
                "{} is {:?} there and {:?} in the run's configuration",
                parameter.name,
                found.dims(),
                parameter.var.dims(),
            );
            parameter.var.set(&found)?;
        }
        let optimiser = trainer.optimiser_mut();
        optimiser.restore(step, |name| tensor(format!("optimiser.{name}")))
    };
    put().with_context(|| format!("the checkpoint {} does not fit", path.display()))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// A sealed checkpoint of one tensor, after `step` steps.
    fn sealed(step: u64) -> Vec<u8> {
        let progress = Progress {
            step,
            ..Progress::default()
        };
        let weight = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap();
        let header = HashMap::from([
            (
                "progress".to_string(),
                serde_json::to_string(&progress).unwrap(),
            ),
            (CHECKSUM.to_string(), NO_CHECKSUM.to_string()),
        ]);
        let mut bytes = safetensors::serialize([("net.feat.bias", weight)], Some(header)).unwrap();
        seal(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn a_checkpoint_is_taken_as_it_was_written_or_refused(
            step: u64,
            changes in vec(any::<(Index, u8)>(), 0..6),
            end: Option<Index>,
        ) {
            let whole = sealed(step);
            let mut bytes = whole.clone();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(end) = end {
                bytes.truncate(end.index(bytes.len()));
            }
            let same = bytes == whole;
            match check(bytes) {
                Ok((_, progress)) => prop_assert!(same && progress.step == step),
                Err(error) => prop_assert!(!same, "{:#}", error),
            }
        }

        #[test]
        fn bytes_that_are_no_checkpoint_are_refused(bytes in vec(any::<u8>(), 0..200)) {
            prop_assert!(check(bytes).is_err());
        }
    }
}
