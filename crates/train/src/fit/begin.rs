//! A run at its start, or at the start of a later sitting.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Result;
use candle_core::{DType, Device};
use data::{Dataset, Purpose, stream};
use model::Network;

use super::Fit;
use crate::judging::EvaluationPairs;
use crate::run::checkpoint::{self, Progress};
use crate::run::{Lock, MetricsLog, RunFolder};
use crate::settings::{Change, Layers, LossKind, RunConfig};
use crate::terminal::usage;
use crate::training::{Objective, Trainer, loader};

impl Fit {
    /// A new run of `dataset` on `device`. Its folder is made once everything else is known to be right.
    ///
    /// # Errors
    /// For images or settings that cannot be trained with, or a folder that cannot be made.
    pub fn new(
        config: RunConfig,
        dataset: Dataset,
        out: Option<&Path>,
        device: &Device,
    ) -> Result<Self> {
        Self::assemble(config, dataset, device, |config, _| {
            let (run, lock) = RunFolder::create(out, config.data.source.kind(), config)?;
            let log = MetricsLog::open(&run)?;
            Ok((run, lock, log, Progress::default()))
        })
    }

    /// A run that was stopped, from its newest sound checkpoint on; `device` may be another than
    /// before. `settings` are `key=value`s that the run goes on with; if they change anything,
    /// `allow_changes` has to be set.
    ///
    /// # Errors
    /// For a run that is finished, in use, changed without leave, or without a sound checkpoint.
    pub fn resume(
        run: RunFolder,
        settings: &[String],
        allow_changes: bool,
        device: &Device,
        load: impl FnOnce(&RunConfig) -> Result<Dataset>,
    ) -> Result<Self> {
        if run.path("summary.json").exists() {
            return Err(usage(format!(
                "{} is finished; there is nothing to resume",
                run.display()
            )));
        }
        let before = run.config()?;
        let mut settings = settings.iter();
        let config = settings
            .try_fold(Layers::of(&before)?, |layers, text| layers.assignment(text))?
            .finish()?;
        let changes = before.changes(&config)?;
        if let (Some(change), false) = (changes.first(), allow_changes) {
            return Err(usage(format!(
                "--set would change {change}, and the run would not be the one that was begun; add \
                 --allow-changes if that is wanted",
            )));
        }
        let lock = run.lock()?;
        let dataset = load(&config)?;
        Self::assemble(config, dataset, device, |config, trainer| {
            let mut log = MetricsLog::open(&run)?;
            let newest = checkpoint::restore_newest(&run, trainer, log.bytes())?;
            let progress = newest.unwrap_or_default();
            if !changes.is_empty() {
                change(&run, progress.step, config, &changes)?;
            }
            // What was logged after the checkpoint will be logged again.
            log.truncate(progress.logged)?;
            Ok((run, lock, log, progress))
        })
    }

    /// Makes everything that a run needs, its folder last.
    fn assemble(
        config: RunConfig,
        dataset: Dataset,
        device: &Device,
        open: impl FnOnce(&RunConfig, &mut Trainer) -> Result<(RunFolder, Lock, MetricsLog, Progress)>,
    ) -> Result<Self> {
        let images = config.images_per_batch();
        if config.loss.kind == LossKind::Pairs && images > dataset.train.len() {
            return Err(usage(format!(
                "a batch of {} pairs needs {images} images, {} has {} to train on; lower \
                 training.pairs_per_batch",
                config.training.pairs_per_batch,
                dataset.name,
                dataset.train.len()
            )));
        }
        let mut rng = stream(config.seed, Purpose::Initialisation, 0);
        let net = Network::new(config.net.clone(), DType::F32, device, &mut rng)?;
        let mut trainer = Trainer::new(net, Objective::of(&config), config.optimiser)?;
        if let Some(capacity) = NonZeroUsize::new(config.in_batch.memory) {
            trainer = trainer.with_memory(capacity, config.in_batch.memory_after);
        }
        let pairs = EvaluationPairs::new(&config, &dataset)?;
        let loader = loader(&config, &dataset)?;
        let (run, lock, log, progress) = open(&config, &mut trainer)?;
        Ok(Self {
            run,
            config,
            dataset,
            pairs,
            loader,
            trainer,
            progress,
            log,
            collapsed: false,
            _lock: lock,
        })
    }
}

/// Takes up other settings, and records what they were.
fn change(run: &RunFolder, step: u64, config: &RunConfig, changes: &[Change]) -> Result<()> {
    // First: a change that is recorded and not made is seen at the next resume.
    run.append(
        "changes.jsonl",
        &serde_json::json!({ "step": step, "changes": changes }),
    )?;
    run.write("config.toml", config.to_toml()?.as_bytes())
}
