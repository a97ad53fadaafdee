//! What `train evaluate` has for few-shot classification.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, value_parser};
use data::LabelledImages;
use metrics::{Embeddings, FewShot, Trials, few_shot};

use crate::terminal::usage;

/// Flags of `train evaluate` for few-shot classification.
#[derive(Debug, Args)]
pub struct OneShotArgs {
    /// Report how often test images go to a wrong one of WAYS classes, of which --shots other images
    /// each are known; replaces the run's own 5-way and 20-way trials
    #[arg(long, value_name = "WAYS")]
    one_shot: Option<usize>,
    /// With --one-shot: known images of each class
    #[arg(long, value_name = "K", default_value = "1", requires = "one_shot")]
    shots: NonZeroUsize,
    /// With --one-shot: number of trials, each with classes and images of its own; at most 1000000
    #[arg(
        long,
        value_name = "N",
        default_value = "1000",
        value_parser = value_parser!(u32).range(1..=1_000_000),
        requires = "one_shot"
    )]
    trials: u32,
    /// With --one-shot: take the classes of a trial from one group; classes named GROUP/NAME form
    /// groups, such as the letters of an alphabet
    #[arg(long, requires = "one_shot")]
    within_groups: bool,
    /// Evaluate nothing but the one-shot trials in a folder: each sub-folder has `training/` (a
    /// picture of each class), `test/` (pictures) and `class_labels.txt`, whose lines name a
    /// picture of `test/` and the one of `training/` that shows its class
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["one_shot", "shots", "trials", "within_groups", "data", "at"]
    )]
    one_shot_trials: Option<PathBuf>,
}

impl OneShotArgs {
    /// The folder of fixed trials, if they are asked for.
    pub fn fixed(&self) -> Option<&Path> {
        self.one_shot_trials.as_deref()
    }

    /// Few-shot classification of these images, if it is asked for. `embeddings` (N, D) are theirs.
    ///
    /// # Errors
    /// For fewer than two ways, and where too few classes have enough images.
    pub fn measure(
        &self,
        embeddings: &Embeddings,
        images: &LabelledImages,
        seed: u64,
    ) -> Result<Option<FewShot>> {
        let Some(ways) = self.one_shot else {
            return Ok(None);
        };
        let trials = Trials {
            ways,
            shots: self.shots.get(),
            trials: self.trials as usize,
            seed,
        };
        let groups = self.within_groups.then(|| images.groups());
        let measured = few_shot(embeddings, images.labels(), groups.as_deref(), trials);
        let named = |error| {
            let within = match self.within_groups {
                true => " --within-groups",
                false => "",
            };
            usage(format!("--one-shot {ways}{within}: {error}"))
        };
        measured.map(Some).map_err(named)
    }
}
