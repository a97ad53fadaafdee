//! `train fit`: from images to a run folder.

mod begin;
mod conclude;
mod dataset;
mod evaluations;
mod head;
mod refit;
mod rollback;
mod trunk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::Tensor;
use data::{Batch, Dataset, LabelledImages, Loader};
use metrics::Calibration;
use model::{Network, Parameter};

use crate::device;
use crate::judging::{EvaluationPairs, Heads, ValidationMetrics, calibrate};
use crate::results::{ClassSizes, Summary};
use crate::run::checkpoint::{self, BEST, EPOCH, FIRST, Progress};
use crate::run::{Environment, Line, Lock, MetricsLog, RunFolder};
use crate::settings::{Length, OnNan, RunConfig};
use crate::terminal::{Interrupt, StepProgress, Voice};
use crate::training::{AHEAD, NotFinite, Trainer};

pub use begin::fit_to_images;
pub use dataset::{LoadAs, load, load_to_train};

/// How a run ended.
pub enum Outcome {
    /// All steps are done and the results are in the folder.
    Finished(Box<Summary>),
    /// Stopped on request after this many steps.
    Interrupted(u64),
}

/// The outcome of a training.
struct Ended {
    /// With its head.
    net: Network,
    heads: Option<Heads>,
    /// Steps that its weights were trained for.
    kept: u64,
    /// As the validation images choose it.
    threshold: f64,
    calibration: Calibration,
}

/// A run that can be trained.
pub struct Fit {
    run: RunFolder,
    config: RunConfig,
    dataset: Dataset,
    /// The images that are trained on now.
    images: Arc<LabelledImages>,
    pairs: EvaluationPairs,
    loader: Arc<Loader>,
    trainer: Trainer,
    progress: Progress,
    log: MetricsLog,
    /// Whether the network had collapsed at the last evaluation.
    collapsed: bool,
    _lock: Lock,
}

