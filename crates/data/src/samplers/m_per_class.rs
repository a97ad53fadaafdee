//! Drawing batches of a few classes with several images each.

use rand::Rng;

use super::{Drawn, Sampler};
use crate::images::by_class;
use crate::{DataError, Purpose, Turns, stream};

/// Draws batches for a loss over all pairs of a batch: P classes and K images of each, so that every
/// image has K − 1 similar partners.
///
/// A batch is drawn anew at each step: P of the classes, each as likely as another however many
/// images it has, then K distinct images of each. Classes with fewer than K images are never drawn,
/// so that no image is in a batch twice; [`left_out`](Sampler::left_out) counts them. The images of a
/// class are next to each other.
///
/// With [`groups`](Self::with_groups) the classes of a batch are of one group, as far as it has enough.
///
/// With [`turns`](Self::with_turns) all images of a class are turned alike, and their label is that of the
/// turned class. A batch never has two turns of one class: those of a symmetric drawing look the same.
#[derive(Debug)]
pub struct MPerClass {
    labels: Vec<u32>,
    /// The images of each class that has enough.
    classes: Vec<Vec<u32>>,
    /// The places in `classes` that each group has; none if all classes are drawn from.
    groups: Vec<Vec<usize>>,
    /// For each of `classes` the place of its group.
    group_of: Vec<usize>,
    left_out: usize,
    classes_per_batch: usize,
    images_per_class: usize,
    seed: u64,
    turns: Turns,
}

impl MPerClass {
    /// A sampler of the images that have these labels: `classes_per_batch` classes with
    /// `images_per_class` images each.
    ///
    /// # Errors
    /// [`DataError::Setting`] where a batch would have fewer than two classes or two images of each,
    /// and so lack dissimilar or similar pairs; [`DataError::Images`] where fewer classes than a batch
    /// needs have enough images.
    pub fn new(
        labels: &[u32],
        classes_per_batch: usize,
        images_per_class: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        for (name, found) in [
            ("classes a batch", classes_per_batch),
            ("images a class", images_per_class),
        ] {
            if found < 2 {
                return Err(DataError::Setting {
                    name,
                    found: found.to_string(),
                    expected: "at least 2, for dissimilar and similar pairs".into(),
                });
            }
        }
        let mut classes = by_class(labels);
        let all = classes.len();
        classes.retain(|images| images.len() >= images_per_class);
        if classes.len() < classes_per_batch {
            return Err(DataError::Images(format!(
                "{} of the {all} classes have at least {images_per_class} images; a batch needs {classes_per_batch} such classes",
                classes.len()
            )));
        }
        Ok(Self {
            left_out: all - classes.len(),
            labels: labels.to_vec(),
            groups: Vec::new(),
            group_of: Vec::new(),
            classes,
            classes_per_batch,
            images_per_class,
            seed,
            turns: Turns::None,
        })
    }

    /// The same, with batches within groups, where `groups[label]` is the group of a class.
    ///
    /// The group of a batch is that of a class drawn uniformly, so each group is drawn in proportion to its
    /// classes. One with fewer classes than a batch needs gives all of them, and the rest are drawn from
    /// all others. Where no group has two classes, batches are as without groups.
    ///
    /// # Errors
    /// [`DataError::Images`] for a class without a group.
    pub fn with_groups(self, groups: &[u32]) -> Result<Self, DataError> {
        let group = |images: &Vec<u32>| {
            let label = self.labels[images[0] as usize];
            groups.get(label as usize).copied().ok_or_else(|| {
                let count = groups.len();
                DataError::Images(format!("class {label} has no group: {count} are given"))
            })
        };
        let group_of: Vec<u32> = self.classes.iter().map(group).collect::<Result<_, _>>()?;
        let groups = by_class(&group_of);
        if groups.len() == group_of.len() {
            return Ok(self);
        }
        let places = groups.iter().enumerate();
        let mut group_of = vec![0; group_of.len()];
        for (place, class) in
            places.flat_map(|(place, group)| group.iter().map(move |c| (place, c)))
        {
            group_of[*class as usize] = place;
        }
        let wide = |group: Vec<u32>| group.into_iter().map(|class| class as usize).collect();
        Ok(Self {
            groups: groups.into_iter().map(wide).collect(),
            group_of,
            ..self
        })
    }

    /// The classes of a batch.
    fn draw_classes<R: Rng + ?Sized>(&self, rng: &mut R) -> Vec<usize> {
        let (all, wanted) = (self.classes.len(), self.classes_per_batch);
        if self.groups.is_empty() {
            return distinct(all, wanted, rng);
        }
        let group = self.group_of[rng.random_range(0..all)];
        let own = &self.groups[group];
        let of = |classes: &[usize], count, rng: &mut R| {
            let chosen = distinct(classes.len(), count, rng).into_iter();
            chosen.map(|place| classes[place]).collect::<Vec<_>>()
        };
        let mut drawn = of(own, wanted.min(own.len()), rng);
        if drawn.len() < wanted {
            let others = (0..all).filter(|class| self.group_of[*class] != group);
            drawn.extend(of(&Vec::from_iter(others), wanted - own.len(), rng));
        }
        drawn
    }

