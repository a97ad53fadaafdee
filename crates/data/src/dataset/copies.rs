//! Copies of an image: one is never judged where another was trained on, and none counts twice.

use std::collections::HashMap;

use super::{Divided, Part};
use crate::DataError;
use crate::manifest::{Manifest, first, hex};

/// Examples that a note gives.
const EXAMPLES: usize = 3;

/// Images that were met for one reason, each with what it is a copy of.
#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn add(&mut self, copy: &str, of: &str) {
        self.0.push(format!("{copy} and {of}"));
    }

    /// The first of them in a row.
    fn examples(&self) -> String {
        first(&self.0, EXAMPLES)
    }

    /// A sentence that begins with the count and has the examples.
    fn note(&self, singular: &str, plural: &str, then: &str) -> Option<String> {
        let count = self.0.len();
        let what = if count == 1 { singular } else { plural };
        (count > 0).then(|| format!("{count} {what} ({}){then}", self.examples()))
    }
}

/// Makes copies in validation and test [`Part::Unused`] where an earlier part has the image, or the
/// same part has it already; `before` counts as trained on. Returns a note for each kind of copy.
///
/// # Errors
/// [`DataError::Images`] where nothing is left to test on.
pub fn set_aside(
    sets: &mut [Divided],
    before: Option<&Manifest>,
) -> Result<Vec<String>, DataError> {
    // By the hash of the pixels, and by that of the file: a network of another input size has seen
    // other pixels of it.
    let mut used: HashMap<&str, &str> = HashMap::new();
    for image in before.map(Manifest::images).unwrap_or_default() {
        if image.part.is_used() {
            used.insert(&image.pixels, &image.name);
            used.insert(&image.content, &image.name);
        }
    }
    used.remove("");

    let mut copies: HashMap<u64, Vec<(usize, usize)>> = HashMap::new();
    for (s, set) in sets.iter().enumerate() {
        for (i, &hash) in set.hashes.iter().enumerate() {
            copies.entry(hash).or_default().push((s, i));
        }
    }
    let mut copies: Vec<(u64, Vec<(usize, usize)>)> = copies.into_iter().collect();
    copies.sort_unstable_by_key(|(_, places)| places[0]);

    let tested = |part: Part| part >= Part::ClosedTest;
    let judged = |part: Part| part == Part::Validation || tested(part);
    let had_tests = sets
        .iter()
        .any(|set| set.parts.iter().any(|&part| tested(part)));
    let [mut across, mut within, mut trained, mut classes] = [(); 4].map(|()| Found::default());
    for (hash, places) in &copies {
        let by_content = |&(s, i): &(usize, usize)| {
            let content = sets[s].images.content(i)?;
            used.get(&*hex(content))
        };
        let earlier = used.get(&*format!("{hash:016x}"));
        let earlier = earlier.or_else(|| places.iter().find_map(by_content));
        if places.len() == 1 && earlier.is_none() {
            continue;
        }
        let name = |(s, i): (usize, usize)| sets[s].images.name(i).into_owned();
        let class = |(s, i): (usize, usize)| sets[s].images.labels()[i];
        let part = |(s, i): (usize, usize)| sets[s].parts[i];
        let mut aside = Vec::new();
        for (n, &place) in places.iter().enumerate() {
            let of = part(place);
            let elsewhere = places[..n]
                .iter()
                .find(|&&other| class(other) != class(place));
            if let (Some(&other), true) = (elsewhere, of != Part::Unused) {
                classes.add(&name(place), &name(other));
            }
            if of == Part::Train {
                let other = places[..n]
                    .iter()
                    .find(|&&other| part(other) == Part::Train);
                if let Some(&other) = other {
                    trained.add(&name(place), &name(other));
                }
            }
            if !judged(of) {
                continue;
            }
            let used_first = places.iter().find(|&&other| {
                part(other) == Part::Train || (tested(of) && part(other) == Part::Validation)
            });
            let repeated = places[..n].iter().find(|&&other| part(other) == of);
            match (used_first, earlier, repeated) {
                (Some(&other), ..) => across.add(&name(place), &name(other)),
                (None, Some(other), _) if tested(of) => across.add(&name(place), other),
                (None, _, Some(&other)) => within.add(&name(place), &name(other)),
                _ => continue,
            }
            aside.push(place);
        }
        for (s, i) in aside {
            sets[s].parts[i] = Part::Unused;
        }
    }
    let left = sets
        .iter()
        .any(|set| set.parts.iter().any(|&part| tested(part)));
    if had_tests && !left {
        let examples = across.examples();
        return Err(DataError::Images(format!(
            "nothing is left to test on: all images for it were trained on, or are copies of such \
             ({examples})"
        )));
    }
    let notes = [
        across.note(
            "image held out is a copy of one trained on, or used to choose the threshold",
            "images held out are copies of ones trained on, or used to choose the threshold",
            ": left out",
        ),
        within.note(
            "image held out is a copy of another",
            "images held out are copies of others",
            ": each counts once",
        ),
        trained.note(
            "image to train on is a copy of another",
            "images to train on are copies of others",
            "",
        ),
        classes.note(
            "image is also in another class",
            "images are also in another class",
            ": one of the two must be wrong",
        ),
    ];
    Ok(notes.into_iter().flatten().collect())
}
