//! Which pairs of a batch count.

use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use crate::Margin;

/// Which pairs of a batch count.
///
/// Every embedding is an *anchor* and selects some of its pairs; a pair counts if either of its two
/// embeddings selects it (in [`forward_against`], if the anchor does). Let `P` be the distance of an
/// anchor's farthest similar pair (−∞ if it has none) and `Q` that of its nearest dissimilar pair
/// (+∞ if it has none).
///
/// | miner | similar pairs selected | dissimilar pairs selected |
/// |---|---|---|
/// | [`All`](Self::All) | all | all |
/// | [`Hard`](Self::Hard) | `d > Q` | `d < P` |
/// | [`SemiHard`](Self::SemiHard) | all | `P < d < P + width` |
/// | [`Hardest`](Self::Hardest) | all | the nearest `negatives`, and those as near as the last of them |
///
/// Distances are compared as they are computed, so that two which differ by rounding may change
/// places. Selection is not differentiated through. A pair at a distance that is not a number
/// counts: a network that has diverged must be seen.
///
/// [`forward_against`]: crate::InBatchContrastiveLoss::forward_against
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Miner {
    /// All pairs.
    #[default]
    All,
    /// Pairs on the wrong side: similar ones farther than the nearest dissimilar one, and dissimilar
    /// ones nearer than the farthest similar one. `OnlineContrastiveLoss` of sentence-transformers
    /// does the same with the farthest and the nearest pair of the whole batch, where one outlier
    /// selects for everyone.
    Hard,
    /// Dissimilar pairs beyond the farthest similar one, by less than `width`. After FaceNet
    /// (Schroff, Kalenichenko, Philbin 2015), whose triplets have one similar pair each.
    SemiHard {
        /// In units of the distance.
        width: Margin,
    },
    /// Each anchor's nearest dissimilar pairs. An anchor's share of memory grows with their number.
    Hardest {
        /// How many; at most 255.
        negatives: NonZeroU8,
    },
}

impl Miner {
    pub(super) fn negatives(self) -> usize {
        match self {
            Self::Hardest { negatives } => negatives.get().into(),
            _ => 0,
        }
    }
}
