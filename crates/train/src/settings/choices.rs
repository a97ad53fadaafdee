//! Settings that are one of a few names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which pairs a loss is computed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// Pairs drawn in advance.
    #[default]
    Pairs,
    /// All pairs of the images in a batch.
    InBatch,
}

impl fmt::Display for LossKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pairs => "pairs",
            Self::InBatch => "in-batch",
        })
    }
}

/// What to do when a loss or gradient is not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OnNan {
    /// End the run.
    #[default]
    Stop,
    /// Return to the end of the last epoch and continue at half the learning rate.
    Rollback,
}

/// Which weights a run keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// [`Best`](Self::Best) where the validation classes are new to the network, else
    /// [`Last`](Self::Last).
    #[default]
    Auto,
    /// Those after the last step.
    Last,
    /// Those of the evaluation with the largest area under the ROC curve of the validation pairs.
    Best,
}

/// How the last layer is fitted in closed form, once the network is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadChoice {
    /// The best on the validation images where their classes are new to the network, else
    /// [`None`](Self::None).
    Auto,
    /// It stays as trained.
    #[default]
    None,
    /// The embeddings are whitened within a class.
    Whitening,
    /// It gives principal components of its own input, whitened within a class.
    WhitenedFeatures,
    /// It becomes a linear discriminant analysis of its input.
    Lda,
    /// The same of the last maps of a residual network, cell by cell of a grid.
    GridLda,
    /// The embedding as trained, joined by the same of the maps of every stage.
    StageLda,
}

/// Where the classes of a batch come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Groups {
    /// From all groups.
    #[default]
    Mixed,
    /// From one group, as far as it has enough.
    Together,
}

/// Which part of the network takes no steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freeze {
    /// All of it is trained.
    #[default]
    None,
    /// The trunk: only the fully connected layers are trained.
    Trunk,
}

/// How gradients become steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// `v ← momentum·v + rate·(g + weight_decay·w)`, `w ← w − v`: the learning rate is inside the
    /// momentum, as in Caffe.
    Sgd,
    /// Loshchilov and Hutter 2019: decoupled weight decay, bias-corrected moments.
    AdamW,
}

/// How the learning rate changes from its start, `rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// `rate`.
    Constant,
    /// Caffe's `inv`: `rate · (1 + gamma · step)^−power`.
    Inv,
    /// Caffe's `step`: `rate · gamma^⌊step / step-size⌋`.
    Step,
    /// Falls from `rate` to `floor · rate` along half a cosine over the run's steps (Loshchilov and
    /// Hutter 2017, without restarts).
    Cosine,
}
