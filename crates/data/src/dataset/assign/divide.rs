//! Dividing the pictures of a folder as if none had had a part before.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::LabelledImages;
use crate::dataset::steady::{Choice, choose, key};
use crate::dataset::{Part, SplitBy, SplitOptions};
use crate::images::by_class;

/// Classes of two images from which on whole classes are held out.
const A_DOZEN: usize = 12;
/// Images of a class from which on some can be held out for both validation and test.
const DIVISIBLE: usize = 6;
/// Classes that can be divided into three parts with pairs of both kinds.
const THREE_PARTS: usize = 6;
/// Classes trained on from which on others are held out to choose the threshold on.
const ENOUGH_TO_VALIDATE: usize = 10;
/// Fraction of the images of a trained class that show how good the network is on it, where others
/// are held out, and how many images a class needs for that.
const CLOSED_TEST: (f64, usize) = (0.1, 10);
/// Fraction of the classes large enough for it that give such images, and how many do at least: what is
/// tested on is not learned from, and new classes are the test that counts.
const CLOSED_CLASSES: (f64, usize) = (0.25, 8);

/// Pictures on their way to a part.
pub struct Split<'a> {
    pub images: &'a LabelledImages,
    pub hashes: &'a [u64],
    pub options: &'a SplitOptions<'a>,
    pub parts: Vec<Part>,
    /// What each class is used for; images of a class that is trained on may be held out.
    pub roles: Vec<Part>,
}

