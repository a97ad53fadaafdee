//! The losses of a row of pairs, and their slopes.

use super::totals::Totals;
use crate::Variant;
use crate::element::Real;
use crate::lanes::{LANES, total};

/// What a pair of a row is.
pub(super) const DROPPED: u32 = 0;
pub(super) const SIMILAR: u32 = 1;
pub(super) const DISSIMILAR: u32 = 2;

/// The loss of a pair and what it counts for.
#[derive(Clone, Copy)]
pub(super) struct Weighing<W> {
    pub(super) variant: Variant,
    pub(super) margin: W,
    /// Of the gradient of similar and of dissimilar pairs.
    pub(super) factors: [W; 2],
}

/// Makes the `s` of a row slopes, adds up its losses, and returns how many slopes are not 0.
#[inline(always)]
pub(super) fn weigh_row<W: Real>(
    weighing: &Weighing<W>,
    kinds: &[u32],
    row: &mut [W],
    totals: &mut Totals,
) -> usize {
    let Weighing {
        variant,
        margin,
        factors,
    } = *weighing;
    variant.fixed(
        #[inline(always)]
        |variant| weigh_as(variant, margin, factors, kinds, row, totals),
    )
}

#[inline(always)]
fn weigh_as<W: Real>(
    variant: Variant,
    margin: W,
    factors: [W; 2],
    kinds: &[u32],
    row: &mut [W],
    totals: &mut Totals,
) -> usize {
    let mut sums = Sums::default();
    let (kind_chunks, kind_rest) = kinds.as_chunks::<LANES>();
    let (row_chunks, row_rest) = row.as_chunks_mut::<LANES>();
    for (kinds, row) in kind_chunks.iter().zip(row_chunks) {
        for lane in 0..LANES {
            row[lane] = sums.add(lane, variant, margin, factors, kinds[lane], row[lane]);
        }
    }
    for (lane, (&kind, s)) in kind_rest.iter().zip(row_rest).enumerate() {
        *s = sums.add(lane, variant, margin, factors, kind, *s);
    }
    for (kind, losses) in sums.losses.into_iter().enumerate() {
        totals.losses[kind] += total(losses).to_f64();
        totals.pairs[kind] += count(sums.pairs[kind]);
        totals.non_zero[kind] += count(sums.non_zero[kind]);
    }
    count(sums.sloped) as usize
}

/// Of a row of at most 2³² pairs; first of similar, then of dissimilar ones.
struct Sums<W> {
    losses: [[W; LANES]; 2],
    pairs: [[u32; LANES]; 2],
    non_zero: [[u32; LANES]; 2],
    sloped: [u32; LANES],
}

impl<W: Real> Default for Sums<W> {
    #[inline(always)]
    fn default() -> Self {
        Self {
            losses: [[W::zero(); LANES]; 2],
            pairs: [[0; LANES]; 2],
            non_zero: [[0; LANES]; 2],
            sloped: [0; LANES],
        }
    }
}

impl<W: Real> Sums<W> {
    #[inline(always)]
    fn add(
        &mut self,
        lane: usize,
        variant: Variant,
        margin: W,
        factors: [W; 2],
        kind: u32,
        s: W,
    ) -> W {
        let zero = W::zero();
        let mut weighted = zero;
        for (index, of) in [SIMILAR, DISSIMILAR].into_iter().enumerate() {
            let (loss, slope) = variant.loss_and_slope(s, of == SIMILAR, margin);
            let is = kind == of;
            let loss = if is { loss } else { zero };
            self.losses[index][lane] += loss;
            self.pairs[index][lane] += u32::from(is);
            self.non_zero[index][lane] += u32::from(loss > zero || loss.is_nan());
            weighted = if is { slope * factors[index] } else { weighted };
        }
        self.sloped[lane] += u32::from(weighted != zero);
        weighted
    }
}

fn count(lanes: [u32; LANES]) -> u64 {
    lanes.into_iter().map(u64::from).sum()
}
