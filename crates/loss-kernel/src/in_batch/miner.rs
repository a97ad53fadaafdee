//! Which pairs of a batch count.

use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use super::Real;
use crate::Margin;
use crate::energy::Norm;

/// Which pairs of a batch count.
///
/// Every embedding is an *anchor* and selects some of its pairs; a pair counts if either of its two
/// embeddings selects it (of [`forward_against`], if the query does). Let `P` be the distance of an
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
    /// All of them.
    #[default]
    All,
    /// Those on the wrong side: similar pairs farther than the nearest dissimilar one, and
    /// dissimilar ones nearer than the farthest similar one. As the `OnlineContrastiveLoss` of
    /// sentence-transformers, which however compares with the farthest and the nearest pair of the
    /// whole batch, so that one outlier selects for everyone.
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
    fn negatives(self) -> usize {
        match self {
            Self::Hardest { negatives } => negatives.get().into(),
            _ => 0,
        }
    }
}

/// What the pairs of a block's anchors have shown so far, as `s`.
#[derive(Default)]
pub(super) struct Anchors<W> {
    farthest_similar: Vec<W>,
    nearest_dissimilar: Vec<W>,
    /// The nearest dissimilar ones of each anchor, ascending.
    hardest: Vec<W>,
    negatives: usize,
}

impl<W: Real> Anchors<W> {
    pub(super) fn new(miner: Miner, anchors: usize) -> Self {
        let negatives = miner.negatives();
        Self {
            farthest_similar: vec![W::neg_infinity(); anchors],
            nearest_dissimilar: vec![W::infinity(); anchors],
            hardest: vec![W::infinity(); anchors * negatives],
            negatives,
        }
    }

    /// Does nothing where there are no anchors.
    #[inline(always)]
    pub(super) fn observe(&mut self, anchor: usize, s: W, similar: bool) {
        if similar {
            if let Some(farthest) = self.farthest_similar.get_mut(anchor)
                && s > *farthest
            {
                *farthest = s;
            }
            return;
        }
        if let Some(nearest) = self.nearest_dissimilar.get_mut(anchor)
            && s < *nearest
        {
            *nearest = s;
        }
        if self.negatives > 0 && anchor < self.nearest_dissimilar.len() {
            let hardest = &mut self.hardest[anchor * self.negatives..][..self.negatives];
            if s < hardest[self.negatives - 1] {
                let at = hardest.partition_point(|&other| other <= s);
                hardest[at..].rotate_right(1);
                hardest[at] = s;
            }
        }
    }

    /// Adds what these anchors select.
    pub(super) fn select(&self, miner: Miner, norm: Norm, limits: &mut Limits<W>) {
        let never = W::neg_infinity();
        let always = (W::neg_infinity(), W::infinity());
        for anchor in 0..self.farthest_similar.len() {
            let farthest = self.farthest_similar[anchor];
            let (above, between) = match miner {
                Miner::All => (never, always),
                Miner::Hard => (self.nearest_dissimilar[anchor], (never, farthest)),
                Miner::SemiHard { .. } if farthest == never => (never, (never, never)),
                Miner::SemiHard { width } => {
                    let width = W::from_f64(width.get());
                    let upper = match norm {
                        Norm::L1 => farthest + width,
                        Norm::L2 => (farthest.sqrt() + width).powi(2),
                    };
                    (never, (farthest, upper))
                }
                Miner::Hardest { .. } => {
                    let last = self.hardest[(anchor + 1) * self.negatives - 1];
                    (never, (never, last.next_up()))
                }
            };
            limits.similar_above.push(above);
            limits.dissimilar_between.push(between);
        }
    }
}

/// What each anchor selects, as bounds of `s`, themselves left out.
#[derive(Default)]
pub(super) struct Limits<W> {
    similar_above: Vec<W>,
    dissimilar_between: Vec<(W, W)>,
}

impl<W: Real> Limits<W> {
    #[inline(always)]
    pub(super) fn keeps(&self, anchor: usize, s: W, similar: bool) -> bool {
        if s.is_nan() {
            return true;
        }
        if similar {
            s > self.similar_above[anchor]
        } else {
            let (above, below) = self.dissimilar_between[anchor];
            above < s && s < below
        }
    }
}
