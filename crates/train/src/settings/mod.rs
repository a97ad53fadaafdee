//! The settings of a run, as `config.toml` has them.
//!
//! A configuration is a preset, with a file's settings laid over it, with the command line's laid over
//! that ([`Layers`]). `config.toml` always holds every setting, so that a later change of a default
//! cannot change an old run. Each setting is declared once, in `tables.rs`.

mod changes;
mod choices;
mod declare;
mod flags;
mod layers;
mod length;
mod miner;
mod tables;
mod validate;

use anyhow::{Context, Result};
use loss_kernel::ContrastiveLoss;

use declare::{Base, Declared};

pub use changes::Change;
pub use choices::{Freeze, Groups, HeadChoice, LossKind, OnNan, Policy, Rule, Weights};
pub use flags::SettingFlags;
pub use layers::{Layers, Preset, read_text};
pub use length::Length;
pub use miner::MinerChoice;
pub use tables::{InBatchConfig, OptimiserConfig, PretrainedConfig, RunConfig, Schedule};

impl OptimiserConfig {
    /// The solver of Caffe's `examples/siamese`: SGD, learning rate 0.01, momentum 0.9, biases at
    /// twice the rate, no weight decay.
    pub fn caffe() -> Self {
        let table = Self::defaults(&[Base::Caffe]);
        table
            .try_into()
            .expect("declared defaults are of their types")
    }
}

impl RunConfig {
    /// The text of `config.toml`.
    ///
    /// # Errors
    /// For a data source whose path is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("writing the configuration as TOML")
    }

    /// The mean loss of given pairs; networks are judged by it whatever they were trained on.
    pub fn pair_loss(&self) -> ContrastiveLoss {
        ContrastiveLoss::new(self.loss.margin)
            .variant(self.loss.variant)
            .normalised(self.net.normalised)
    }

    /// Images that the network sees in a step.
    pub fn images_per_batch(&self) -> usize {
        let (count, each) = match self.loss.kind {
            LossKind::Pairs => (self.training.pairs_per_batch, 2),
            LossKind::InBatch => (
                self.in_batch.classes_per_batch,
                self.in_batch.samples_per_class,
            ),
        };
        count.saturating_mul(each)
    }

    /// What a step sees, counted as people count it: 64 pairs, or 120 images.
    pub fn batch_size(&self) -> (usize, &'static str) {
        match self.loss.kind {
            LossKind::Pairs => (self.training.pairs_per_batch, "pairs"),
            LossKind::InBatch => (self.images_per_batch(), "images"),
        }
    }

    /// The same as a phrase, with what makes it up.
    pub fn batch_in_words(&self) -> String {
        match self.loss.kind {
            LossKind::Pairs => format!("{} pairs", self.training.pairs_per_batch),
            LossKind::InBatch => format!(
                "all pairs of {} images ({} classes, {} of each)",
                self.images_per_batch(),
                self.in_batch.classes_per_batch,
                self.in_batch.samples_per_class
            ),
        }
    }
}
