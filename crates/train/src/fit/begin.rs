//! A run at its start, or at the start of a later sitting.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use data::{Dataset, Manifest, Purpose, SplitBy, Turns, stream};
use model::{Network, Trunk, weights};
use serde_json::json;

use super::Fit;
use super::trunk::network_for;
use crate::judging::EvaluationPairs;
use crate::run::checkpoint::{self, DoesNotFit, Progress};
use crate::run::{Lock, MetricsLog, RunFolder};
use crate::settings::{Change, Freeze, Groups, InBatchConfig, Layers, LossKind, RunConfig};
use crate::terminal::usage;
use crate::training::{Objective, Trainer, loader as batches};

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
        let manifest = dataset.manifest.clone();
        Self::assemble(config, dataset, device, true, |config, _| {
            let (run, lock) = RunFolder::create(out, config.data.source.kind(), config)?;
            run.write_manifest(&manifest)?;
            let log = MetricsLog::open(&run)?;
            Ok((run, lock, log, Progress::default()))
        })
    }

    /// A run that was stopped, from its newest sound checkpoint on; `device` may be another than
    /// before. `settings` are `key=value`s that the run goes on with; if they change anything, or if
    /// the images that `load` gives have changed, `allow_changes` has to be set.
    ///
    /// # Errors
    /// For a run that is finished, in use, changed without leave, or without a sound checkpoint.
    pub fn resume(
        run: RunFolder,
        settings: &[String],
        allow_changes: bool,
        device: &Device,
        load: impl FnOnce(&mut RunConfig, Option<&Manifest>) -> Result<Dataset>,
    ) -> Result<Self> {
        if run.path("summary.json").exists() {
            return Err(usage(format!(
                "{0} is finished; there is nothing to resume; to train on, start a run from its weights \
                 with `train fit --init {0}`",
                run.display()
            )));
        }
        let before = run.config()?;
        let mut settings = settings.iter();
        let mut config = settings
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
        let manifest = run.manifest()?;
        let dataset = load(&mut config, manifest.as_ref())?;
        let of_data = manifest
            .map(|before| before.changes(&dataset.manifest))
            .unwrap_or_default();
        if !of_data.is_empty() && !allow_changes {
            return Err(usage(format!(
                "{} has changed since the run began: {of_data}; put it back as it was, or add \
                 --allow-changes to go on with it as it is",
                dataset.name
            )));
        }
        let manifest = dataset.manifest.clone();
        // A checkpoint has all weights, and where the first came from may be gone by now.
        let anew = checkpoint::newest(&run)?.is_none();
        Self::assemble(config, dataset, device, anew, |config, trainer| {
            let mut log = MetricsLog::open(&run)?;
            let newest = checkpoint::restore_newest(&run, trainer, log.bytes());
            let newest = newest.map_err(|error| unfit(&run, &changes, error))?;
            let mut progress = newest.unwrap_or_default();
            if !changes.is_empty() || !of_data.is_empty() {
                // It may be of other images, or of a step that will not be evaluated again.
                progress.best = None;
                if !of_data.is_empty() || config.data.turns != before.data.turns {
                    // Its labels are numbers of classes as they were.
                    trainer.forget();
                }
                // First: a change that is recorded and not made is seen at the next resume.
                let mut line = json!({ "step": progress.step, "changes": changes });
                if !of_data.is_empty() {
                    line["data"] = json!(of_data);
                }
                run.append("changes.jsonl", &line)?;
                run.write("config.toml", config.to_toml()?.as_bytes())?;
            }
            run.write_manifest(&manifest)?;
            // What was logged after the checkpoint will be logged again.
            log.truncate(progress.logged)?;
            Ok((run, lock, log, progress))
        })
    }

    /// Makes everything that a run needs, its folder last; `anew` if it has no checkpoint.
    fn assemble(
        mut config: RunConfig,
        dataset: Dataset,
        device: &Device,
        anew: bool,
        open: impl FnOnce(&RunConfig, &mut Trainer) -> Result<(RunFolder, Lock, MetricsLog, Progress)>,
    ) -> Result<Self> {
        let mut notes = dataset.notes.clone();
        notes.extend(fit_to_images(&mut config, &dataset));
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
        let net = network_for(&config, &dataset.train);
        let mut net = Network::new(net, DType::F32, device, &mut rng)?;
        if anew {
            notes.extend(take_first_weights(&net, &config)?);
        }
        if config.training.freeze == Freeze::Trunk {
            net = net.with_frozen_trunk()?;
            notes.extend(frozen_as_drawn(&net, &config));
        }
        let mut trainer = Trainer::new(net, Objective::of(&config), config.optimiser)?;
        if let Some(capacity) = NonZeroUsize::new(config.in_batch.memory) {
            trainer = trainer.with_memory(capacity, config.in_batch.memory_after);
        }
        let pairs = EvaluationPairs::new(&config, &dataset)?;
        let mut images = Arc::clone(&dataset.train);
        let mut loader = batches(&config, &images)?;
        let (run, lock, log, mut progress) = open(&config, &mut trainer)?;
        if progress.refit.is_some() {
            images = Arc::new(dataset.train.and(&dataset.validation));
            loader = batches(&config, &images)?;
        }
        // Copies that were set aside, and a batch that was lowered, are not met again.
        for note in notes {
            if !progress.notes.contains(&note) {
                progress.notes.push(note);
            }
        }
        Ok(Self {
            run,
            config,
            dataset,
            images,
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

/// The error of a run that cannot go on from its checkpoint: of the changed settings, if that is for them.
fn unfit(run: &RunFolder, changes: &[Change], error: anyhow::Error) -> anyhow::Error {
    if changes.is_empty() || !error.is::<DoesNotFit>() {
        return error;
    }
    let changes: Vec<String> = changes.iter().map(Change::to_string).collect();
    usage(format!(
        "the run cannot go on with {}: {error:#}; finish it as it was begun, with `train fit --resume {run}`, \
         and start another with the new settings from its weights, with `train fit --init {run}`",
        changes.join(", "),
        run = run.display(),
    ))
}

/// Settles what the settings leave to the images of a folder; returns a sentence for each thing.
pub fn fit_to_images(config: &mut RunConfig, dataset: &Dataset) -> Vec<String> {
    let mut notes = Vec::new();
    if dataset.split != SplitBy::Auto {
        config.data.split = dataset.split;
    }
    if dataset.tests_validation {
        notes.push(
            "no images to test on (data.test = 0): all figures are of the validation images, which \
             choose the threshold, so they flatter"
                .into(),
        );
    }
    if config.data.turns == Turns::Auto {
        let [_, height, width] = config.net.input;
        let turns = config.net.trunk != Trunk::Onnx
            && height == width
            && dataset.new_validation_classes
            && dataset.train.are_drawings();
        config.data.turns = match turns {
            true => Turns::Both,
            false => Turns::None,
        };
        if turns {
            notes.push(
                "the pictures are drawings: turned and mirrored ones are trained on as further classes \
                 (data.turns = both; switch it off with --turns none where a turned drawing shows the \
                 same thing)"
                    .into(),
            );
        }
    }
    let images = dataset.train.len();
    let pairs = &mut config.training.pairs_per_batch;
    if config.data.source.takes_shape()
        && config.loss.kind == LossKind::Pairs
        && 2 * *pairs > images
        && images >= 2
    {
        *pairs = images / 2;
        notes.push(format!(
            "{pairs} pairs a batch (training.pairs_per_batch): there are {images} images to train on"
        ));
    }
    // How many classes a pattern holds out is known only now.
    let mut held_out = config.data.hold_out_classes.iter();
    let patterns = held_out.any(|name| name.contains(['*', '?', '[']));
    if config.loss.kind == LossKind::InBatch && config.in_batch.groups == Groups::Together {
        let groups = BTreeSet::from_iter(dataset.train.groups());
        if groups.len() == dataset.train.classes().len() {
            notes.push(
                "in_batch.groups = together changes nothing: no two classes are in a folder of their own"
                    .into(),
            );
        }
    }
    let batch = &mut config.in_batch;
    let left_open = batch.classes_per_batch == 0 || batch.samples_per_class == 0;
    if config.loss.kind == LossKind::InBatch
        && (config.data.source.takes_shape() || patterns || left_open)
    {
        notes.extend(fit_batch_to_classes(batch, dataset));
    }
    notes
}

/// Images of a batch whose size is left to the folder.
const BATCH: usize = 120;
/// Images of each class in it at most: more classes say more.
const MOST_SAMPLES: usize = 6;

/// Settles a batch that is left to the images, and takes no more classes into one than there are, and no
/// more images of each than so many have.
fn fit_batch_to_classes(batch: &mut InBatchConfig, dataset: &Dataset) -> Vec<String> {
    let mut notes = Vec::new();
    let mut counts = dataset.train.class_counts();
    counts.retain(|&count| count > 1);
    counts.sort_unstable_by(|a, b| b.cmp(a));
    if counts.len() < 2 {
        // Too few for any batch, which whoever draws it says.
        for open in [&mut batch.classes_per_batch, &mut batch.samples_per_class] {
            *open = (*open).max(2);
        }
        return notes;
    }
    // All but a tenth of the classes have as many.
    let usual = counts[counts.len() - 1 - counts.len() / 10];
    if batch.samples_per_class == 0 {
        batch.samples_per_class = usual.min(MOST_SAMPLES);
    }
    if batch.classes_per_batch == 0 {
        // Where no two classes have as many as are asked for, fewer have to do, as said below.
        let samples = batch.samples_per_class;
        let samples = if counts[1] < samples { usual } else { samples };
        let have = counts.iter().filter(|&&count| count >= samples).count();
        batch.classes_per_batch = BATCH.div_ceil(samples).min(have);
    }
    if batch.classes_per_batch > counts.len() {
        batch.classes_per_batch = counts.len();
        notes.push(format!(
            "{} classes a batch (in_batch.classes_per_batch): no more have two images to train on",
            counts.len()
        ));
    }
    let most = counts[batch.classes_per_batch.saturating_sub(1)];
    if batch.samples_per_class > most {
        batch.samples_per_class = most;
        notes.push(format!(
            "{most} images of each class a batch (in_batch.samples_per_class): too few classes have more"
        ));
    }
    notes
}

/// What to say where a trunk is frozen that has learned nothing.
fn frozen_as_drawn(net: &Network, config: &RunConfig) -> Option<String> {
    let has_trunk = net.trained_parameters().len() < net.parameters().len();
    (has_trunk && config.training.init.is_empty()).then(|| {
        "the trunk is frozen (training.freeze) and stays as it was drawn: nothing gives it the weights of \
         a trained one (--init RUN)"
            .into()
    })
}

/// Gives a network the weights that its run starts from, if from any; returns what it does not take.
fn take_first_weights(net: &Network, config: &RunConfig) -> Result<Option<String>> {
    let init = Path::new(&config.training.init);
    if init.as_os_str().is_empty() {
        return Ok(None);
    }
    let (other, _) = weights::open(RunFolder::model_file(init), &Device::Cpu)
        .context("taking the first weights (--init, training.init)")?;
    let kept = net.take_from(&other)?;
    if kept.len() == net.parameters().len() {
        return Err(usage(format!(
            "--init {}: no layer of it has the shape of one of this network's; see net in its run's \
             config.toml",
            init.display()
        )));
    }
    Ok((!kept.is_empty()).then(|| {
        format!(
            "{} has no weights of the right shape for {}, which start anew",
            init.display(),
            kept.join(", ")
        )
    }))
}
