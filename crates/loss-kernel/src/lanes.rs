//! Sums in as many parts as a vector has lanes: an order of additions that needs no option of the
//! compiler to run on the vector unit.

use crate::element::Real;

/// Partial sums, as many as the widest vector unit has lanes of f32. Added as a tree instead of a
/// chain, they keep f32 within a few units in the last place.
pub(crate) const LANES: usize = 16;

/// Adds `term(a_k, b_k)` to lane `k % LANES`.
#[inline(always)]
pub(crate) fn add_terms<W: Real>(
    lanes: &mut [W; LANES],
    a: &[W],
    b: &[W],
    term: impl Fn(W, W) -> W,
) {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for k in 0..LANES {
            lanes[k] += term(a[k], b[k]);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += term(a, b);
    }
}

/// The sum of the lanes.
#[inline(always)]
pub(crate) fn total<W: Real>(mut lanes: [W; LANES]) -> W {
    let mut width = LANES / 2;
    while width > 0 {
        for k in 0..width {
            lanes[k] += lanes[k + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Adds `term(b_j)` to each `s_j`.
#[inline(always)]
pub(crate) fn add_to_each<W: Real>(row: &mut [W], right: &[W], term: impl Fn(W) -> W) {
    for (s, &b) in row.iter_mut().zip(right) {
        *s += term(b);
    }
}

/// Takes `slope·direction` from the right side's component; its sum is the left side's.
#[inline(always)]
pub(crate) fn add_component<W: Real>(
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

/// `Σ term(a_k, b_k)`.
#[inline(always)]
pub(crate) fn sum_of<W: Real>(a: &[W], b: &[W], term: impl Fn(W, W) -> W) -> W {
    let mut lanes = [W::zero(); LANES];
    add_terms(&mut lanes, a, b, term);
    total(lanes)
}
