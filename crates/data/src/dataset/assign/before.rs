//! Keeping the parts that images have had before.

use super::divide::Split;
use crate::LabelledImages;
use crate::dataset::{Part, SplitBy};
use crate::manifest::{Manifest, Seen};

/// Gives training images of a source with a split of its own the part that they had `before`.
pub fn keep(parts: &mut [Part], images: &LabelledImages, hashes: &[u64], before: &Manifest) {
    let before = Seen::new(before);
    for (i, part) in parts.iter_mut().enumerate() {
        if let Some(known) = before.same(images, i, hashes[i]) {
            *part = known;
            continue;
        }
        match before.part(images, i, hashes[i]) {
            Some(Part::Train | Part::Past) => *part = Part::Train,
            Some(Part::Validation | Part::Calibrated) => *part = Part::Validation,
            _ => {}
        }
    }
}

impl Split<'_> {
    /// Gives images and classes that had a part before the same again, as far as the options allow.
    pub fn keep_parts(&mut self, given: &[Option<Part>], by: SplitBy, before: &Seen) {
        let known: Vec<Option<Part>> = (0..self.parts.len())
            .map(|i| before.part(self.images, i, self.hashes[i]))
            .collect();
        let roles = self.former_roles(&known, before);
        // What is asked for now may be another way to divide.
        let as_before = self.options.hold_out.is_empty()
            && (by == SplitBy::Auto || (by == SplitBy::Classes) == before.by_classes());
        for (i, given) in given.iter().enumerate() {
            let same = before.same(self.images, i, self.hashes[i]);
            let untested = self.options.test == 0.0 && given.is_none();
            let drawn = self.parts[i];
            let role = roles[self.images.labels()[i] as usize];
            self.parts[i] = match (same, known[i]) {
                (Some(part), _) if as_before && !(untested && part >= Part::ClosedTest) => part,
                (_, known) => match by {
                    // The folder, or the user, says what is tested on, but never what was trained on.
                    SplitBy::Auto => match known {
                        Some(known) if known.is_used() && drawn >= Part::ClosedTest => Part::Unused,
                        Some(known @ (Part::Train | Part::Validation)) => known,
                        _ => drawn,
                    },
                    SplitBy::Classes => in_class(role, known, drawn),
                    SplitBy::Images => match known {
                        Some(Part::Train | Part::Past) => Part::Train,
                        Some(Part::Validation | Part::Calibrated) => Part::Validation,
                        Some(Part::Test | Part::ClosedTest) if !untested => Part::Test,
                        _ => drawn,
                    },
                },
            };
            if self.options.trained && same.is_none() {
                self.parts[i] = of_trained(self.parts[i], known[i], role, by);
            }
        }
    }

    /// What each class was used for: by its name or, for a class under another name, by its images.
    fn former_roles(&self, known: &[Option<Part>], before: &Seen) -> Vec<Option<Part>> {
        let names = self.images.classes().iter();
        let mut roles: Vec<Option<Part>> = names.map(|name| before.class(name)).collect();
        let mut of_images: Vec<Option<Part>> = vec![None; roles.len()];
        for (&label, &known) in self.images.labels().iter().zip(known) {
            let role = &mut of_images[label as usize];
            *role = role.iter().copied().chain(known).min();
        }
        for (role, of_images) in roles.iter_mut().zip(of_images) {
            *role = match role.or(of_images) {
                Some(Part::Train | Part::Past | Part::ClosedTest) => Some(Part::Train),
                Some(Part::Validation | Part::Calibrated) => Some(Part::Validation),
                Some(Part::Test) => Some(Part::Test),
                Some(Part::Unused) | None => None,
            };
        }
        roles
    }
}

/// The part of an image for a network that is trained already: it was not trained on what is new since.
/// In a split by images, it was trained on all classes that were there.
fn of_trained(part: Part, known: Option<Part>, role: Option<Part>, by: SplitBy) -> Part {
    let used = known.is_some_and(Part::is_used);
    match part {
        Part::Train | Part::Validation if !used => Part::Unused,
        Part::Test if by == SplitBy::Images && role.is_none() => Part::Unused,
        Part::ClosedTest if role.is_none() => Part::Unused,
        part => part,
    }
}

/// The part of an image whose class was of `role`, that had the part `known`, and would get `drawn`.
fn in_class(role: Option<Part>, known: Option<Part>, drawn: Part) -> Part {
    match (role, known) {
        (None, Some(known)) if known.is_used() && drawn >= Part::Validation => Part::Unused,
        (None, _) => drawn,
        (Some(Part::Train), Some(Part::Train | Part::Past)) => Part::Train,
        (Some(Part::Train), Some(Part::Validation | Part::Calibrated)) => Part::Unused,
        (Some(Part::Train), Some(Part::Test | Part::ClosedTest)) => Part::ClosedTest,
        (Some(Part::Train), _) if drawn == Part::ClosedTest => Part::ClosedTest,
        (Some(Part::Train), _) => Part::Train,
        (_, Some(Part::Train | Part::Past)) => Part::Unused,
        (Some(Part::Test), Some(Part::Validation | Part::Calibrated)) => Part::Unused,
        (Some(role), _) => role,
    }
}
