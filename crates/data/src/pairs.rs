//! Drawing pairs of images.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::{DataError, Purpose, stream};

/// Two images, by index, and whether they are of the same class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Index of the first image.
    pub first: u32,
    /// Index of the second image.
    pub second: u32,
    /// Whether both are of one class: Caffe's label y = 1.
    pub same: bool,
}

/// How training pairs are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// Half similar, half dissimilar. The first image is any image, the second any other of the same
    /// class or any of the other classes.
    #[default]
    Balanced,
    /// Both images any image, with replacement, as Caffe's example makes them: with ten classes, a
    /// tenth is similar.
    Uniform,
    /// Neighbours in an order shuffled anew each epoch, as the article's loader makes them.
    Adjacent,
}

impl Pairing {
    const ALL: [(Self, &str); 3] = [
        (Self::Balanced, "balanced"),
        (Self::Uniform, "uniform"),
        (Self::Adjacent, "adjacent"),
    ];
}

impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(pairing, _)| pairing == self);
        f.pad(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Pairing {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        Self::ALL
            .into_iter()
            .find_map(|(pairing, name)| (name == text).then_some(pairing))
            .ok_or_else(|| DataError::UnknownPairing { found: text.into() })
    }
}

/// Draws the pairs of any step of a run.
#[derive(Debug)]
pub struct PairSampler {
    labels: Vec<u32>,
    by_class: ByClass,
    pairing: Pairing,
    seed: u64,
    /// The latest epoch of `Adjacent` and its order: a shuffle of 60,000 images takes as long as
    /// drawing thousands of pairs.
    epoch: Mutex<Option<(u64, Arc<[u32]>)>>,
}

impl PairSampler {
    /// A sampler of the images that have these labels.
    ///
    /// # Errors
    /// [`DataError::TooFewClasses`]; [`DataError::NoSimilarPair`], save for `Uniform`, which pairs an
    /// image with itself at times.
    pub fn new(labels: &[u32], pairing: Pairing, seed: u64) -> Result<Self, DataError> {
        let by_class = ByClass::new(labels)?;
        if pairing != Pairing::Uniform {
            by_class.check_similar()?;
        }
        Ok(Self {
            labels: labels.to_vec(),
            by_class,
            pairing,
            seed,
            epoch: Mutex::new(None),
        })
    }

    /// Number of images drawn from.
    pub fn images(&self) -> usize {
        self.labels.len()
    }

    /// The `pairs` pairs of step `step`, the same whatever was drawn before.
    ///
    /// - `Balanced`: the similar ones come first; of an odd number, the odd one is similar at even
    ///   steps.
    /// - `Adjacent`: step k of an epoch takes pairs k·`pairs` onwards; images left over at an epoch's
    ///   end are dropped. Where an epoch has fewer pairs than a batch, the batch is the epoch.
    pub fn batch(&self, step: u64, pairs: usize) -> Vec<Pair> {
        match self.pairing {
            Pairing::Balanced => {
                let mut rng = stream(self.seed, Purpose::Sampling, step);
                let odd_one = usize::from(step.is_multiple_of(2));
                let similar = (pairs + odd_one) / 2;
                (0..pairs)
                    .map(|i| self.by_class.draw(i < similar, &mut rng))
                    .collect()
            }
            Pairing::Uniform => {
                let mut rng = stream(self.seed, Purpose::Sampling, step);
                let mut any = || rng.random_range(0..self.labels.len()) as u32;
                (0..pairs).map(|_| self.pair(any(), any())).collect()
            }
            Pairing::Adjacent => self.adjacent(step, pairs),
        }
    }

    fn adjacent(&self, step: u64, pairs: usize) -> Vec<Pair> {
        let pairs = pairs.min(self.labels.len() / 2);
        if pairs == 0 {
            return Vec::new();
        }
        let steps = (self.labels.len() / 2 / pairs) as u64;
        let order = self.order(step / steps);
        let start = (step % steps) as usize * 2 * pairs;
        order[start..start + 2 * pairs]
            .chunks_exact(2)
            .map(|pair| self.pair(pair[0], pair[1]))
            .collect()
    }

