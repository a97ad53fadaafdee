//! What the pairs add up to.

use crate::in_batch::{InBatchContrastiveLoss, InBatchReduction};

/// Sums over pairs, first the similar, then the dissimilar ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) losses: [f64; 2],
    /// Pairs that the miner keeps.
    pub(super) pairs: [u64; 2],
    /// Of these, those whose loss is not 0.
    pub(super) non_zero: [u64; 2],
}

impl Totals {
    pub(super) fn plus(mut self, other: Self) -> Self {
        for kind in 0..2 {
            self.losses[kind] += other.losses[kind];
            self.pairs[kind] += other.pairs[kind];
            self.non_zero[kind] += other.non_zero[kind];
        }
        self
    }

    /// By what the loss and the gradient of a pair of either kind are multiplied.
    pub(super) fn factors(&self, loss: &InBatchContrastiveLoss) -> [f64; 2] {
        let counted = match loss.reduction {
            InBatchReduction::Mean | InBatchReduction::Sum => self.pairs,
            InBatchReduction::MeanNonZero => self.non_zero,
        }
        .map(|pairs| pairs as f64);
        let all = counted[0] + counted[1];
        let share = match loss.reduction {
            InBatchReduction::Sum => 1.0,
            // Without a pair there is nothing to multiply.
            InBatchReduction::Mean | InBatchReduction::MeanNonZero => 1.0 / all.max(1.0),
        };
        counted.map(|pairs| {
            if loss.balanced {
                share * all / (2.0 * pairs.max(1.0))
            } else {
                share
            }
        })
    }

    pub(super) fn value(&self, loss: &InBatchContrastiveLoss) -> f64 {
        let [similar, dissimilar] = self.factors(loss);
        similar * self.losses[0] + dissimilar * self.losses[1]
    }
}
