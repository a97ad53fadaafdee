//! Sums in as many parts as a vector has lanes: an order of additions that needs no option of the
//! compiler to run on the vector unit.

use num_traits::Float;

/// Partial sums, as many as the widest vector unit has lanes of f32. Added as a tree instead of a
/// chain, they keep f32 within a few units in the last place.
pub(crate) const LANES: usize = 16;

/// Adds `term(a_k, b_k)` to lane `k % LANES`.
#[inline(always)]
pub(crate) fn add_terms<T: Float>(
    lanes: &mut [T; LANES],
    a: &[T],
    b: &[T],
    term: impl Fn(T, T) -> T,
) {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for k in 0..LANES {
            lanes[k] = lanes[k] + term(a[k], b[k]);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane = *lane + term(a, b);
    }
}

/// The sum of the lanes.
#[inline(always)]
pub(crate) fn total<T: Float>(mut lanes: [T; LANES]) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for k in 0..width {
            lanes[k] = lanes[k] + lanes[k + width];
        }
        width /= 2;
    }
    lanes[0]
}