    /// The same, with a class for each of `turns`.
    pub fn with_turns(self, turns: Turns) -> Self {
        Self { turns, ..self }
    }
}

impl Sampler for MPerClass {
    fn draw(&self, step: u64) -> Drawn {
        let mut rng = stream(self.seed, Purpose::ClassBatches, step);
        let mut turning = stream(self.seed, Purpose::Turns, step);
        let size = self.classes_per_batch * self.images_per_class;
        let [mut drawn, mut labels] = [(); 2].map(|()| Vec::with_capacity(size));
        let mut turns = Vec::with_capacity(size);
        for class in self.draw_classes(&mut rng) {
            let images = &self.classes[class];
            let chosen = distinct(images.len(), self.images_per_class, &mut rng);
            drawn.extend(chosen.into_iter().map(|image| images[image]));
            let (number, turn) = self.turns.draw(&mut turning);
            let label = self.turns.class(self.labels[images[0] as usize], number);
            labels.resize(drawn.len(), label);
            turns.resize(drawn.len(), turn);
        }
        Drawn {
            images: drawn,
            turns,
            labels,
        }
    }

    fn images(&self) -> usize {
        self.labels.len()
    }

    fn left_out(&self) -> usize {
        self.left_out
    }

    fn turns(&self) -> Turns {
        self.turns
    }

    fn describe(&self, images: &[u32]) -> String {
        let images: Vec<String> = images.iter().map(u32::to_string).collect();
        format!("its training images: {}", images.join(", "))
    }
}

