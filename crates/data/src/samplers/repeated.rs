//! The same images at every step.

use rand::seq::SliceRandom;

use super::{Drawn, Sampler};
use crate::images::by_class;
use crate::{Purpose, Turns, stream};

/// Draws the same images at every step, to show what becomes of them.
#[derive(Debug)]
pub struct Repeated {
    labels: Vec<u32>,
    chosen: Vec<u32>,
    seed: u64,
    turns: Turns,
}

impl Repeated {
    /// A sampler of `count` of the images that have these labels, or of all if there are fewer. They are
    /// drawn from all classes evenly, and come in the order of their classes.
    pub fn new(labels: &[u32], count: usize, seed: u64) -> Self {
        let mut rng = stream(seed, Purpose::Preview, 0);
        let mut classes = by_class(labels);
        classes.shuffle(&mut rng);
        for images in &mut classes {
            images.shuffle(&mut rng);
        }
        let rounds = classes.iter().map(Vec::len).max().unwrap_or(0);
        let turn_by_turn = (0..rounds)
            .flat_map(|round| classes.iter().filter_map(move |images| images.get(round)));
        let mut chosen: Vec<u32> = turn_by_turn.copied().take(count).collect();
        chosen.sort_by_key(|&image| (labels[image as usize], image));
        Self {
            labels: labels.to_vec(),
            chosen,
            seed,
            turns: Turns::None,
        }
    }

    /// The same, each image in any of `turns`.
    pub fn with_turns(self, turns: Turns) -> Self {
        Self { turns, ..self }
    }
}

impl Sampler for Repeated {
    fn draw(&self, step: u64) -> Drawn {
        let mut rng = stream(self.seed, Purpose::Turns, step);
        let turned = |&image: &u32| {
            let (number, turn) = self.turns.draw(&mut rng);
            (turn, self.turns.class(self.labels[image as usize], number))
        };
        let (turns, labels) = self.chosen.iter().map(turned).unzip();
        Drawn {
            images: self.chosen.clone(),
            turns,
            labels,
        }
    }

    fn images(&self) -> usize {
        self.labels.len()
    }

    fn turns(&self) -> Turns {
        self.turns
    }

    fn describe(&self, images: &[u32]) -> String {
        let images: Vec<String> = images.iter().map(u32::to_string).collect();
        format!("its training images: {}", images.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samplers::pair_pool::tests::labels;

    #[test]
    fn images_are_drawn_from_all_classes_evenly_and_stay_the_same() {
        // Classes 3, 5, 7 and 9 of 30, 1, 50 and 20 images.
        let labels = labels();
        let sampler = Repeated::new(&labels, 12, 1).with_turns(Turns::Both);
        let drawn: Vec<Drawn> = (0..20).map(|step| sampler.draw(step)).collect();
        let classes = drawn[0].images.iter().map(|&image| labels[image as usize]);
        let classes: Vec<u32> = classes.collect();
        let count = |class| classes.iter().filter(|&&found| found == class).count();
        assert_eq!((count(5), classes.len()), (1, 12));
        assert!(
            [3, 7, 9]
                .iter()
                .all(|&class| (3..=4).contains(&count(class)))
        );
        assert!(classes.is_sorted());
        let mut turns = std::collections::HashSet::new();
        for step in &drawn {
            assert_eq!(step.images, drawn[0].images);
            for (at, label) in step.labels.iter().enumerate() {
                assert_eq!(label / 8, classes[at]);
                assert_eq!(step.turns[at], Turns::Both.all()[*label as usize % 8]);
                turns.insert(step.turns[at]);
            }
        }
        assert_eq!(turns.len(), 8);
        let other_seed = Repeated::new(&labels, 12, 2);
        assert_ne!(other_seed.draw(0).images, drawn[0].images);
    }

    #[test]
    fn of_too_few_images_all_are_drawn() {
        let drawn = Repeated::new(&[4, 2, 4], 7, 1).draw(0);
        assert_eq!((drawn.images, drawn.labels), (vec![1, 0, 2], vec![2, 4, 4]));
    }
}
