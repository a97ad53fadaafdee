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
            Some(Part::Validation) => *part = Part::Validation,
            _ => {}
        }
    }
}

impl Split<'_> {
    /// Gives images and classes that had a part before the same again.
    pub fn keep_parts(&mut self, given: &[Option<Part>], by: SplitBy, before: &Seen) {
        for (i, given) in given.iter().enumerate() {
            if let Some(part) = before.same(self.images, i, self.hashes[i]) {
                self.parts[i] = part;
                continue;
            }
            let class = self.images.labels()[i] as usize;
            let role = match before.class(&self.images.classes()[class]) {
                Some(Part::Train | Part::ClosedTest) => Some(Part::Train),
                role @ Some(Part::Validation | Part::Test) => role,
                _ => None,
            };
            let known = before.part(self.images, i, self.hashes[i]);
            let tested = matches!(self.parts[i], Part::Test | Part::ClosedTest);
            self.parts[i] = match (by, role, known) {
                // The folder says what is tested on, but never what was trained on.
                (SplitBy::Auto, ..) if given.is_some() || !self.options.hold_out.is_empty() => {
                    match known {
                        Some(known) if known.is_used() && tested => Part::Unused,
                        Some(known @ (Part::Train | Part::Validation)) => known,
                        _ => self.parts[i],
                    }
                }
                (SplitBy::Classes, Some(role), known) => in_class(role, known, self.parts[i]),
                (SplitBy::Classes, None, Some(Part::Train | Part::Past)) if tested => Part::Unused,
                (SplitBy::Images, _, Some(Part::Train | Part::Past)) => Part::Train,
                (SplitBy::Images, _, Some(Part::Validation)) => Part::Validation,
                (SplitBy::Images, _, Some(Part::Test | Part::ClosedTest)) => Part::Test,
                _ => self.parts[i],
            };
        }
    }
}

/// The part of an image whose class is of `role`, that had the part `known`, and would get `drawn`.
fn in_class(role: Part, known: Option<Part>, drawn: Part) -> Part {
    match (role, known) {
        (Part::Train, Some(Part::Train | Part::Past)) => Part::Train,
        (Part::Train, Some(Part::Validation)) => Part::Unused,
        (Part::Train, Some(Part::Test | Part::ClosedTest)) => Part::ClosedTest,
        (Part::Train, _) if drawn == Part::ClosedTest => Part::ClosedTest,
        (Part::Train, _) => Part::Train,
        (_, Some(Part::Train | Part::Past)) => Part::Unused,
        (Part::Test, Some(Part::Validation)) => Part::Unused,
        (role, _) => role,
    }
}
