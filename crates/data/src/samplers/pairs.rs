//! Pairs of images.

use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::pair_pool::{Pair, PairPool};
use super::{Drawn, Sampler};
use crate::{DataError, Purpose, Turn, Turns, stream};

/// How training pairs are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// Half similar, half dissimilar. The first image is any image, the second any other of the same
    /// class or any of the other classes.
    #[default]
    Balanced,
    /// Both images any image, with replacement, as in Caffe's example: with ten classes, a tenth of
    /// the pairs are similar.
    Uniform,
    /// Neighbours in an order shuffled anew each epoch, as the article's loader makes them.
    Adjacent,
}

/// Draws pairs; the loss takes 1 for a similar pair and 0 for a dissimilar one.
///
/// With [`turns`](Self::with_turns) both images of a similar pair are turned alike. Those of a dissimilar pair
/// are turned each for itself, and of different classes before: two turns of a symmetric drawing look the same.
#[derive(Debug)]
pub struct PairSampler {
    labels: Vec<u32>,
    pool: PairPool,
    pairing: Pairing,
    pairs: usize,
    seed: u64,
    turns: Turns,
    /// The latest epoch of `Adjacent` and its order: a shuffle of 60,000 images takes as long as
    /// drawing thousands of pairs.
    epoch: Mutex<Option<(u64, Arc<[u32]>)>>,
}

impl PairSampler {
    /// A sampler of `pairs` pairs a step of the images that have these labels.
    ///
    /// - `Balanced`: the similar ones come first; of an odd number, the odd one is similar at even
    ///   steps.
    /// - `Adjacent`: step k of an epoch takes pairs k·`pairs` onwards; images left over at an epoch's
    ///   end are dropped. Where an epoch has fewer pairs than a batch, the batch is the epoch.
    ///
    /// # Errors
    /// [`DataError::Setting`] if `pairs` is 0; [`DataError::Images`] for fewer than two classes, or
    /// none with two images, save for `Uniform`, which pairs an image with itself at times.
    pub fn new(
        labels: &[u32],
        pairing: Pairing,
        pairs: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        if pairs == 0 {
            return Err(DataError::Setting {
                name: "pairs per batch",
                found: "0".into(),
                expected: "1 or more".into(),
            });
        }
        let pool = PairPool::new(labels)?;
        if pairing != Pairing::Uniform {
            pool.check_similar()?;
        }
        Ok(Self {
            labels: labels.to_vec(),
            pool,
            pairing,
            pairs,
            seed,
            turns: Turns::None,
            epoch: Mutex::new(None),
        })
    }

    /// The same, with a class for each of `turns`.
    pub fn with_turns(self, turns: Turns) -> Self {
        Self { turns, ..self }
    }

    fn balanced(&self, step: u64) -> Vec<Pair> {
        let mut rng = stream(self.seed, Purpose::Sampling, step);
        let odd_one = usize::from(step.is_multiple_of(2));
        let similar = (self.pairs + odd_one) / 2;
        (0..self.pairs)
            .map(|i| self.pool.draw(i < similar, &mut rng))
            .collect()
    }

    fn uniform(&self, step: u64) -> Vec<Pair> {
        let mut rng = stream(self.seed, Purpose::Sampling, step);
        let mut any = || rng.random_range(0..self.labels.len()) as u32;
        (0..self.pairs).map(|_| self.pair(any(), any())).collect()
    }

    fn adjacent(&self, step: u64) -> Vec<Pair> {
        let pairs = self.pairs.min(self.labels.len() / 2);
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

    /// How the images of each pair are turned.
    fn turned(&self, pairs: &[Pair], step: u64) -> Vec<[Turn; 2]> {
        let mut rng = stream(self.seed, Purpose::Turns, step);
        let turned = |pair: &Pair| {
            let (_, first) = self.turns.draw(&mut rng);
            match pair.similar {
                true => [first; 2],
                false => [first, self.turns.draw(&mut rng).1],
            }
        };
        pairs.iter().map(turned).collect()
    }

    fn pair(&self, first: u32, second: u32) -> Pair {
        Pair {
            first,
            second,
            similar: self.labels[first as usize] == self.labels[second as usize],
        }
    }
}

impl Sampler for PairSampler {
    fn draw(&self, step: u64) -> Drawn {
        let pairs = match self.pairing {
            Pairing::Balanced => self.balanced(step),
            Pairing::Uniform => self.uniform(step),
            Pairing::Adjacent => self.adjacent(step),
        };
        let firsts = pairs.iter().map(|pair| pair.first);
        let seconds = pairs.iter().map(|pair| pair.second);
        let turned = self.turned(&pairs, step);
        let sides = [0, 1].map(|side| turned.iter().map(move |turns| turns[side]));
        Drawn {
            images: firsts.chain(seconds).collect(),
            turns: sides.into_iter().flatten().collect(),
            labels: pairs.iter().map(|pair| u32::from(pair.similar)).collect(),
        }
    }

