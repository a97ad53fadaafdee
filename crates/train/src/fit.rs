//! `train fit`: from images to a run folder.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use data::{Dataset, FolderOptions, ImageShape, Purpose, Source, ink_side, stream};
use model::{ModelFile, Network, Preprocessing, weights};
use serde::{Deserialize, Serialize};

use crate::batches::{Batch, Loader};
use crate::checkpoint::{self, BEST, EPOCH, Progress, Rollback};
use crate::config::{Change, Length, LossKind, Overlay, RunConfig};
use crate::environment::Environment;
use crate::evaluation::{Assessment, Checkup, EvaluationPairs, calibrate};
use crate::interrupt::Interrupt;
use crate::metrics_log::MetricsLog;
use crate::progress::{StepProgress, Voice, reading_bar, tell};
use crate::run_folder::{Lock, RunFolder};
use crate::summary::{ClassSizes, Summary};
use crate::trainer::Trainer;
use crate::usage::usage;
use crate::watch::{MOST_ROLLBACKS, NotFinite, OnNan, ROLLBACK_RATE};
use crate::{device, events, projector, run_report};

/// A line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// At the end of an epoch. Tried first: a step's fields are among its own.
    Epoch {
        /// Epochs done.
        epoch: u64,
        /// Steps done.
        step: u64,
        /// What the network is worth by now.
        #[serde(flatten)]
        checkup: Checkup,
    },
    /// A logged step.
    Step {
        /// Steps done.
        step: u64,
        /// The loss of its batch.
        loss: f64,
        /// The learning rate it was taken with.
        learning_rate: f64,
    },
    /// Where the run diverged and went back.
    Rollback {
        /// Steps done after it: those from here on are taken again.
        step: u64,
        /// Steps done before it.
        rolled_back_from: u64,
        /// The factor on the learning rate from here on.
        rate_factor: f64,
    },
}

impl Line {
    /// Steps done when it was written.
    pub fn step(self) -> u64 {
        match self {
            Self::Epoch { step, .. } | Self::Step { step, .. } | Self::Rollback { step, .. } => {
                step
            }
        }
    }
}

/// Reads `metrics.jsonl`; a last line that was cut short is left out.
pub fn read_metrics(run: &RunFolder) -> Result<Vec<Line>> {
    let path = run.path("metrics.jsonl");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", path.display(), number + 1))
    };
    whole.lines().enumerate().map(parse).collect()
}

/// How a run ended.
pub enum Outcome {
    /// All steps are done and the results are in the folder.
    Finished(Box<Summary>),
    /// Stopped on request after this many steps.
    Interrupted(u64),
}

/// A run that can be trained.
pub struct Fit {
    run: RunFolder,
    config: RunConfig,
    dataset: Dataset,
    pairs: EvaluationPairs,
    loader: Loader,
    trainer: Trainer,
    progress: Progress,
    log: MetricsLog,
    /// Whether it had at the last look.
    collapsed: bool,
    _lock: Lock,
}

impl Fit {
    /// A new run on `device`. Its folder is made once everything else is known to be right.
    pub fn new(
        config: RunConfig,
        out: Option<&std::path::Path>,
        device: Device,
        voice: Voice,
    ) -> Result<Self> {
        let dataset = load(&config, voice)?;
        Self::begin(config, dataset, out, device)
    }

    fn begin(
        config: RunConfig,
        dataset: Dataset,
        out: Option<&std::path::Path>,
        device: Device,
    ) -> Result<Self> {
        let name = config.data.source.to_string();
        let name = name.split(':').next().unwrap_or_default();
        let trainer = start(&config, &dataset, &device)?;
        let pairs = EvaluationPairs::new(&config, &dataset)?;
        let loader = Loader::new(&config, &dataset)?;
        let (run, lock) = RunFolder::create(out, name, &config)?;
        Ok(Self {
            log: MetricsLog::open(&run)?,
            collapsed: false,
            _lock: lock,
            run,
            loader,
            config,
            dataset,
            pairs,
            trainer,
            progress: Progress::default(),
        })
    }

