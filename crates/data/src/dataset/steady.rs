//! Choices that stay as a data set grows: by a hash of what is chosen from, not by its place.

use sha2::{Digest, Sha256};

use crate::images::first_8;

/// What is chosen; one choice says nothing about another.
#[derive(Clone, Copy)]
pub enum Choice {
    TestImages,
    ValidationImages,
    TestClasses,
    ValidationClasses,
    ClosedTestImages,
    ClosedTestClasses,
}

/// A number for `item` that depends on it, the seed and the choice alone; uniform over items.
pub fn key(seed: u64, choice: Choice, item: &[u8]) -> u64 {
    let hash = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update([choice as u8])
        .chain_update(item);
    first_8(&hash.finalize())
}

/// Chooses those whose key is below `fraction` of all numbers, but `least` to `most` of them: then the
/// ones with the smallest keys.
///
/// Within these bounds, whether an item is chosen does not depend on the others.
pub fn choose(keys: &[u64], fraction: f64, least: usize, most: usize) -> Vec<bool> {
    let below = |key: u64| (key as f64) < fraction * 2f64.powi(64);
    let wanted = keys.iter().filter(|&&key| below(key)).count();
    let wanted = wanted.max(least).min(most).min(keys.len());
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&i| keys[i]);
    let mut chosen = vec![false; keys.len()];
    for &i in &order[..wanted] {
        chosen[i] = true;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(items: std::ops::Range<u32>, choice: Choice) -> Vec<u64> {
        items.map(|i| key(1, choice, &i.to_le_bytes())).collect()
    }

    #[test]
    fn a_fraction_is_chosen_and_stays_chosen_as_items_are_added() {
        let before = choose(&keys(0..1000, Choice::TestImages), 0.2, 0, 1000);
        let count = before.iter().filter(|chosen| **chosen).count();
        assert!((160..240).contains(&count), "{count}");
        let after = choose(&keys(0..2000, Choice::TestImages), 0.2, 0, 2000);
        assert_eq!(before, after[..1000]);
        let other = choose(&keys(0..1000, Choice::ValidationImages), 0.2, 0, 1000);
        assert_ne!(before, other);
    }

    #[test]
    fn bounds_take_the_smallest_keys() {
        let keys = [u64::MAX, 5, u64::MAX / 2, 7];
        assert_eq!(choose(&keys, 0.1, 0, 1), [false, true, false, false]);
        assert_eq!(choose(&keys, 0.1, 3, 4), [false, true, true, true]);
        assert_eq!(choose(&keys, 0.0, 9, 9), [true; 4]);
        assert_eq!(choose(&[], 0.5, 1, 1), [false; 0]);
    }
}
