//! What the losses of all pairs become.

use serde::{Deserialize, Serialize};

/// What the losses of a batch's pairs become; a scalar always, since there are N² of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InBatchReduction {
    /// Their mean over the pairs that the miner keeps: Caffe's `1/(2P)·Σ`, the ½ being in each
    /// pair's loss.
    #[default]
    Mean,
    /// Their mean over those of these pairs whose loss is not 0.
    MeanNonZero,
    /// Their sum.
    Sum,
}
