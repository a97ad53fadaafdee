//! The pairs that each anchor selects.

use crate::element::Real;
use crate::energy::Norm;
use crate::in_batch::Miner;

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