    fn order(&self, epoch: u64) -> Arc<[u32]> {
        // A thread that panicked left a whole order or none.
        let mut latest = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some((of, order)) if *of == epoch => Arc::clone(order),
            _ => {
                let mut order: Vec<u32> = (0..self.labels.len() as u32).collect();
                order.shuffle(&mut stream(self.seed, Purpose::Sampling, epoch));
                let order: Arc<[u32]> = order.into();
                *latest = Some((epoch, Arc::clone(&order)));
                order
            }
        }
    }

    fn pair(&self, first: u32, second: u32) -> Pair {
        Pair {
            first,
            second,
            same: self.labels[first as usize] == self.labels[second as usize],
        }
    }
}

/// Fixed pairs to evaluate on: half similar, half dissimilar (one more of an odd `count`), distinct
/// as long as there are enough, never an image with itself.
///
/// # Errors
/// [`DataError::TooFewClasses`], [`DataError::NoSimilarPair`].
pub fn balanced_pairs<R: Rng + ?Sized>(
    labels: &[u32],
    count: usize,
    rng: &mut R,
) -> Result<Vec<Pair>, DataError> {
    let by_class = ByClass::new(labels)?;
    by_class.check_similar()?;
    let mut pairs = by_class.distinct(true, count / 2, rng);
    pairs.extend(by_class.distinct(false, count - count / 2, rng));
    Ok(pairs)
}

/// Image indices with those of a class next to each other, classes of one image last.
#[derive(Debug)]
struct ByClass {
    images: Vec<u32>,
    /// For each place in `images`, the places that its class takes up.
    class: Vec<Range<usize>>,
    /// How many places, from the front, belong to classes of two images or more.
    repeated: usize,
}

impl ByClass {
    fn new(labels: &[u32]) -> Result<Self, DataError> {
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (image, &label) in (0..=u32::MAX).zip(labels) {
            groups.entry(label).or_default().push(image);
        }
        if groups.len() < 2 {
            return Err(DataError::TooFewClasses {
                found: groups.len(),
            });
        }
        let mut groups: Vec<Vec<u32>> = groups.into_values().collect();
        groups.sort_by_key(|group| group.len() == 1);
        let mut class = Vec::with_capacity(labels.len());
        for group in &groups {
            let places = class.len()..class.len() + group.len();
            class.extend(std::iter::repeat_n(places, group.len()));
        }
        Ok(Self {
            images: groups.concat(),
            repeated: class.iter().filter(|places| places.len() > 1).count(),
            class,
        })
    }

    fn check_similar(&self) -> Result<(), DataError> {
        if self.repeated == 0 {
            // Every class has one image.
            let classes = self.images.len();
            return Err(DataError::NoSimilarPair { classes });
        }
        Ok(())
    }

    /// The first image uniform over those that have such a partner, the second over its partners.
    fn draw<R: Rng + ?Sized>(&self, same: bool, rng: &mut R) -> Pair {
        if same {
            let first = rng.random_range(0..self.repeated);
            let class = self.class[first].clone();
            let second = rng.random_range(class.start..class.end - 1);
            self.pair(first, second + usize::from(second >= first), same)
        } else {
            let first = rng.random_range(0..self.images.len());
            let class = self.class[first].clone();
            let second = rng.random_range(0..self.images.len() - class.len());
            let skipped = if second >= class.start {
                class.len()
            } else {
                0
            };
            self.pair(first, second + skipped, same)
        }
    }

    fn distinct<R: Rng + ?Sized>(&self, same: bool, count: usize, rng: &mut R) -> Vec<Pair> {
        let places = self.images.len();
        let partners = |first: usize| match same {
            true => first + 1..self.class[first].end,
            false => self.class[first].end..places,
        };
        let possible: usize = (0..places).map(|first| partners(first).len()).sum();
        // Drawing again what was drawn before is quick while half of the pairs are free; beyond,
        // the list of all is short enough to write out.
        if count > possible / 2 {
            let mut all: Vec<Pair> = (0..places)
                .flat_map(|first| partners(first).map(move |second| (first, second)))
                .map(|(first, second)| self.pair(first, second, same))
                .collect();
            all.shuffle(rng);
            return all.into_iter().cycle().take(count).collect();
        }
        let mut seen = HashSet::with_capacity(count);
        let mut pairs = Vec::with_capacity(count);
        while pairs.len() < count {
            let pair = self.draw(same, rng);
            let either_way = (pair.first.min(pair.second), pair.first.max(pair.second));
            if seen.insert(either_way) {
                pairs.push(pair);
            }
        }
        pairs
    }

