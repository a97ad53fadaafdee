//! What a run needs to go on as if it had never stopped: the weights, what the optimiser remembers,
//! the number of steps taken and how far the log goes. Batches and augmentation are functions of the
//! seed and the step, so no generator has a state to save.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use metrics::Calibration;

use super::RunFolder;
use crate::judging::Heads;
use crate::terminal::tell;
use crate::training::{Snapshot, Trainer};

/// The folder that they are in.
const FOLDER: &str = "checkpoints";
/// The file of the one at the best evaluation.
pub const BEST: &str = "checkpoints/best.safetensors";
/// The file of the one at the end of the last epoch, which a run that diverges can go back to. When it
/// is written depends on steps alone, so that going back to it gives the same run every time.
pub const EPOCH: &str = "checkpoints/epoch.safetensors";
/// The file of the one before the first step, which a second training begins with.
pub const FIRST: &str = "checkpoints/first.safetensors";

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken, those of a second training included.
    pub step: u64,
    /// Seconds spent on them, over all sittings.
    pub seconds: f64,
    /// The best evaluation so far, and its step: 1 − validation AUC where the best weights are kept,
    /// else the validation loss; smaller is better.
    pub best: Option<(f64, u64)>,
    /// Bytes of `metrics.jsonl` by then.
    pub logged: u64,
    /// How often the run has diverged and was taken back.
    pub rollbacks: Vec<Rollback>,
    /// What to know of the images and the run, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The outcome of the first training, once there is a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refit: Option<Refit>,
}

/// What is known before a second training, on the validation images too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refit {
    /// Steps of the first training.
    pub after: u64,
    /// Steps of the second: those after which the first was best.
    pub steps: u64,
    /// Steps that the schedule of both is made for.
    pub horizon: u64,
    /// The head that was chosen, if one was asked for.
    pub heads: Option<Heads>,
    /// The threshold that was chosen, and from what.
    pub threshold: f64,
    /// Distances of the validation pairs.
    pub calibration: Calibration,
}

impl Progress {
    /// Steps of the training that the trainer is in.
    pub fn steps_of_trainer(&self) -> u64 {
        self.step - self.refit.as_ref().map_or(0, |refit| refit.after)
    }
}

/// A return to an earlier checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// Steps taken before it.
    pub from: u64,
    /// Steps taken after it.
    pub to: u64,
}

/// A sound checkpoint, the file's, of a trainer of another configuration.
#[derive(Debug)]
pub struct DoesNotFit(PathBuf);

impl fmt::Display for DoesNotFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the checkpoint {} does not fit", self.0.display())
    }
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

/// Writes a checkpoint, whole or not at all.
pub fn save(run: &RunFolder, name: &str, trainer: &Trainer, progress: &Progress) -> Result<()> {
    run.write(name, &trainer.snapshot(&serde_json::to_string(progress)?)?)
}

/// Reads a checkpoint, and how far the run had come.
fn read(path: &Path) -> Result<(Snapshot, Progress)> {
    let snapshot = Snapshot::read(fs::read(path)?)?;
    let progress = serde_json::from_str(snapshot.progress())?;
    Ok((snapshot, progress))
}

fn take_up(snapshot: &Snapshot, path: &Path, trainer: &mut Trainer, step: u64) -> Result<()> {
    let restored = trainer.restore(snapshot, step);
    restored.with_context(|| DoesNotFit(path.into()))
}

/// Puts the values of the newest sound checkpoint into a trainer of the same configuration, and tells
/// which newer ones are damaged. `None` if there has been no checkpoint.
///
/// # Errors
/// [`DoesNotFit`] for a trainer of another configuration; where no checkpoint is sound.
pub fn restore_newest(
    run: &RunFolder,
    trainer: &mut Trainer,
    logged: u64,
) -> Result<Option<Progress>> {
    let mut damaged = Vec::new();
    for step in steps(run)? {
        let path = run.path(&at(step));
        let sound = read(&path).and_then(|(snapshot, progress)| {
            ensure!(
                progress.logged <= logged,
                "metrics.jsonl has {logged} bytes, and had {} when it was written",
                progress.logged
            );
            Ok((snapshot, progress))
        });
        match sound {
            Ok((snapshot, progress)) => {
                for damage in &damaged {
                    tell(format_args!("{damage}; going on from {}", path.display()));
                }
                take_up(&snapshot, &path, trainer, progress.steps_of_trainer())?;
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

/// The step that the checkpoint `name` is of.
pub fn step(run: &RunFolder, name: &str) -> Result<u64> {
    Ok(read(&run.path(name))?.1.step)
}

/// Puts the values of the checkpoint `name` into a trainer of the same configuration.
pub fn restore(run: &RunFolder, name: &str, trainer: &mut Trainer) -> Result<Progress> {
    let path = run.path(name);
    let (snapshot, progress) =
        read(&path).with_context(|| format!("{} is of no use", path.display()))?;
    take_up(&snapshot, &path, trainer, progress.steps_of_trainer())?;
    Ok(progress)
}