impl Fit {
    /// Trains to the end, or until interrupted.
    pub fn run(mut self, voice: Voice, interrupt: &Interrupt) -> Result<Outcome> {
        self.note_environment()?;
        if self.refits() && self.progress.step == 0 && !self.run.path(FIRST).exists() {
            self.save(FIRST)?;
        }
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
        let horizon = settings.length.steps(epoch);
        // The first step and the last of this training, of all steps of the run.
        let (begin, steps) = match &self.progress.refit {
            Some(refit) => (refit.after, refit.after + refit.steps),
            None => (0, horizon),
        };
        let interval = self.evaluation_interval(epoch);
        if self.is_spent(interval) {
            return self.finish(epoch, voice, interrupt);
        }
        match &self.progress.refit {
            Some(refit) => voice.say(&format!(
                "trained again on {} images, those of the validation classes too, for {} steps \
                 (training.refit)",
                self.images.len(),
                refit.steps
            )),
            None => self.introduce(steps, voice)?,
        }
        let batch_size = self.config.batch_size();
        let mut shown = StepProgress::new(voice, self.progress.step, steps, batch_size)?;
        let started = Instant::now();
        let before = self.progress.seconds;
        let mut saved = Instant::now();
        for batch in Arc::clone(&self.loader).prefetch(self.progress.step..steps, AHEAD) {
            let rate = self.config.optimiser.learning_rate
                * self
                    .config
                    .schedule
                    .factor(self.progress.step - begin, horizon)
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
            if step.is_multiple_of(interval) || step == steps {
                self.evaluate(step / epoch, voice)?;
                if self.is_spent(interval) {
                    break;
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
        if self.progress.step < steps {
            voice.say(&format!(
                "ended after step {}: no better for {} evaluations (training.patience)",
                self.progress.step, settings.patience
            ));
        }
        self.finish(epoch, voice, interrupt)
    }

    /// Concludes a training: by a second one, or by the results.
    fn finish(&mut self, epoch: u64, voice: Voice, interrupt: &Interrupt) -> Result<Outcome> {
        let steps = self.progress.step;
        let ended = match self.progress.refit.clone() {
            Some(refit) => self.end_of_refit(refit)?,
            None => {
                let kept = self.take_best(voice)?;
                let (net, heads) = self.with_head()?;
                if let Some(heads) = &heads {
                    voice.say(&format!("head: {heads}"));
                }
                let (threshold, calibration) =
                    calibrate(&net, &self.config, &self.dataset, &self.pairs)?;
                Ended {
                    net,
                    heads,
                    kept,
                    threshold,
                    calibration,
                }
            }
        };
        if self.begin_refit(&ended, epoch, voice)? {
            return self.train(voice, interrupt);
        }
        let summary = self.conclude(ended, steps, epoch)?;
        voice.emit(&summary)?;
        Ok(Outcome::Finished(Box::new(summary)))
    }

    /// Evaluates the network and keeps the checkpoints that go with it.
    fn evaluate(&mut self, epoch: u64, voice: Voice) -> Result<()> {
        if self.progress.refit.is_some() {
            return self.mark_epoch();
        }
        let step = self.progress.step;
        let metrics =
            ValidationMetrics::new(self.trainer.net(), &self.config, &self.dataset, &self.pairs)?;
        let line = Line::Epoch {
            epoch,
            step,
            metrics,
        };
        self.record(line, voice)?;
        self.warn_of_collapse(metrics.collapsed, voice);
        let better = match self.keeps_best() {
            // Of equals the later one: with few validation pairs many are perfect.
            true => |score: f64, best: f64| score <= best,
            false => |score: f64, best: f64| score < best,
        };
        let score = match self.keeps_best() {
            true => 1.0 - metrics.validation_auc,
            false => metrics.validation_loss,
        };
        if self
            .progress
            .best
            .is_none_or(|(best, _)| better(score, best))
        {
            self.progress.best = Some((score, step));
            self.save(BEST)?;
        }
        self.mark_epoch()
    }

    /// Keeps what a run that diverges goes back to.
    fn mark_epoch(&mut self) -> Result<()> {
        match self.config.training.on_nan {
            OnNan::Rollback => self.save(EPOCH),
            OnNan::Stop => Ok(()),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.run
    }

    /// Tells people what is going to be trained on what.
    fn introduce(&self, steps: u64, voice: Voice) -> Result<()> {
        for note in &self.progress.notes {
            voice.say(&format!("note: {note}"));
        }
        let count = |of: &[Parameter]| of.iter().map(|p| p.var.elem_count()).sum::<usize>();
        let net = self.trainer.net();
        let (parameters, trained) = (count(net.parameters()), count(net.trained_parameters()));
        let trained = match trained == parameters {
            true => String::new(),
            false => format!(" ({trained} of them trained)"),
        };
        let from = match self.progress.step {
            0 => String::new(),
            step => format!(", going on after step {step}"),
        };
        let of_new = |new: bool, images: &LabelledImages| match new {
            true => format!(", all of {}", names(images)),
            false => String::new(),
        };
        let validated = of_new(
            self.dataset.new_validation_classes,
            &self.dataset.validation,
        );
        let tested = match self.dataset.tests_validation {
            true => "none to test on".into(),
            false => format!(
                "{} to test on{}",
                self.dataset.test.len(),
                of_new(self.dataset.new_test_classes, &self.dataset.test)
            ),
        };
        let left_out = match self.loader.sampler().left_out() {
            0 => String::new(),
            classes => format!(
                "; never drawn: {classes} classes with fewer than {} images",
                self.config.in_batch.samples_per_class
            ),
        };
        voice.say(&format!(
            "{} on {} images of {} ({} held out{validated}; {tested}): {parameters} parameters{trained}, \
             {}-dimensional embedding, {steps} steps of {} on {}{from}{left_out}",
            self.run.display(),
            self.images.len(),
            self.dataset.name,
            self.dataset.validation.len(),
            self.trainer.net().config().embedding,
            self.config.batch_in_words(),
            device::name(self.trainer.net().device()),
        ));
        if self.config.data.source.takes_shape() {
            let sizes = ClassSizes::of(&self.images)?;
            voice.say(&format!("{sizes}, made {}", self.images.shape()));
        }
        Ok(())
    }

    /// One step; returns the batch's loss, a scalar on the network's device.
    fn step(&mut self, batch: Batch, rate: f64) -> Result<Tensor> {
        let device = self.trainer.net().device();
        let [c, h, w] = self.trainer.net().config().input;
        let images = Tensor::from_vec(batch.pixels, (batch.images.len(), c, h, w), device)?;
        let labels = Tensor::new(batch.labels, device)?;
        let stepped = self.trainer.step(&images, &labels, rate);
        let drawn = || self.loader.sampler().describe(&batch.images);
        stepped.map_err(|error| self.located(error, &drawn()))
    }

    /// A step's loss as a number, or an error that ends the run. A network that has become NaN stays
    /// NaN, so a later step shows it too.
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
        self.run.append("environment.jsonl", &here)
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

    /// Waits until the log is on the disk, which a checkpoint counts on.
    fn reach_disk(&mut self) -> Result<()> {
        self.log.sync()?;
        self.progress.logged = self.log.bytes();
        Ok(())
    }
}

/// The classes that images are of, which are not trained on, or how many where they are many.
fn names(images: &LabelledImages) -> String {
    const MOST: usize = 5;
    let counts = images.class_counts().into_iter().zip(images.classes());
    let names: Vec<&str> = counts
        .filter_map(|(count, name)| (count > 0).then_some(name.as_str()))
        .collect();
    match names.len() {
        0..=MOST => format!("classes not trained on: {}", names.join(", ")),
        count => format!("{count} classes not trained on"),
    }
}

#[cfg(test)]
mod failing_files;