    fn pair(&self, first: usize, second: usize, same: bool) -> Pair {
        Pair {
            first: self.images[first],
            second: self.images[second],
            same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Pairing; 3] = [Pairing::Balanced, Pairing::Uniform, Pairing::Adjacent];

    /// 101 images in classes of 50, 30, 20 and 1.
    fn labels() -> Vec<u32> {
        let mut labels = vec![7; 50];
        labels.extend([3; 30]);
        labels.extend([9; 20]);
        labels.push(5);
        labels
    }

    fn assert_labelled_right(pairs: &[Pair], labels: &[u32]) {
        for pair in pairs {
            let same = labels[pair.first as usize] == labels[pair.second as usize];
            assert_eq!(pair.same, same, "{pair:?}");
        }
    }

    fn similar(pairs: &[Pair]) -> usize {
        pairs.iter().filter(|pair| pair.same).count()
    }

    #[test]
    fn a_step_gives_the_same_pairs_whatever_was_drawn_before() {
        for pairing in KINDS {
            let one = PairSampler::new(&labels(), pairing, 1).unwrap();
            let other = PairSampler::new(&labels(), pairing, 1).unwrap();
            let forwards: Vec<_> = (0..50).map(|step| one.batch(step, 8)).collect();
            let backwards: Vec<_> = (0..50).rev().map(|step| other.batch(step, 8)).collect();
            assert!(forwards.iter().eq(backwards.iter().rev()), "{pairing}");
            let another_seed = PairSampler::new(&labels(), pairing, 2).unwrap();
            assert_ne!(another_seed.batch(0, 8), forwards[0], "{pairing}");
            assert_ne!(forwards[0], forwards[1], "{pairing}");
        }
    }

    #[test]
    fn every_kind_labels_its_pairs_by_class() {
        let labels = labels();
        for pairing in KINDS {
            let sampler = PairSampler::new(&labels, pairing, 1).unwrap();
            for step in 0..50 {
                let pairs = sampler.batch(step, 16);
                assert_eq!(pairs.len(), 16);
                assert_labelled_right(&pairs, &labels);
            }
        }
    }

    #[test]
    fn balanced_batches_are_half_similar_and_the_odd_pair_alternates() {
        let sampler = PairSampler::new(&labels(), Pairing::Balanced, 1).unwrap();
        for step in 0..10 {
            assert_eq!(similar(&sampler.batch(step, 64)), 32);
            let odd = if step % 2 == 0 { 4 } else { 3 };
            assert_eq!(similar(&sampler.batch(step, 7)), odd);
        }
    }

    #[test]
    fn balanced_pairs_never_join_an_image_to_itself_and_reach_every_image_evenly() {
        let labels = labels();
        let sampler = PairSampler::new(&labels, Pairing::Balanced, 1).unwrap();
        let pairs: Vec<Pair> = (0..1000).flat_map(|s| sampler.batch(s, 200)).collect();
        assert!(pairs.iter().all(|pair| pair.first != pair.second));

        // 100,000 similar pairs over 100 images that have a partner: 1,000 each, sd 32.
        let mut firsts = vec![0; labels.len()];
        let mut seconds = vec![0; labels.len()];
        for pair in pairs.iter().filter(|pair| pair.same) {
            firsts[pair.first as usize] += 1;
            seconds[pair.second as usize] += 1;
        }
        for counts in [firsts, seconds] {
            assert!(counts[..100].iter().all(|n| (840..1160).contains(n)));
            assert_eq!(counts[100], 0);
        }
        // 100,000 dissimilar pairs over 101 images: 990 each.
        let mut firsts = vec![0; labels.len()];
        for pair in pairs.iter().filter(|pair| !pair.same) {
            firsts[pair.first as usize] += 1;
        }
        assert!(firsts.iter().all(|n| (830..1150).contains(n)));
    }

    #[test]
    fn uniform_pairs_are_similar_as_often_as_chance_has_it() {
        let labels = labels();
        let sampler = PairSampler::new(&labels, Pairing::Uniform, 1).unwrap();
        let pairs: Vec<Pair> = (0..100).flat_map(|s| sampler.batch(s, 1000)).collect();
        // Sum of squared class shares; sd of the estimate is 0.0015.
        let expected = f64::from(50 * 50 + 30 * 30 + 20 * 20 + 1) / f64::from(101 * 101);
        let found = similar(&pairs) as f64 / pairs.len() as f64;
        assert!((found - expected).abs() < 0.008, "{found}, not {expected}");
        assert!(pairs.iter().any(|pair| pair.first == pair.second));
    }

    #[test]
    fn adjacent_batches_take_each_image_once_an_epoch_in_a_new_order() {
        let sampler = PairSampler::new(&labels(), Pairing::Adjacent, 1).unwrap();
        // 101 images: 12 steps of 4 pairs use 96, 5 are dropped.
        let epoch = |e: u64| -> Vec<u32> {
            (e * 12..(e + 1) * 12)
                .flat_map(|step| sampler.batch(step, 4))
                .flat_map(|pair| [pair.first, pair.second])
                .collect()
        };
        let (first, second) = (epoch(0), epoch(1));
        for order in [&first, &second] {
            let distinct: HashSet<u32> = order.iter().copied().collect();
            assert_eq!(distinct.len(), 96);
        }
        assert_ne!(first, second);
        let whole = stream(1, Purpose::Sampling, 1);
        let mut order: Vec<u32> = (0..101).collect();
        order.shuffle(&mut { whole });
        assert_eq!(second, order[..96]);
    }

    #[test]
    fn an_adjacent_batch_larger_than_the_epoch_is_the_epoch() {
        let sampler = PairSampler::new(&[0, 0, 1, 1, 1], Pairing::Adjacent, 1).unwrap();
        assert_eq!(sampler.batch(3, 64).len(), 2);
    }

    #[test]
    fn an_empty_batch_is_empty() {
        for pairing in KINDS {
            let sampler = PairSampler::new(&labels(), pairing, 1).unwrap();
            assert!(sampler.batch(3, 0).is_empty());
        }
    }

    #[test]
    fn labels_that_cannot_be_paired_are_refused() {
        let mut rng = stream(1, Purpose::TestPairs, 0);
        for labels in [&[][..], &[4, 4, 4]] {
            for pairing in KINDS {
                let result = PairSampler::new(labels, pairing, 1);
                assert!(matches!(result, Err(DataError::TooFewClasses { .. })));
            }
            let result = balanced_pairs(labels, 2, &mut rng);
            assert!(matches!(result, Err(DataError::TooFewClasses { .. })));
        }
        for pairing in [Pairing::Balanced, Pairing::Adjacent] {
            let result = PairSampler::new(&[1, 2, 3], pairing, 1);
            assert!(matches!(
                result,
                Err(DataError::NoSimilarPair { classes: 3 })
            ));
        }
        assert!(PairSampler::new(&[1, 2, 3], Pairing::Uniform, 1).is_ok());
        let result = balanced_pairs(&[1, 2, 3], 2, &mut rng);
        assert!(matches!(result, Err(DataError::NoSimilarPair { .. })));
    }

    #[test]
    fn evaluation_pairs_are_balanced_and_distinct_while_there_are_enough() {
        let labels = labels();
        // Similar pairs there are 1225 + 435 + 190 = 1850: both ways of drawing, and the limit.
        for count in [0, 1, 100, 1849, 1851, 3700] {
            let mut rng = stream(1, Purpose::TestPairs, 0);
            let pairs = balanced_pairs(&labels, count, &mut rng).unwrap();
            assert_eq!(pairs.len(), count);
            assert_eq!(similar(&pairs), count / 2);
            assert_labelled_right(&pairs, &labels);
            let distinct: HashSet<_> = pairs
                .iter()
                .map(|pair| (pair.first.min(pair.second), pair.first.max(pair.second)))
                .collect();
            assert_eq!(distinct.len(), count);
            assert!(pairs.iter().all(|pair| pair.first != pair.second));
        }
    }

    #[test]
    fn evaluation_pairs_repeat_evenly_once_all_are_used() {
        let mut rng = stream(1, Purpose::TestPairs, 0);
        let pairs = balanced_pairs(&[0, 0, 1, 1], 16, &mut rng).unwrap();
        let uses = |pair: &Pair| pairs.iter().filter(|other| *other == pair).count();
        for pair in &pairs {
            assert_eq!(uses(pair), if pair.same { 4 } else { 2 });
        }
    }

    #[test]
    fn pairings_are_read_as_they_are_written() {
        for pairing in KINDS {
            assert_eq!(pairing.to_string().parse::<Pairing>().unwrap(), pairing);
            let json = serde_json::to_string(&pairing).unwrap();
            assert_eq!(json, format!("\"{pairing}\""));
        }
        let error = "random".parse::<Pairing>().unwrap_err().to_string();
        assert!(error.contains("`balanced`, `uniform` or `adjacent`"));
    }
}
