//! All pairs of some images, similar and dissimilar, to draw from.

use std::collections::HashSet;
use std::ops::Range;

use rand::Rng;
use rand::seq::SliceRandom;

use crate::DataError;
use crate::images::by_class;

/// Two images, by index, and whether they are similar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Index of the first image.
    pub first: u32,
    /// Index of the second image.
    pub second: u32,
    /// Whether both are of one class: the label y = 1 of Caffe's loss.
    pub similar: bool,
}

/// Fixed pairs to evaluate on: half similar, half dissimilar (one more of an odd `count`), no two of
/// the same images and never an image with itself. Where there are fewer of a kind, all of them.
///
/// # Errors
/// [`DataError::Images`] for fewer than two classes, or none with two images.
pub fn balanced_pairs<R: Rng + ?Sized>(
    labels: &[u32],
    count: usize,
    rng: &mut R,
) -> Result<Vec<Pair>, DataError> {
    let pool = PairPool::new(labels)?;
    pool.check_similar()?;
    let mut pairs = pool.distinct(true, count / 2, rng);
    pairs.extend(pool.distinct(false, count - count / 2, rng));
    Ok(pairs)
}

/// The images, those of a class next to each other, classes of one image last.
#[derive(Debug)]
pub(super) struct PairPool {
    images: Vec<u32>,
    /// For each place in `images`, the places that its class takes up.
    class: Vec<Range<usize>>,
    /// How many places, from the front, belong to classes of two images or more.
    repeated: usize,
}

impl PairPool {
    /// # Errors
    /// [`DataError::Images`] for fewer than two classes.
    pub(super) fn new(labels: &[u32]) -> Result<Self, DataError> {
        let mut groups = by_class(labels);
        if groups.len() < 2 {
            return Err(DataError::Images(format!(
                "pairs need images of at least two classes; found {}",
                groups.len()
            )));
        }
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

    /// # Errors
    /// [`DataError::Images`] unless there is a similar pair.
    pub(super) fn check_similar(&self) -> Result<(), DataError> {
        if self.repeated == 0 {
            // Every class has one image.
            let classes = self.images.len();
            return Err(DataError::Images(format!(
                "similar pairs need a class with at least two images; none of the {classes} classes has"
            )));
        }
        Ok(())
    }

    /// A similar or a dissimilar pair: the first image uniform over those that have such a partner,
    /// the second over its partners.
    pub(super) fn draw<R: Rng + ?Sized>(&self, similar: bool, rng: &mut R) -> Pair {
        if similar {
            let first = rng.random_range(0..self.repeated);
            let class = self.class[first].clone();
            let second = rng.random_range(class.start..class.end - 1);
            self.pair(first, second + usize::from(second >= first), similar)
        } else {
            let first = rng.random_range(0..self.images.len());
            let class = self.class[first].clone();
            let second = rng.random_range(0..self.images.len() - class.len());
            let skipped = if second >= class.start {
                class.len()
            } else {
                0
            };
            self.pair(first, second + skipped, similar)
        }
    }

    fn distinct<R: Rng + ?Sized>(&self, similar: bool, count: usize, rng: &mut R) -> Vec<Pair> {
        let places = self.images.len();
        let partners = |first: usize| match similar {
            true => first + 1..self.class[first].end,
            false => self.class[first].end..places,
        };
        let possible: usize = (0..places).map(|first| partners(first).len()).sum();
        let count = count.min(possible);
        // Drawing again what was drawn before is quick while half of the pairs are free; beyond,
        // the list of all is short enough to write out.
        if count > possible / 2 {
            let mut all: Vec<Pair> = (0..places)
                .flat_map(|first| partners(first).map(move |second| (first, second)))
                .map(|(first, second)| self.pair(first, second, similar))
                .collect();
            all.shuffle(rng);
            all.truncate(count);
            return all;
        }
        let mut seen = HashSet::with_capacity(count);
        let mut pairs = Vec::with_capacity(count);
        while pairs.len() < count {
            let pair = self.draw(similar, rng);
            let either_way = (pair.first.min(pair.second), pair.first.max(pair.second));
            if seen.insert(either_way) {
                pairs.push(pair);
            }
        }
        pairs
    }

    fn pair(&self, first: usize, second: usize, similar: bool) -> Pair {
        Pair {
            first: self.images[first],
            second: self.images[second],
            similar,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{Purpose, stream};

    /// 101 images in classes of 50, 30, 20 and 1.
    pub(in crate::samplers) fn labels() -> Vec<u32> {
        let mut labels = vec![7; 50];
        labels.extend([3; 30]);
        labels.extend([9; 20]);
        labels.push(5);
        labels
    }

    pub(in crate::samplers) fn assert_labelled_right(pairs: &[Pair], labels: &[u32]) {
        for pair in pairs {
            let similar = labels[pair.first as usize] == labels[pair.second as usize];
            assert_eq!(pair.similar, similar, "{pair:?}");
        }
    }

    pub(in crate::samplers) fn similar(pairs: &[Pair]) -> usize {
        pairs.iter().filter(|pair| pair.similar).count()
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
    fn where_there_are_too_few_pairs_each_is_used_once() {
        let mut rng = stream(1, Purpose::TestPairs, 0);
        let pairs = balanced_pairs(&[0, 0, 1, 1], 6, &mut rng).unwrap();
        assert_eq!((pairs.len(), similar(&pairs)), (5, 2));
        let pairs = balanced_pairs(&[0, 0, 1, 1], 16, &mut rng).unwrap();
        assert_eq!((pairs.len(), similar(&pairs)), (6, 2));
        assert_eq!(HashSet::<Pair>::from_iter(pairs).len(), 6);
    }
}