/// `count` different numbers below `from`, each set of them as likely as another (Floyd 1987).
fn distinct<R: Rng + ?Sized>(from: usize, count: usize, rng: &mut R) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(count);
    for last in from - count..from {
        let any = rng.random_range(0..=last);
        chosen.push(if chosen.contains(&any) { last } else { any });
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Turn;
    use std::collections::{BTreeMap, BTreeSet, HashSet};

    /// Classes of 50, 30, 20, 3 and 1 images, mixed.
    fn labels() -> Vec<u32> {
        let mut labels: Vec<u32> = (0..50)
            .flat_map(|i| {
                let sizes = [(7, 50), (3, 30), (9, 20), (5, 3), (1, 1)];
                sizes
                    .into_iter()
                    .filter(move |&(_, n)| i < n)
                    .map(|(label, _)| label)
            })
            .collect();
        labels.rotate_left(11);
        labels
    }

    #[test]
    fn a_batch_is_distinct_images_of_distinct_classes() {
        let labels = labels();
        let sampler = MPerClass::new(&labels, 3, 4, 1).unwrap();
        assert_eq!((sampler.images(), sampler.left_out()), (104, 2));
        for step in 0..200 {
            let batch = sampler.draw(step).images;
            assert_eq!(batch.len(), 12);
            assert_eq!(batch.iter().collect::<HashSet<_>>().len(), 12, "{batch:?}");
            let classes: Vec<HashSet<u32>> = batch
                .chunks(4)
                .map(|images| images.iter().map(|&image| labels[image as usize]).collect())
                .collect();
            assert!(classes.iter().all(|class| class.len() == 1), "{classes:?}");
            let distinct: HashSet<u32> = classes.into_iter().flatten().collect();
            assert_eq!(distinct.len(), 3);
            assert!(distinct.is_disjoint(&HashSet::from([5, 1])), "too small");
        }
    }

    #[test]
    fn a_step_gives_the_same_batch_whatever_was_drawn_before() {
        let one = MPerClass::new(&labels(), 2, 3, 1).unwrap();
        let other = MPerClass::new(&labels(), 2, 3, 1).unwrap();
        let forwards: Vec<_> = (0..50).map(|step| one.draw(step)).collect();
        let backwards: Vec<_> = (0..50).rev().map(|step| other.draw(step)).collect();
        assert!(forwards.iter().eq(backwards.iter().rev()));
        assert_ne!(forwards[0], forwards[1]);
        let another_seed = MPerClass::new(&labels(), 2, 3, 2).unwrap();
        assert_ne!(another_seed.draw(0), forwards[0]);
    }

    #[test]
    fn the_images_of_a_class_are_turned_alike_and_the_turn_is_part_of_their_label() {
        let plain = MPerClass::new(&labels(), 3, 4, 1).unwrap();
        let turned = MPerClass::new(&labels(), 3, 4, 1).unwrap();
        let turned = turned.with_turns(Turns::Both);
        let mut counts = [0; 8];
        for step in 0..800 {
            let (plain, turned) = (plain.draw(step), turned.draw(step));
            assert_eq!(plain.images, turned.images);
            assert_eq!(plain.turns, [Turn::default(); 12]);
            for at in 0..12 {
                // Of a batch's 12 images 4 each are of a class, and classes differ.
                let label = turned.labels[at / 4 * 4];
                assert_eq!((turned.labels[at], label / 8), (label, plain.labels[at]));
                assert_eq!(turned.turns[at], Turns::Both.all()[label as usize % 8]);
            }
            counts[turned.labels[0] as usize % 8] += 1;
        }
        // 100 each, sd 9.4.
        assert!(counts.iter().all(|n| (60..140).contains(n)), "{counts:?}");
    }

    /// Classes 0 to 9 of three images each: 0 to 5 in one group, 6 to 8 in another, 9 alone.
    fn grouped(classes_per_batch: usize) -> MPerClass {
        let labels: Vec<u32> = (0..30).map(|i| i % 10).collect();
        let groups = [4, 4, 4, 4, 4, 4, 7, 7, 7, 2];
        let sampler = MPerClass::new(&labels, classes_per_batch, 2, 1).unwrap();
        sampler.with_groups(&groups).unwrap()
    }

    #[test]
    fn the_classes_of_a_batch_are_of_one_group_drawn_by_its_size() {
        let (sampler, steps) = (grouped(3), 6000);
        let mut drawn = [0f64; 10];
        let mut groups = [0f64; 3];
        for step in 0..steps {
            let Drawn { images, labels, .. } = sampler.draw(step);
            let classes = BTreeSet::from_iter(labels);
            assert_eq!((classes.len(), images.len()), (3, 6));
            let first = classes.iter().filter(|class| **class < 6).count();
            let second = classes
                .iter()
                .filter(|class| (6..9).contains(*class))
                .count();
            // Of the class that is alone there is no other: the rest is from anywhere.
            let group = match classes.contains(&9) {
                true => 2,
                false => {
                    assert!(first == 3 || second == 3, "{classes:?}");
                    usize::from(second == 3)
                }
            };
            groups[group] += 1.0;
            classes
                .into_iter()
                .for_each(|class| drawn[class as usize] += 1.0);
        }
        let near = |found: f64, expected: f64| {
            let expected = expected * steps as f64;
            assert!(
                (found - expected).abs() <= 5.0 * expected.sqrt(),
                "{found}, not {expected}"
            );
        };
        for (found, expected) in groups.into_iter().zip([0.6, 0.3, 0.1]) {
            near(found, expected);
        }
        // In its own group's batches, and two of nine in those of the class that is alone.
        near(drawn[0], 0.6 * 3.0 / 6.0 + 0.1 * 2.0 / 9.0);
        near(drawn[8], 0.3 + 0.1 * 2.0 / 9.0);
        near(drawn[9], 0.1);
    }

    #[test]
    fn a_small_group_gives_all_its_classes() {
        let sampler = grouped(5);
        let mut small = 0;
        for step in 0..300 {
            let classes = BTreeSet::from_iter(sampler.draw(step).labels);
            assert_eq!(classes.len(), 5);
            let of_first = classes.range(..6).count();
            let of_second = classes.range(6..9).count();
            match of_first {
                5 => {}
                // All three of the second, or the one that is alone.
                _ => assert!(of_second == 3 || classes.contains(&9), "{classes:?}"),
            }
            small += usize::from(of_second == 3);
        }
        assert!(small > 50, "{small}");
        assert_eq!(grouped(10).draw(0).labels.len(), 20);
    }

    #[test]
    fn classes_that_are_all_alone_are_drawn_as_without_groups() {
        let plain = MPerClass::new(&labels(), 2, 3, 1).unwrap();
        let alone = MPerClass::new(&labels(), 2, 3, 1).unwrap();
        let alone = alone.with_groups(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        assert!((0..20).all(|step| plain.draw(step) == alone.draw(step)));
    }

    #[test]
    fn a_class_without_a_group_is_refused() {
        let sampler = MPerClass::new(&labels(), 2, 3, 1).unwrap();
        let error = sampler.with_groups(&[0; 9]).unwrap_err().to_string();
        assert!(
            error.contains("class 9 has no group: 9 are given"),
            "{error}"
        );
    }

    #[test]
    fn classes_and_images_are_drawn_evenly() {
        let labels = labels();
        let sampler = MPerClass::new(&labels, 2, 3, 1).unwrap();
        let steps = 6000;
        let mut drawn = vec![0f64; labels.len()];
        for step in 0..steps {
            for image in sampler.draw(step).images {
                drawn[image as usize] += 1.0;
            }
        }
        let sizes = BTreeMap::from([(7, 50.0), (3, 30.0), (9, 20.0), (5, 3.0)]);
        for (image, count) in drawn.into_iter().enumerate() {
            // Two of the four classes that have three images, then three of the class's.
            let expected = sizes
                .get(&labels[image])
                .map_or(0.0, |size| steps as f64 * 2.0 / 4.0 * 3.0 / size);
            assert!(
                (count - expected).abs() <= 5.0 * expected.sqrt(),
                "image {image} of class {}: {count}, not {expected}",
                labels[image]
            );
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let says = |classes, images, words: &str| {
            let error = MPerClass::new(&labels(), classes, images, 1).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        };
        says(1, 4, "classes a batch is 1");
        says(2, 1, "images a class is 1");
        says(
            4,
            4,
            "3 of the 5 classes have at least 4 images; a batch needs 4",
        );
    }
}
