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
/// With [`turns`](Self::with_turns) all images of a class are turned alike, and their label is that of the
/// turned class. A batch never has two turns of one class: those of a symmetric drawing look the same.
#[derive(Debug)]
pub struct MPerClass {
    labels: Vec<u32>,
    /// The images of each class that has enough.
    classes: Vec<Vec<u32>>,
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
            classes,
            classes_per_batch,
            images_per_class,
            seed,
            turns: Turns::None,
        })
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
        for class in distinct(self.classes.len(), self.classes_per_batch, &mut rng) {
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
    use std::collections::{BTreeMap, HashSet};

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