impl Split<'_> {
    /// Gives each image its part as if none had had one before.
    pub fn divide(&mut self, own_test: bool, held_out: &BTreeSet<usize>) -> SplitBy {
        if !held_out.is_empty() {
            self.hold_out_named(own_test, held_out);
            return SplitBy::Auto;
        }
        if own_test {
            self.validate_like_the_test();
            return SplitBy::Auto;
        }
        match self.by_classes() {
            true => {
                let tested = self.options.test;
                self.draw_classes(Choice::TestClasses, Part::Test, tested);
                self.draw_classes(
                    Choice::ValidationClasses,
                    Part::Validation,
                    self.options.validation,
                );
                self.follow_roles();
                self.close_test();
                SplitBy::Classes
            }
            false => {
                self.divide_images(self.options.test > 0.0);
                SplitBy::Images
            }
        }
    }

    fn by_classes(&self) -> bool {
        let sizes = self.sizes();
        match self.options.by {
            SplitBy::Images => false,
            SplitBy::Classes => true,
            SplitBy::Auto => {
                let small = sizes.iter().filter(|&&size| size < DIVISIBLE).count();
                sizes.len() >= A_DOZEN || (sizes.len() >= THREE_PARTS && 2 * small > sizes.len())
            }
        }
    }

    /// Images of each class that are of `part`.
    fn counts(&self, part: Part) -> Vec<usize> {
        let mut counts = vec![0; self.roles.len()];
        for (&label, of) in self.images.labels().iter().zip(&self.parts) {
            counts[label as usize] += usize::from(*of == part);
        }
        counts
    }

    /// Images of each class that has two or more and is trained on.
    fn sizes(&self) -> Vec<usize> {
        let sizes = self.counts(Part::Train).into_iter().zip(&self.roles);
        let trained = sizes.filter(|&(size, role)| size > 1 && *role == Part::Train);
        trained.map(|(size, _)| size).collect()
    }

    /// Tests on the classes named: on their own test images, or on all, as they are never trained on.
    fn hold_out_named(&mut self, own_test: bool, held_out: &BTreeSet<usize>) {
        for &class in held_out {
            self.roles[class] = Part::Test;
        }
        let unseen = |label: &u32| held_out.contains(&(*label as usize));
        let tested = self.counts(Part::Test);
        let enough = held_out.iter().all(|&class| tested[class] > 1);
        for (label, part) in self.images.labels().iter().zip(&mut self.parts) {
            *part = match (*part, unseen(label)) {
                (Part::Test, true) => Part::Test,
                (_, true) if own_test && enough => Part::Unused,
                (_, true) => Part::Test,
                (Part::Test, false) => Part::ClosedTest,
                (part, false) => part,
            };
        }
        if !own_test {
            self.close_test();
        }
        self.validate(true);
    }

    /// New classes are tested on: then new ones choose the threshold.
    fn validate_like_the_test(&mut self) {
        let trained = self.counts(Part::Train).into_iter();
        let mut both = trained.zip(self.counts(Part::Test));
        self.validate(both.all(|(trained, tested)| trained == 0 || tested == 0));
    }

    /// Draws validation images where there are none.
    fn validate(&mut self, tests_new_classes: bool) {
        if self.parts.contains(&Part::Validation) {
            return;
        }
        let enough = self.sizes().len() >= ENOUGH_TO_VALIDATE;
        let by_classes = match self.options.by {
            SplitBy::Images => false,
            SplitBy::Classes => true,
            SplitBy::Auto => tests_new_classes && enough,
        };
        if !by_classes {
            return self.divide_images(false);
        }
        let validation = self.options.validation;
        self.draw_classes(Choice::ValidationClasses, Part::Validation, validation);
        self.follow_roles();
    }

    /// Gives `role` to a fraction of the classes that are trained on; those of one image stay.
    fn draw_classes(&mut self, choice: Choice, role: Part, fraction: f64) {
        if fraction == 0.0 {
            return;
        }
        let sizes = self.counts(Part::Train);
        let classes: Vec<usize> = (0..sizes.len())
            .filter(|&class| sizes[class] > 1 && self.roles[class] == Part::Train)
            .collect();
        let name = |&class: &usize| self.images.classes()[class].as_bytes();
        let keys = classes
            .iter()
            .map(|c| key(self.options.seed, choice, name(c)));
        let count = classes.len();
        // Eight classes where there are forty: a threshold from two or three holds for those alone.
        let all = sizes.iter().filter(|&&size| size > 1).count();
        let least = if all >= A_DOZEN { 3 } else { 2 };
        let least = (all / 5).clamp(least, 8);
        let most = (1.5 * fraction * count as f64) as usize;
        let most = most.max(least).min(count.saturating_sub(2));
        let chosen = choose(&keys.collect::<Vec<_>>(), fraction, least.min(most), most);
        for (&class, chosen) in classes.iter().zip(chosen) {
            if chosen {
                self.roles[class] = role;
            }
        }
    }

    /// Gives images that would be trained on what their classes are used for.
    fn follow_roles(&mut self) {
        for (part, &label) in self.parts.iter_mut().zip(self.images.labels()) {
            if *part == Part::Train {
                *part = self.roles[label as usize];
            }
        }
    }

    /// Holds out a few images of the classes trained on.
    fn close_test(&mut self) {
        let (fraction, needed) = CLOSED_TEST;
        if self.options.test == 0.0 {
            return;
        }
        let mut classes = self.trained();
        classes.retain(|members| members.len() >= needed);
        let keys = classes.iter().map(|members| {
            let name = &self.images.classes()[self.images.labels()[members[0]] as usize];
            key(
                self.options.seed,
                Choice::ClosedTestClasses,
                name.as_bytes(),
            )
        });
        let keys: Vec<u64> = keys.collect();
        let (share, least) = CLOSED_CLASSES;
        let chosen = choose(&keys, share, least, keys.len());
        for (members, _) in classes
            .into_iter()
            .zip(chosen)
            .filter(|(_, chosen)| *chosen)
        {
            let most = members.len() / 5;
            self.draw(
                &members,
                Choice::ClosedTestImages,
                fraction,
                2..=most,
                Part::ClosedTest,
            );
        }
    }

    /// Holds out images of each class that is trained on: to choose the threshold, and to test.
    fn divide_images(&mut self, with_test: bool) {
        let (test, validation) = (self.options.test, self.options.validation);
        // About the fraction, at least two for a similar pair, and never all but a few.
        let upto = |count: usize, fraction: f64, keep: usize| {
            let most = (1.5 * fraction * count as f64) as usize;
            most.min(count.saturating_sub(keep)).max(2)
        };
        let least = |most: usize| (most / 3).max(2).min(most);
        for (rank, members) in self.trained().into_iter().enumerate() {
            let count = members.len();
            // Classes too small for all parts take turns.
            let (tested, validated) = match (with_test, count) {
                (_, 0..=2) => continue,
                (true, 3) => [(0, 2), (2, 0), (0, 0)][rank % 3],
                (true, 4) => [(0, 2), (2, 0)][rank % 2],
                (true, 5) => [(1, 2), (2, 1)][rank % 2],
                (false, 3) => [(0, 2), (0, 0)][rank % 2],
                (false, _) => (0, upto(count, validation, 2)),
                (true, _) => (upto(count, test, 4), 0),
            };
            let tested = match tested {
                0 => Vec::new(),
                most => self.draw(
                    &members,
                    Choice::TestImages,
                    test,
                    least(most)..=most,
                    Part::Test,
                ),
            };
            let rest: Vec<usize> = members
                .into_iter()
                .filter(|i| !tested.contains(i))
                .collect();
            let most = match (with_test, count) {
                (true, DIVISIBLE..) => upto(rest.len(), validation, 2),
                _ => validated,
            };
            let choice = Choice::ValidationImages;
            if most > 0 && validation > 0.0 {
                self.draw(
                    &rest,
                    choice,
                    validation,
                    least(most)..=most,
                    Part::Validation,
                );
            }
        }
    }

    /// The images of each class that are still to be trained on; classes in an order of their own.
    fn trained(&self) -> Vec<Vec<usize>> {
        let mut classes: Vec<(u64, Vec<usize>)> = by_class(self.images.labels())
            .into_iter()
            .map(|members| {
                let members = members.into_iter().map(|image| image as usize);
                let members = members.filter(|&i| self.parts[i] == Part::Train);
                members.collect::<Vec<usize>>()
            })
            .filter(|members| !members.is_empty())
            .map(|members| {
                let name = &self.images.classes()[self.images.labels()[members[0]] as usize];
                let key = key(self.options.seed, Choice::TestClasses, name.as_bytes());
                (key, members)
            })
            .collect();
        classes.sort();
        classes.into_iter().map(|(_, members)| members).collect()
    }

    /// Gives `part` to a fraction of `members`, and returns those.
    fn draw(
        &mut self,
        members: &[usize],
        choice: Choice,
        fraction: f64,
        bounds: RangeInclusive<usize>,
        part: Part,
    ) -> Vec<usize> {
        let keys = members.iter().map(|&i| {
            let content = self.images.content(i).map(<[u8; 32]>::as_slice);
            let pixels = self.hashes[i].to_be_bytes();
            key(self.options.seed, choice, content.unwrap_or(&pixels))
        });
        let keys: Vec<u64> = keys.collect();
        let chosen = choose(&keys, fraction, *bounds.start(), *bounds.end());
        let chosen = members.iter().zip(chosen).filter(|(_, chosen)| *chosen);
        let chosen: Vec<usize> = chosen.map(|(&i, _)| i).collect();
        for &i in &chosen {
            self.parts[i] = part;
        }
        chosen
    }
}