    /// A run that was stopped, from its newest sound checkpoint on, on `device`, whichever it was on
    /// before. `settings` are `key=value`s that the run goes on with; where they change anything,
    /// `allow_changes` has to be set.
    pub fn resume(
        run: RunFolder,
        settings: &[String],
        allow_changes: bool,
        device: Device,
        voice: Voice,
    ) -> Result<Self> {
        Self::go_on(run, settings, allow_changes, device, |config| {
            load(config, voice)
        })
    }

    fn go_on(
        run: RunFolder,
        settings: &[String],
        allow_changes: bool,
        device: Device,
        load: impl FnOnce(&RunConfig) -> Result<Dataset>,
    ) -> Result<Self> {
        if run.path("summary.json").exists() {
            return Err(usage(format!(
                "{} is finished; there is nothing to resume",
                run.display()
            )));
        }
        let before = run.config()?;
        let mut overlay = Overlay::of(&before)?;
        for setting in settings {
            overlay = overlay.assignment(setting)?;
        }
        let config = overlay.finish()?;
        let changes = before.changes(&config)?;
        if let (Some(change), false) = (changes.first(), allow_changes) {
            return Err(usage(format!(
                "--set would change {change}, and the run would not be the one that was begun; add \
                 --allow-changes if that is wanted",
            )));
        }
        let lock = run.lock()?;
        let dataset = load(&config)?;
        let mut trainer = start(&config, &dataset, &device)?;
        let pairs = EvaluationPairs::new(&config, &dataset)?;
        let loader = Loader::new(&config, &dataset)?;
        let mut log = MetricsLog::open(&run)?;
        let progress =
            checkpoint::restore_newest(&run, &mut trainer, log.bytes(), |line| tell(line))?;
        let progress = progress.unwrap_or_default();
        if !changes.is_empty() {
            change(&run, progress.step, &config, &changes)?;
        }
        // What was logged after the checkpoint will be logged again.
        log.truncate(progress.logged)?;
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

    /// Trains to the end, or until interrupted.
    pub fn run(mut self, voice: Voice, interrupt: &Interrupt) -> Result<Outcome> {
        self.note_environment()?;
        if self.config.training.on_nan == OnNan::Rollback && !self.run.path(EPOCH).exists() {
            self.save(EPOCH)?;
        }
        loop {
            match self.train(voice, interrupt) {
                Ok(outcome) => return Ok(outcome),
                Err(error) if error.is::<NotFinite>() => self.roll_back(error, voice)?,
                Err(error) => return Err(self.last_resort(error)),
            }
        }
    }

    fn train(&mut self, voice: Voice, interrupt: &Interrupt) -> Result<Outcome> {
        let settings = self.config.training.clone();
        let epoch = Length::epoch(self.dataset.train.len(), self.config.images_per_batch());
        let steps = settings.length.steps(epoch);
        for note in &self.dataset.notes {
            voice.say(&format!("note: {note}"));
        }
        voice.say(&self.describe(steps));
        if matches!(self.config.data.source, Source::Folder(_)) {
            let train = &self.dataset.train;
            let sizes = ClassSizes::of(train)?;
            voice.say(&format!("{sizes}, made {}", train.shape()));
        }
        let per_step = match self.config.loss.kind {
            LossKind::Pairs => (settings.pairs_per_batch, "pairs"),
            LossKind::InBatch => (self.config.images_per_batch(), "images"),
        };
        let mut shown = StepProgress::new(voice, self.progress.step, steps, per_step)?;
        let started = Instant::now();
        let before = self.progress.seconds;
        let mut saved = Instant::now();
        for batch in self.loader.batches(self.progress.step, steps) {
            let rate = self.config.optimiser.learning_rate
                * self.config.schedule.factor(self.progress.step, steps)
                * self.rate_factor();
            let loss = self.step(batch, rate)?;
            self.progress.step += 1;
            let step = self.progress.step;
            let logged = step.is_multiple_of(settings.log_every) || step == steps;
            // To read it is to wait for a GPU, which works through a queue of steps.
            if logged || loss.device().is_cpu() {
                let loss = self.finite(&loss)?;
                shown.advance(step, loss);
                if logged {
                    let line = Line::Step {
                        step,
                        loss,
                        learning_rate: rate,
                    };
                    self.record(line, voice)?;
                }
            }
            self.progress.seconds = before + started.elapsed().as_secs_f64();
            if step.is_multiple_of(epoch) || step == steps {
                let checkup =
                    Checkup::new(self.trainer.net(), &self.config, &self.dataset, &self.pairs)?;
                let line = Line::Epoch {
                    epoch: step / epoch,
                    step,
                    checkup,
                };
                self.record(line, voice)?;
                self.warn_of_collapse(checkup.collapsed, voice);
                if self
                    .progress
                    .best
                    .is_none_or(|(best, _)| checkup.validation_loss < best)
                {
                    self.progress.best = Some((checkup.validation_loss, step));
                    self.save(BEST)?;
                }
                if settings.on_nan == OnNan::Rollback {
                    self.save(EPOCH)?;
                }
            }
            if interrupt.requested() && step < steps {
                self.finite(&loss)?;
                self.checkpoint()?;
                shown.finish();
                return Ok(Outcome::Interrupted(step));
            }
            if saved.elapsed() >= Duration::from_secs(settings.checkpoint_seconds) {
                self.finite(&loss)?;
                self.checkpoint()?;
                saved = Instant::now();
            }
        }
        self.checkpoint()?;
        shown.finish();
        let summary = self.conclude(steps, epoch)?;
        voice.emit(&summary)?;
        Ok(Outcome::Finished(Box::new(summary)))
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.run
    }

    fn describe(&self, steps: u64) -> String {
        let parameters: usize = self
            .trainer
            .net()
            .parameters()
            .iter()
            .map(|p| p.var.elem_count())
            .sum();
        let from = match self.progress.step {
            0 => String::new(),
            step => format!(", going on after step {step}"),
        };
        let unseen = match &self.config.data.hold_out_classes[..] {
            [] => String::new(),
            names => format!(", all of classes not trained on: {}", names.join(", ")),
        };
        let left_out = match self.loader.left_out() {
            0 => String::new(),
            classes => format!(
                "; never drawn: {classes} classes with fewer than {} images",
                self.config.in_batch.samples_per_class
            ),
        };
        format!(
            "{} on {} images of {} ({} held out, {} to test on{unseen}): {parameters} parameters, \
             {}-dimensional embedding, {steps} steps of {} on {}{from}{left_out}",
            self.run.display(),
            self.dataset.train.len(),
            self.dataset.name,
            self.dataset.validation.len(),
            self.dataset.test.len(),
            self.trainer.net().config().embedding,
            self.config.batch_in_words(),
            device::name(self.trainer.net().device()),
        )
    }

    /// One step; returns the batch's loss, a scalar on the network's device.
    fn step(&mut self, mut batch: Batch, rate: f64) -> Result<Tensor> {
        let device = self.trainer.net().device();
        let (images, labels) = batch.tensors(self.config.net.input, device)?;
        let stepped = self.trainer.step(&images, &labels, rate);
        stepped.map_err(|error| self.located(error, &batch.images()))
    }

    /// A step's loss as a number, or why there is no use in another step. A network that has become
    /// NaN stays NaN, so it shows at a later step too.
    fn finite(&self, loss: &Tensor) -> Result<f64> {
        let value = f64::from(loss.to_scalar::<f32>()?);
        NotFinite::check(value, "the loss", format!("at step {}", self.progress.step))?;
        Ok(value)
    }

    /// Says where a number was not finite, if that is the error.
    fn located(&self, error: anyhow::Error, images: &str) -> anyhow::Error {
        match error.downcast::<NotFinite>() {
            Ok(found) => NotFinite {
                place: format!("at step {}", self.progress.step),
                more: format!("; {images}"),
                ..found
            }
            .into(),
            Err(error) => error,
        }
    }

    /// Goes back to the end of the last epoch where that is wanted, and says so; else returns the error.
    fn roll_back(&mut self, error: anyhow::Error, voice: Voice) -> Result<()> {
        let rollbacks = self.progress.rollbacks.len();
        if self.config.training.on_nan == OnNan::Stop {
            return Err(self.last_resort(error));
        }
        if rollbacks == MOST_ROLLBACKS {
            return Err(error.context(format!("given up after {rollbacks} rollbacks")));
        }
        let from = self.progress.step;
        let anchor = checkpoint::restore(&self.run, EPOCH, &mut self.trainer)?;
        if anchor.step > from {
            return Err(error.context(format!(
                "{} is of step {}, which is yet to come",
                self.run.path(EPOCH).display(),
                anchor.step
            )));
        }
        self.progress = Progress {
            rollbacks: std::mem::take(&mut self.progress.rollbacks),
            seconds: self.progress.seconds,
            ..anchor
        };
        let to = self.progress.step;
        self.progress.rollbacks.push(Rollback { from, to });
        // In this order: whenever it is cut short, the newest checkpoint leads to the same error.
        checkpoint::forget_after(&self.run, to)?;
        self.log.truncate(self.progress.logged)?;
        for (count, rollback) in self.progress.rollbacks.clone().into_iter().enumerate() {
            if rollback.to == to {
                let line = Line::Rollback {
                    step: to,
                    rolled_back_from: rollback.from,
                    rate_factor: ROLLBACK_RATE.powi(count as i32 + 1),
                };
                self.log.append(&line)?;
                if count == rollbacks {
                    voice.emit(&line)?;
                }
            }
        }
        self.checkpoint()?;
        voice.say(&format!(
            "{error:#}: back to step {to}, and on at {} of the learning rate",
            self.rate_factor()
        ));
        Ok(())
    }

    fn rate_factor(&self) -> f64 {
        ROLLBACK_RATE.powi(self.progress.rollbacks.len() as i32)
    }

    /// An error that ends the run, with what is left of it.
    fn last_resort(&self, error: anyhow::Error) -> anyhow::Error {
        let Ok(Some(name)) = checkpoint::newest(&self.run) else {
            return error;
        };
        let path = self.run.path(&name);
        match error.downcast::<NotFinite>() {
            Ok(mut found) => {
                found.more += &format!("; the last good checkpoint is {}", path.display());
                found.into()
            }
            Err(error) => error.context(format!(
                "the run has stopped; `train fit --resume {}` goes on from {}",
                self.run.display(),
                path.display()
            )),
        }
    }

    fn record(&mut self, line: Line, voice: Voice) -> Result<()> {
        self.log.append(&line)?;
        voice.emit(&line)
    }

    fn warn_of_collapse(&mut self, collapsed: bool, voice: Voice) {
        if collapsed && !self.collapsed {
            voice.say(&format!(
                "all validation images are within a thousandth of the margin of each other at step \
                 {}: the network has collapsed to a point; a smaller optimiser.learning_rate or \
                 optimiser.weight_decay may help",
                self.progress.step
            ));
        }
        self.collapsed = collapsed;
    }

    fn note_environment(&self) -> Result<()> {
        let device = device::name(self.trainer.net().device());
        let here = Environment::new(self.progress.step, device, self.config.seed);
        append(&self.run, "environment.jsonl", &here)
    }

    /// Writes the newest checkpoint.
    fn checkpoint(&mut self) -> Result<()> {
        self.reach_disk()?;
        let keep = self.config.training.keep_checkpoints;
        checkpoint::save_newest(&self.run, &self.trainer, &self.progress, keep)
    }

    fn save(&mut self, name: &str) -> Result<()> {
        self.reach_disk()?;
        checkpoint::save(&self.run, name, &self.trainer, &self.progress)
    }

    /// Has the disk hold the log as a checkpoint is going to count on it.
    fn reach_disk(&mut self) -> Result<()> {
        self.log.sync()?;
        self.progress.logged = self.log.bytes();
        Ok(())
    }

    /// Calibrates, judges and writes the results.
    fn conclude(&self, steps: u64, epoch: u64) -> Result<Summary> {
        let (threshold, calibration) =
            calibrate(self.trainer.net(), &self.config, &self.dataset, &self.pairs)?;
        let transform = &self.config.transform;
        let file = ModelFile {
            config: self.trainer.net().config().clone(),
            preprocessing: Preprocessing {
                scale: transform.scale,
                mean: transform.mean,
                std: transform.std,
                ink_side: match self.config.data.source {
                    Source::Folder(_) => None,
                    Source::Digits | Source::Mnist(_) => Some(ink_side(&self.dataset.train)),
                },
            },
            threshold: Some(threshold),
            calibration: Some(calibration),
            classes: self.dataset.train.classes().to_vec(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        self.run.write(
            "model.safetensors",
            &weights::to_bytes(self.trainer.net(), &file)?,
        )?;
        let assessment =
            Assessment::new(self.trainer.net(), &self.config, &self.dataset, threshold)?;
        let summary = Summary {
            figures: assessment.figures.clone(),
            data: self.dataset.name.clone(),
            images: BTreeMap::from([
                ("train".into(), self.dataset.train.len()),
                ("validation".into(), self.dataset.validation.len()),
                ("test".into(), self.dataset.test.len()),
            ]),
            classes: ClassSizes::of(&self.dataset.train)?,
            steps,
            epochs: steps as f64 / epoch as f64,
            seconds: self.progress.seconds,
            images_per_second: (steps as f64 * self.config.images_per_batch() as f64)
                / self.progress.seconds,
            device: device::name(self.trainer.net().device()),
            seed: self.config.seed,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        projector::write(&self.run, &assessment.test, &self.dataset.test)?;
        events::write(&self.run, &summary)?;
        run_report::write(
            &self.run,
            &self.config,
            &self.dataset,
            &assessment,
            &summary,
        )?;
        // Last, since it says that the run is finished.
        self.run.write(
            "summary.json",
            format!("{:#}\n", serde_json::to_value(&summary)?).as_bytes(),
        )?;
        Ok(summary)
    }
}

/// Takes up other settings, and keeps what they were.
fn change(run: &RunFolder, step: u64, config: &RunConfig, changes: &[Change]) -> Result<()> {
    // First: a change that is recorded and not made is seen at the next resume.
    append(
        run,
        "changes.jsonl",
        &serde_json::json!({ "step": step, "changes": changes }),
    )?;
    run.write("config.toml", config.to_toml()?.as_bytes())
}

/// Adds an object to a file of lines, whole or not at all.
fn append(run: &RunFolder, name: &str, line: &impl Serialize) -> Result<()> {
    let path = run.path(name);
    let before = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let line = serde_json::to_string(line)?;
    run.write(name, format!("{before}{line}\n").as_bytes())
}

/// Loads a run's images and checks that its network takes them.
pub fn load(config: &RunConfig, voice: Voice) -> Result<Dataset> {
    let bar = reading_bar(voice)?;
    let options = FolderOptions {
        // Asked of folders alone: other images have a shape already, and it is compared below.
        shape: match config.data.source {
            Source::Folder(_) => ImageShape::try_from(config.net.input)
                .map_err(|error| usage(format!("net.input: {error}")))?,
            Source::Digits | Source::Mnist(_) => ImageShape::MNIST,
        },
        test: config.data.test,
        skip_corrupt: config.data.skip_corrupt,
        store: config.data.store,
        progress: &|read, all| {
            bar.set_length(all as u64);
            bar.set_position(read as u64);
        },
    };
    let loaded = config
        .data
        .source
        .load(config.data.validation, config.seed, &options);
    bar.finish_and_clear();
    let dataset = loaded?
        .open_set(&config.data.hold_out_classes)
        .context("holding out classes (--hold-out-classes, data.hold_out_classes)")?;
    let ImageShape {
        channels,
        height,
        width,
    } = dataset.train.shape();
    let found = [channels, height, width];
    if config.net.input != found {
        return Err(usage(format!(
            "net.input is {:?}, but the images of {} are {found:?}",
            config.net.input, dataset.name
        )));
    }
    let side = height.min(width);
    if config.transform.shift as usize >= side {
        return Err(usage(format!(
            "transform.shift is {}; it must be less than the images' {side} pixels, or nothing of \
             them may be left",
            config.transform.shift
        )));
    }
    Ok(dataset)
}

fn start(config: &RunConfig, dataset: &Dataset, device: &Device) -> Result<Trainer> {
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
    Trainer::new(net, config.objective(), config.optimiser)
}

#[cfg(test)]
mod failing_files;
