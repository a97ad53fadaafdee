//! `train fit`: from images to a run folder.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use data::{Dataset, FolderOptions, ImageShape, Purpose, Source, ink_side, stream};
use model::{LeNet, ModelFile, Preprocessing, weights};
use serde::{Deserialize, Serialize};

use crate::batches::{Batch, Loader};
use crate::checkpoint::{self, BEST, LATEST, Progress};
use crate::config::{Length, LossKind, RunConfig};
use crate::evaluation::{Assessment, Checkup, EvaluationPairs, calibrate};
use crate::interrupt::Interrupt;
use crate::progress::{StepProgress, Voice, reading_bar};
use crate::run_folder::RunFolder;
use crate::summary::Summary;
use crate::trainer::Trainer;
use crate::usage::usage;
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
}

impl Line {
    /// Steps done when it was written.
    pub fn step(self) -> u64 {
        match self {
            Self::Epoch { step, .. } | Self::Step { step, .. } => step,
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
        let name = config.data.source.to_string();
        let name = name.split(':').next().unwrap_or_default();
        let trainer = start(&config, &dataset, &device)?;
        let pairs = EvaluationPairs::new(&config, &dataset)?;
        let loader = Loader::new(&config, &dataset)?;
        Ok(Self {
            run: RunFolder::create(out, name, &config)?,
            loader,
            config,
            dataset,
            pairs,
            trainer,
            progress: Progress::default(),
        })
    }

    /// A run that was stopped, from its newest checkpoint on, on `device`, whichever it was on
    /// before.
    pub fn resume(run: RunFolder, device: Device, voice: Voice) -> Result<Self> {
        if run.path("summary.json").exists() {
            return Err(usage(format!(
                "{} is finished; there is nothing to resume",
                run.display()
            )));
        }
        let config = run.config()?;
        let dataset = load(&config, voice)?;
        let mut trainer = start(&config, &dataset, &device)?;
        let mut progress = Progress::default();
        if run.path(LATEST).exists() {
            progress = checkpoint::restore(&run, &mut trainer)?;
        }
        // What was logged after the checkpoint will be logged again.
        if run.path("metrics.jsonl").exists() {
            let kept = read_metrics(&run)?
                .into_iter()
                .filter(|line| line.step() <= progress.step);
            let kept: Vec<String> = kept
                .map(|line| serde_json::to_string(&line))
                .collect::<Result<_, _>>()?;
            run.write(
                "metrics.jsonl",
                kept.iter()
                    .map(|line| format!("{line}\n"))
                    .collect::<String>()
                    .as_bytes(),
            )?;
        }
        Ok(Self {
            run,
            pairs: EvaluationPairs::new(&config, &dataset)?,
            loader: Loader::new(&config, &dataset)?,
            config,
            dataset,
            trainer,
            progress,
        })
    }

    /// Trains to the end, or until interrupted.
    pub fn run(mut self, voice: Voice, interrupt: &Interrupt) -> Result<Outcome> {
        let settings = self.config.training.clone();
        let epoch = Length::epoch(self.dataset.train.len(), self.config.images_per_batch());
        let steps = settings.length.steps(epoch);
        for note in &self.dataset.notes {
            voice.say(&format!("note: {note}"));
        }
        voice.say(&self.describe(steps));
        if matches!(self.config.data.source, Source::Folder(_)) {
            voice.say(&self.describe_classes());
        }
        let mut log = self.run.metrics()?;
        let mut record = |line: Line| -> Result<()> {
            writeln!(log, "{}", serde_json::to_string(&line)?)
                .context("cannot write metrics.jsonl")?;
            voice.emit(&line)
        };
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
                * self.config.schedule.factor(self.progress.step, steps);
            let loss = self.step(batch, rate)?;
            self.progress.step += 1;
            let step = self.progress.step;
            let logged = step.is_multiple_of(settings.log_every) || step == steps;
            // To read it is to wait for a GPU, which works through a queue of steps.
            if logged || loss.device().is_cpu() {
                let loss = self.finite(&loss)?;
                shown.advance(step, loss);
                if logged {
                    record(Line::Step {
                        step,
                        loss,
                        learning_rate: rate,
                    })?;
                }
            }
            self.progress.seconds = before + started.elapsed().as_secs_f64();
            if step.is_multiple_of(epoch) || step == steps {
                let checkup =
                    Checkup::new(self.trainer.net(), &self.config, &self.dataset, &self.pairs)?;
                record(Line::Epoch {
                    epoch: step / epoch,
                    step,
                    checkup,
                })?;
                if self
                    .progress
                    .best
                    .is_none_or(|(best, _)| checkup.validation_loss < best)
                {
                    self.progress.best = Some((checkup.validation_loss, step));
                    self.save(BEST)?;
                }
            }
            if interrupt.requested() && step < steps {
                self.finite(&loss)?;
                self.save(LATEST)?;
                shown.finish();
                return Ok(Outcome::Interrupted(step));
            }
            if saved.elapsed() >= Duration::from_secs(settings.checkpoint_seconds) {
                self.finite(&loss)?;
                self.save(LATEST)?;
                saved = Instant::now();
            }
        }
        self.save(LATEST)?;
        shown.finish();
        let summary = self.conclude(steps, epoch)?;
        voice.emit(&summary)?;
        Ok(Outcome::Finished(Box::new(summary)))
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.run
    }

    fn describe_classes(&self) -> String {
        let train = &self.dataset.train;
        let counts = train.class_counts();
        let class = |count: Option<&usize>| {
            let count = count.copied().unwrap_or_default();
            let at = counts.iter().position(|&c| c == count).unwrap_or_default();
            format!("{count} ({})", train.classes()[at])
        };
        format!(
            "{} classes with {} to {} training images each, made {}",
            counts.len(),
            class(counts.iter().min()),
            class(counts.iter().max()),
            train.shape()
        )
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
    fn step(&mut self, batch: Batch, rate: f64) -> Result<Tensor> {
        let device = self.trainer.net().device();
        let (images, labels) = batch.tensors(self.config.net.input, device)?;
        let loss = self.trainer.step(&images, &labels, rate)?;
        if loss.device().is_cpu() {
            self.finite(&loss)?;
        }
        Ok(loss)
    }

    /// A step's loss as a number, or why there is no use in another step. A network that has become
    /// NaN stays NaN, so it shows at a later step too.
    fn finite(&self, loss: &Tensor) -> Result<f64> {
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            bail!(
                "the loss is {value} at step {}: the network has diverged; a smaller \
                 optimiser.learning_rate may help{}",
                self.progress.step,
                match self.run.path(LATEST).exists() {
                    true => format!(
                        " (the last good state is {})",
                        self.run.path(LATEST).display()
                    ),
                    false => String::new(),
                }
            );
        }
        Ok(value)
    }

    fn save(&self, name: &str) -> Result<()> {
        checkpoint::save(&self.run, name, &self.trainer, self.progress)
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
    let net = LeNet::new(config.net.clone(), DType::F32, device, &mut rng)?;
    Trainer::new(net, config.objective(), config.optimiser)
}
