//! `train fit`: from images to a run folder.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use data::{Dataset, ImageShape, PairBatch, PairLoader, PairSampler, Purpose, ink_side, stream};
use metrics::OperatingRule;
use model::{LeNet, ModelFile, Preprocessing, weights};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, BEST, LATEST, Progress};
use crate::config::{Length, RunConfig};
use crate::evaluation::{Assessment, Checkup, EvaluationPairs, calibrate};
use crate::interrupt::Interrupt;
use crate::progress::{StepProgress, Voice};
use crate::run_folder::RunFolder;
use crate::summary::Summary;
use crate::trainer::Trainer;
use crate::usage::usage;
use crate::{device, projector, run_report};

/// Batches made ahead by the loader's thread: it needs no more than the time of one step.
const AHEAD: usize = 2;

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
        /// The mean loss of its pairs.
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
    trainer: Trainer,
    progress: Progress,
}

impl Fit {
    /// A new run on `device`. Its folder is made once everything else is known to be right.
    pub fn new(config: RunConfig, out: Option<&std::path::Path>, device: Device) -> Result<Self> {
        let dataset = load(&config)?;
        let name = config.data.source.to_string();
        let name = name.split(':').next().unwrap_or_default();
        let trainer = start(&config, &dataset, &device)?;
        let pairs = EvaluationPairs::new(&config, &dataset)?;
        PairSampler::new(dataset.train.labels(), config.data.pairing, config.seed)
            .context("pairing the training images; hold out fewer with data.validation")?;
        Ok(Self {
            run: RunFolder::create(out, name, &config)?,
            config,
            dataset,
            pairs,
            trainer,
            progress: Progress::default(),
        })
    }

    /// A run that was stopped, from its newest checkpoint on, on `device`, whichever it was on
    /// before.
    pub fn resume(run: RunFolder, device: Device) -> Result<Self> {
        if run.path("summary.json").exists() {
            return Err(usage(format!(
                "{} is finished; there is nothing to resume",
                run.display()
            )));
        }
        let config = run.config()?;
        let dataset = load(&config)?;
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
            config,
            dataset,
            trainer,
            progress,
        })
    }

    /// Trains to the end, or until interrupted.
    pub fn run(mut self, voice: Voice, interrupt: &Interrupt) -> Result<Outcome> {
        let settings = self.config.training.clone();
        let epoch = Length::epoch(self.dataset.train.len(), settings.pairs_per_batch);
        let steps = settings.length.steps(epoch);
        voice.say(&self.describe(steps));
        let sampler = PairSampler::new(
            self.dataset.train.labels(),
            self.config.data.pairing,
            self.config.seed,
        )?;
        let loader = Arc::new(PairLoader::new(
            Arc::clone(&self.dataset.train),
            sampler,
            self.config.transform.train(),
            settings.pairs_per_batch,
            self.config.seed,
        )?);
        let mut log = self.run.metrics()?;
        let mut record = |line: Line| -> Result<()> {
            writeln!(log, "{}", serde_json::to_string(&line)?)
                .context("cannot write metrics.jsonl")?;
            voice.emit(&line)
        };
        let mut shown =
            StepProgress::new(voice, self.progress.step, steps, settings.pairs_per_batch)?;
        let started = Instant::now();
        let before = self.progress.seconds;
        let mut saved = Instant::now();
        for batch in loader.prefetch(self.progress.step, steps, AHEAD) {
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
        format!(
            "{} on {} images of {} ({} held out, {} to test on): {parameters} parameters, \
             {}-dimensional embedding, {steps} steps of {} pairs on {}{from}",
            self.run.display(),
            self.dataset.train.len(),
            self.dataset.name,
            self.dataset.validation.len(),
            self.dataset.test.len(),
            self.trainer.net().config().embedding,
            self.config.training.pairs_per_batch,
            device::name(self.trainer.net().device()),
        )
    }

    /// One step; returns the batch's loss, a scalar on the network's device.
    fn step(&mut self, batch: PairBatch, rate: f64) -> Result<Tensor> {
        let pairs = batch.same.len();
        let [c, h, w] = self.config.net.input;
        let device = self.trainer.net().device();
        let images = Tensor::from_vec(batch.pixels, (2 * pairs, c, h, w), device)?;
        let same = Tensor::from_vec(batch.same, pairs, device)?;
        let loss = self.trainer.step(&images, &same, rate)?;
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
        let (threshold, calibration) = calibrate(
            self.trainer.net(),
            &self.config,
            &self.dataset,
            &self.pairs,
            OperatingRule::Accuracy,
        )?;
        let transform = &self.config.transform;
        let file = ModelFile {
            config: self.trainer.net().config().clone(),
            preprocessing: Preprocessing {
                scale: transform.scale,
                mean: transform.mean,
                std: transform.std,
                ink_side: ink_side(&self.dataset.train),
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
            pairs_per_second: (steps as usize * self.config.training.pairs_per_batch) as f64
                / self.progress.seconds,
            device: device::name(self.trainer.net().device()),
            seed: self.config.seed,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        projector::write(&self.run, &assessment.test, &self.dataset.test)?;
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
pub fn load(config: &RunConfig) -> Result<Dataset> {
    let dataset = config
        .data
        .source
        .load(config.data.validation, config.seed)?;
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
    let images = 2 * config.training.pairs_per_batch;
    if images > dataset.train.len() {
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
    Trainer::new(net, config.loss.build(), config.optimiser)
}
