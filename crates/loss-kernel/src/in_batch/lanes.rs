//! Sums over components or over the pairs of a row, in [`crate::lanes`].

use super::Real;
use crate::lanes::{self, LANES, total};

#[inline(always)]
pub(super) fn add_terms<W: Real>(row: &mut [W], right: &[W], term: impl Fn(W) -> W) {
    for (s, &b) in row.iter_mut().zip(right) {
        *s += term(b);
    }
}

/// Takes `slope·direction` from the right side's component; its sum is the left side's.
#[inline(always)]
pub(super) fn add_component<W: Real>(
    slopes: &[W],
    right: &[W],
    of_right: &mut [W],
    direction: impl Fn(W) -> W,
) -> W {
    let mut lanes = [W::zero(); LANES];
    let (slope_chunks, slope_rest) = slopes.as_chunks::<LANES>();
    let (right_chunks, right_rest) = right.as_chunks::<LANES>();
    let (of_chunks, of_rest) = of_right.as_chunks_mut::<LANES>();
    for ((slopes, right), of_right) in slope_chunks.iter().zip(right_chunks).zip(of_chunks) {
        for lane in 0..LANES {
            let gradient = slopes[lane] * direction(right[lane]);
            lanes[lane] += gradient;
            of_right[lane] -= gradient;
        }
    }
    for ((&slope, &b), of_right) in slope_rest.iter().zip(right_rest).zip(of_rest) {
        let gradient = slope * direction(b);
        lanes[0] += gradient;
        *of_right -= gradient;
    }
    total(lanes)
}

#[inline(always)]
pub(super) fn squared_distance<W: Real>(a: &[W], b: &[W]) -> W {
    sum_of(
        a,
        b,
        #[inline(always)]
        |a, b| (a - b) * (a - b),
    )
}

#[inline(always)]
pub(super) fn sum_of<W: Real>(a: &[W], b: &[W], term: impl Fn(W, W) -> W) -> W {
    let mut lanes = [W::zero(); LANES];
    lanes::add_terms(&mut lanes, a, b, term);
    total(lanes)
}