    fn images(&self) -> usize {
        self.labels.len()
    }

    fn turns(&self) -> Turns {
        self.turns
    }

    fn describe(&self, images: &[u32]) -> String {
        let (firsts, seconds) = images.split_at(images.len() / 2);
        let pairs = firsts.iter().zip(seconds);
        let pairs: Vec<String> = pairs.map(|(a, b)| format!("{a}-{b}")).collect();
        format!("its pairs of training images: {}", pairs.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::samplers::pair_pool::{balanced_pairs, tests::*};

    const KINDS: [Pairing; 3] = [Pairing::Balanced, Pairing::Uniform, Pairing::Adjacent];

    /// Draws from [`labels`].
    fn sampler(pairing: Pairing, pairs: usize, seed: u64) -> PairSampler {
        PairSampler::new(&labels(), pairing, pairs, seed).unwrap()
    }

    fn draw(sampler: &PairSampler, step: u64) -> Vec<Pair> {
        let Drawn { images, labels, .. } = sampler.draw(step);
        let (firsts, seconds) = images.split_at(labels.len());
        let sides = firsts.iter().zip(seconds);
        let pair = |((&first, &second), &label)| Pair {
            first,
            second,
            similar: label == 1,
        };
        sides.zip(&labels).map(pair).collect()
    }

    #[test]
    fn a_step_gives_the_same_pairs_whatever_was_drawn_before() {
        for pairing in KINDS {
            let one = sampler(pairing, 8, 1);
            let other = sampler(pairing, 8, 1);
            let forwards: Vec<_> = (0..50).map(|step| one.draw(step)).collect();
            let backwards: Vec<_> = (0..50).rev().map(|step| other.draw(step)).collect();
            assert!(forwards.iter().eq(backwards.iter().rev()), "{pairing:?}");
            let another_seed = sampler(pairing, 8, 2);
            assert_ne!(another_seed.draw(0), forwards[0], "{pairing:?}");
            assert_ne!(forwards[0], forwards[1], "{pairing:?}");
        }
    }

    #[test]
    fn similar_pairs_are_turned_alike_and_others_each_side_for_itself() {
        for pairing in KINDS {
            let (plain, turned) = (sampler(pairing, 16, 1), sampler(pairing, 16, 1));
            let turned = turned.with_turns(Turns::Quarter);
            let mut seen = [HashSet::new(), HashSet::new()];
            for step in 0..100 {
                let (plain, turned) = (plain.draw(step), turned.draw(step));
                assert_eq!(plain.turns, [Turn::default(); 32]);
                assert_eq!(
                    (plain.images, &plain.labels),
                    (turned.images, &turned.labels)
                );
                for (at, label) in turned.labels.into_iter().enumerate() {
                    seen[label as usize].insert([turned.turns[at], turned.turns[16 + at]]);
                }
            }
            let all = Turns::Quarter.all();
            let alike = all.iter().map(|&turn| [turn; 2]);
            assert_eq!(seen[1], alike.collect(), "{pairing:?}");
            let any = all.iter().flat_map(|&a| all.iter().map(move |&b| [a, b]));
            assert_eq!(seen[0], any.collect(), "{pairing:?}");
        }
    }

    #[test]
    fn every_kind_labels_its_pairs_by_class() {
        let labels = labels();
        for pairing in KINDS {
            let sampler = sampler(pairing, 16, 1);
            for step in 0..50 {
                let pairs = draw(&sampler, step);
                assert_eq!(pairs.len(), 16);
                assert_labelled_right(&pairs, &labels);
            }
        }
    }

    #[test]
    fn balanced_batches_are_half_similar_and_the_odd_pair_alternates() {
        let [even, odd] = [64, 7].map(|pairs| sampler(Pairing::Balanced, pairs, 1));
        for step in 0..10 {
            assert_eq!(similar(&draw(&even, step)), 32);
            let expected = if step % 2 == 0 { 4 } else { 3 };
            assert_eq!(similar(&draw(&odd, step)), expected);
        }
    }

    #[test]
    fn balanced_pairs_never_join_an_image_to_itself_and_reach_every_image_evenly() {
        let labels = labels();
        let sampler = sampler(Pairing::Balanced, 200, 1);
        let pairs: Vec<Pair> = (0..1000).flat_map(|s| draw(&sampler, s)).collect();
        assert!(pairs.iter().all(|pair| pair.first != pair.second));

        // 100,000 similar pairs over 100 images that have a partner: 1,000 each, sd 32.
        let mut firsts = vec![0; labels.len()];
        let mut seconds = vec![0; labels.len()];
        for pair in pairs.iter().filter(|pair| pair.similar) {
            firsts[pair.first as usize] += 1;
            seconds[pair.second as usize] += 1;
        }
        for counts in [firsts, seconds] {
            assert!(counts[..100].iter().all(|n| (840..1160).contains(n)));
            assert_eq!(counts[100], 0);
        }
        // 100,000 dissimilar pairs over 101 images: 990 each.
        let mut firsts = vec![0; labels.len()];
        for pair in pairs.iter().filter(|pair| !pair.similar) {
            firsts[pair.first as usize] += 1;
        }
        assert!(firsts.iter().all(|n| (830..1150).contains(n)));
    }

    #[test]
    fn uniform_pairs_are_similar_as_often_as_chance_has_it() {
        let sampler = sampler(Pairing::Uniform, 1000, 1);
        let pairs: Vec<Pair> = (0..100).flat_map(|s| draw(&sampler, s)).collect();
        // Sum of squared class shares; sd of the estimate is 0.0015.
        let expected = f64::from(50 * 50 + 30 * 30 + 20 * 20 + 1) / f64::from(101 * 101);
        let found = similar(&pairs) as f64 / pairs.len() as f64;
        assert!((found - expected).abs() < 0.008, "{found}, not {expected}");
        assert!(pairs.iter().any(|pair| pair.first == pair.second));
    }

    #[test]
    fn adjacent_batches_take_each_image_once_an_epoch_in_a_new_order() {
        let sampler = sampler(Pairing::Adjacent, 4, 1);
        // 101 images: 12 steps of 4 pairs use 96, 5 are dropped.
        let epoch = |e: u64| -> Vec<u32> {
            (e * 12..(e + 1) * 12)
                .flat_map(|step| draw(&sampler, step))
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
        let labels = [0, 0, 1, 1, 1];
        let sampler = PairSampler::new(&labels, Pairing::Adjacent, 64, 1).unwrap();
        assert_eq!(draw(&sampler, 3).len(), 2);
    }

    #[test]
    fn a_batch_of_no_pairs_is_refused() {
        for pairing in KINDS {
            let error = PairSampler::new(&labels(), pairing, 0, 1).unwrap_err();
            assert!(matches!(error, DataError::Setting { .. }), "{error}");
        }
    }

    #[test]
    fn labels_that_cannot_be_paired_are_refused() {
        let mut rng = stream(1, Purpose::TestPairs, 0);
        let mut says = |labels: &[u32], pairing: Option<Pairing>, words: &str| {
            let error = match pairing {
                Some(pairing) => PairSampler::new(labels, pairing, 2, 1).unwrap_err(),
                None => balanced_pairs(labels, 2, &mut rng).unwrap_err(),
            };
            assert!(
                matches!(&error, DataError::Images(problem) if problem.contains(words)),
                "{error:?}"
            );
        };
        for labels in [&[][..], &[4, 4, 4]] {
            for pairing in KINDS.map(Some).into_iter().chain([None]) {
                says(labels, pairing, "at least two classes");
            }
        }
        for pairing in [Some(Pairing::Balanced), Some(Pairing::Adjacent), None] {
            says(&[1, 2, 3], pairing, "none of the 3 classes has");
        }
        assert!(PairSampler::new(&[1, 2, 3], Pairing::Uniform, 2, 1).is_ok());
    }

    #[test]
    fn pairs_are_described_side_by_side() {
        let said = sampler(Pairing::Uniform, 2, 1).describe(&[1, 3, 2, 4]);
        assert_eq!(said, "its pairs of training images: 1-2, 3-4");
    }

    #[test]
    fn pairings_are_read_as_they_are_written() {
        for (pairing, name) in KINDS.into_iter().zip(["balanced", "uniform", "adjacent"]) {
            let json = serde_json::to_string(&pairing).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Pairing>(&json).unwrap(), pairing);
        }
        let error = serde_json::from_str::<Pairing>("\"random\"").unwrap_err();
        let expected = "expected one of `balanced`, `uniform`, `adjacent`";
        assert!(error.to_string().contains(expected), "{error}");
    }
}
