//! The order in which every search ranks what it has found.

/// An embedding as a probe sees it; orders by distance, then by index.
///
/// The high half holds the bits of the distance: those of floats that are not negative order as the
/// floats do, and one integer sorts 1.7 times as fast as a pair of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate(u128);

impl Candidate {
    /// `distance`, or any measure that grows with it, is not negative.
    pub fn new(distance: f64, index: usize) -> Self {
        Self(u128::from(distance.to_bits()) << 64 | index as u128)
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub fn distance(self) -> f64 {
        f64::from_bits((self.0 >> 64) as u64)
    }
}

/// Leaves the `k` nearest, or all if there are fewer, nearest first.
pub fn keep_nearest(candidates: &mut Vec<Candidate>, k: usize) {
    if (1..candidates.len()).contains(&k) {
        candidates.select_nth_unstable(k - 1);
    }
    candidates.truncate(k);
    candidates.sort_unstable();
}
