//! Sums over components or over the pairs of a row, in as many parts as a vector has lanes: an
//! order of additions that needs no option of the compiler to run on the vector unit.

use super::Real;

/// Partial sums, as many as the widest vector unit has lanes of f32.
pub(super) const LANES: usize = 16;

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
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    for (lane, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] += term(a, b);
    }
    total(lanes)
}

#[inline(always)]
pub(super) fn total<W: Real>(mut lanes: [W; LANES]) -> W {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            let other = lanes[lane + width];
            lanes[lane] += other;
        }
        width /= 2;
    }
    lanes[0]
}
