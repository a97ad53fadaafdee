//! Which images a run has, and what each is used for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::picture::bytes_of;
use crate::{DataError, LabelledImages, Part};

/// The first line of a manifest.
const COLUMNS: [&str; 5] = ["part", "class", "name", "content", "pixels"];

/// Names that a list of changes gives as examples.
const EXAMPLES: usize = 3;

/// The images of a data set, each with the part it has.
///
/// It tells whether the data has changed since, and which images a network has been trained on
/// whatever they are called by now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    images: Vec<ImageRecord>,
}

/// An image of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// What it is used for.
    pub part: Part,
    /// Its class's name.
    pub class: String,
    /// Its file within the data's folder, or its number in a file of many.
    pub name: String,
    /// SHA-256 of its file in hexadecimal; empty if it shares one with others.
    pub content: String,
    /// Hash of its pixels as the network sees them, in hexadecimal.
    pub pixels: String,
}

impl ImageRecord {
    /// What makes it this image and no other.
    fn identity(&self) -> &str {
        match self.content.is_empty() {
            true => &self.pixels,
            false => &self.content,
        }
    }
}

impl Manifest {
    /// Adds `images`, whose parts and pixels' hashes are `parts` and `hashes`.
    pub(crate) fn add(&mut self, images: &LabelledImages, parts: &[Part], hashes: &[u64]) {
        let labels = images.labels().iter().enumerate();
        let rows = labels.zip(parts.iter().zip(hashes));
        self.images.extend(rows.map(|((i, &label), (&part, hash))| {
            let content = images.content(i).map(|content| hex(content));
            ImageRecord {
                part,
                class: images.classes()[label as usize].clone(),
                name: images.name(i).into_owned(),
                content: content.unwrap_or_default(),
                pixels: format!("{hash:016x}"),
            }
        }));
    }

    /// Its images.
    pub fn images(&self) -> &[ImageRecord] {
        &self.images
    }

    /// [`pixel_hash`](crate::pixel_hash)es of the images of a part that `counts`.
    pub fn pixels_of(&self, counts: impl Fn(Part) -> bool) -> HashSet<u64> {
        let images = self.images.iter().filter(|image| counts(image.part));
        let hashes = images.map(|image| u64::from_str_radix(&image.pixels, 16));
        hashes.flatten().collect()
    }

    /// As CSV: a row an image.
    ///
    /// # Errors
    /// None that a manifest can cause.
    pub fn to_csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for image in &self.images {
            writer.serialize(image)?;
        }
        writer
            .into_inner()
            .map_err(|error| error.into_error().into())
    }

    /// Reads what [`to_csv`](Self::to_csv) has written.
    ///
    /// # Errors
    /// For anything else; the text names the line.
    pub fn from_csv(text: &[u8]) -> Result<Self, csv::Error> {
        let mut reader = csv::Reader::from_reader(text);
        // Without rows, nothing else would look at it.
        if reader.headers()? != COLUMNS.as_slice() {
            let problem = format!("its first line has to be {}", COLUMNS.join(","));
            return Err(std::io::Error::other(problem).into());
        }
        let rows = reader.into_deserialize();
        let images = rows.collect::<Result<_, _>>()?;
        Ok(Self { images })
    }

    /// What is different in `now`.
    pub fn changes(&self, now: &Self) -> DataChanges {
        let of_now: HashMap<&str, &ImageRecord> =
            now.present().map(|image| (&*image.name, image)).collect();
        let before: HashMap<&str, &ImageRecord> =
            self.present().map(|image| (&*image.name, image)).collect();
        let mut changes = DataChanges::default();
        let mut new: BTreeMap<&str, Vec<&ImageRecord>> = BTreeMap::new();
        for image in now.present().rev() {
            if !before.contains_key(&*image.name) {
                new.entry(image.identity()).or_default().push(image);
            }
        }
        for old in self.present() {
            match of_now.get(&*old.name) {
                Some(image) if image.identity() != old.identity() => {
                    changes.altered.push(old.name.clone());
                }
                Some(image) if image.class != old.class => changes.reclassed.push(old.name.clone()),
                Some(_) => {}
                None => match new.get_mut(old.identity()).and_then(Vec::pop) {
                    Some(image) if image.class == old.class => {
                        changes.renamed.push(old.name.clone());
                    }
                    Some(_) => changes.reclassed.push(old.name.clone()),
                    None => changes.gone.push(old.name.clone()),
                },
            }
        }
        let new = new.into_values().flatten();
        changes.new = new.map(|image| image.name.clone()).collect();
        changes.new.sort_unstable();
        changes
    }

    /// Images that are still there.
    fn present(&self) -> impl DoubleEndedIterator<Item = &ImageRecord> {
        self.images.iter().filter(|image| image.part.is_present())
    }

    /// Remembers the images of `before` that were trained on, or that the threshold was chosen on,
    /// and no longer are.
    pub fn remember(&mut self, before: &Self) {
        let used_now = self.images.iter().filter(|image| image.part.is_used());
        let used_now: HashSet<(&str, &str)> = used_now
            .map(|image| (&*image.content, &*image.pixels))
            .collect();
        let used = before.images.iter().filter(|image| image.part.is_used());
        let gone = used.filter(|image| !used_now.contains(&(&*image.content, &*image.pixels)));
        let gone: Vec<ImageRecord> = gone
            .map(|image| ImageRecord {
                part: match image.part.is_trained() {
                    true => Part::Past,
                    false => Part::Calibrated,
                },
                ..image.clone()
            })
            .collect();
        self.images.extend(gone);
    }

    /// [`content`](ImageRecord::content)s of the images of a part that `counts`, where each has a file
    /// of its own.
    pub fn contents_of(&self, counts: impl Fn(Part) -> bool) -> HashSet<&str> {
        let images = self.images.iter().filter(|image| counts(image.part));
        let contents = images.map(|image| &*image.content);
        contents.filter(|content| !content.is_empty()).collect()
    }

    /// SHA-256 of a file, as [`ImageRecord::content`] has it.
    ///
    /// # Errors
    /// [`DataError::Read`] and [`DataError::Format`] for what is no file that can be read.
    pub fn content_of(path: &Path) -> Result<String, DataError> {
        Ok(hex(&Sha256::digest(bytes_of(path)?)))
    }

    /// Remembers a picture that the threshold was chosen on: the name and SHA-256 of its file, and the
    /// [`pixel_hash`](crate::pixel_hash) of its pixels. One that is known as used already stays as it
    /// is.
    pub fn add_calibrated(&mut self, name: String, content: String, pixels: u64) {
        let pixels = format!("{pixels:016x}");
        let mut used = self.images.iter().filter(|image| image.part.is_used());
        if used.any(|image| image.content == content && image.pixels == pixels) {
            return;
        }
        self.images.push(ImageRecord {
            part: Part::Calibrated,
            class: String::new(),
            name,
            content,
            pixels,
        });
    }
}

/// The images of a manifest by what they are, not by their names.
pub(crate) struct Seen<'a> {
    by_name: HashMap<&'a str, &'a ImageRecord>,
    by_content: HashMap<&'a str, Part>,
    by_pixels: HashMap<&'a str, Part>,
    /// The part of each class that is held out, or trained on, whole.
    by_class: HashMap<&'a str, Part>,
    /// Whether no class was both trained on and tested on, but for the closed set.
    by_classes: bool,
}

impl<'a> Seen<'a> {
    pub fn new(manifest: &'a Manifest) -> Self {
        let [mut by_content, mut by_pixels, mut by_class] = [(); 3].map(|()| HashMap::new());
        let present = manifest.present();
        let by_name = present.map(|image| (&*image.name, image)).collect();
        for image in &manifest.images {
            // Of copies, the one with most to say: once trained on, always trained on.
            let keep = |map: &mut HashMap<&'a str, Part>, key: &'a str| {
                let part = map.entry(key).or_insert(image.part);
                *part = (*part).min(image.part);
            };
            if !image.content.is_empty() {
                keep(&mut by_content, &image.content);
            }
            keep(&mut by_pixels, &image.pixels);
            if image.part.is_present() {
                keep(&mut by_class, &image.class);
            }
        }
        let mut tested = manifest
            .images
            .iter()
            .filter(|image| image.part == Part::Test);
        let by_classes = tested.all(|image| by_class.get(&*image.class) != Some(&Part::Train));
        Self {
            by_classes,
            by_name,
            by_content,
            by_pixels,
            by_class,
        }
    }

    /// The part of image `i`, of these pixels, if it has not changed, its name and class included.
    pub fn same(&self, images: &LabelledImages, i: usize, pixels: u64) -> Option<Part> {
        let record = self.by_name.get(&*images.name(i))?;
        let content = images.content(i).map(|content| hex(content));
        let class = &images.classes()[images.labels()[i] as usize];
        let same = record.content == content.unwrap_or_default()
            && record.pixels == format!("{pixels:016x}")
            && record.class == *class;
        same.then_some(record.part)
    }

    /// The part that image `i`, of these pixels, had, whatever it was called.
    pub fn part(&self, images: &LabelledImages, i: usize, pixels: u64) -> Option<Part> {
        let content = images.content(i).map(|content| hex(content));
        let by_content = content.and_then(|content| self.by_content.get(&*content));
        let by_pixels = self.by_pixels.get(&*format!("{pixels:016x}"));
        by_content.into_iter().chain(by_pixels).min().copied()
    }

    /// Whether whole classes were held out.
    pub fn by_classes(&self) -> bool {
        self.by_classes
    }

    /// The part that a class had: training if any of its images was trained on.
    pub fn class(&self, name: &str) -> Option<Part> {
        self.by_class.get(name).copied()
    }
}

/// In hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `a, b, …`: the first `most` of some names.
pub(crate) fn first(names: &[String], most: usize) -> String {
    let more = if names.len() > most { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(most)].join(", "))
}

/// How a data set differs from what it was; names of images, by what happened to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DataChanges {
    /// Not there before.
    pub new: Vec<String>,
    /// No longer there.
    pub gone: Vec<String>,
    /// Of another class, by their old names.
    pub reclassed: Vec<String>,
    /// With other content under the same name.
    pub altered: Vec<String>,
    /// Under another name in the same class, by their old names.
    pub renamed: Vec<String>,
}

impl DataChanges {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for DataChanges {
    /// `2 new (a/3.png, a/4.png), 1 in another class (b/1.png)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (&self.new, "new"),
            (&self.gone, "gone"),
            (&self.reclassed, "in another class"),
            (&self.altered, "with other content"),
            (&self.renamed, "renamed"),
        ];
        let kinds = kinds.into_iter().filter(|(names, _)| !names.is_empty());
        let kinds = kinds
            .map(|(names, kind)| format!("{} {kind} ({})", names.len(), first(names, EXAMPLES)));
        f.write_str(&kinds.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(images: &[(Part, &str, &str, &str)]) -> Manifest {
        let images = images.iter().map(|&(part, class, name, content)| {
            let [class, name, content] = [class, name, content].map(String::from);
            ImageRecord {
                part,
                class,
                name,
                pixels: format!("p{content}"),
                content,
            }
        });
        Manifest {
            images: images.collect(),
        }
    }

    #[test]
    fn every_kind_of_change_is_told_from_the_others() {
        let before = manifest(&[
            (Part::Train, "a", "a/same", "1"),
            (Part::Train, "a", "a/old name", "2"),
            (Part::Test, "a", "a/moved", "3"),
            (Part::Train, "b", "b/edited", "4"),
            (Part::Validation, "b", "b/gone", "5"),
            (Part::Past, "b", "b/long gone", "6"),
        ]);
        let now = manifest(&[
            (Part::Train, "a", "a/same", "1"),
            (Part::Train, "a", "a/new name", "2"),
            (Part::Train, "b", "b/moved", "3"),
            (Part::Train, "b", "b/edited", "40"),
            (Part::Train, "b", "b/new", "7"),
        ]);
        let changes = before.changes(&now);
        assert_eq!(
            changes.to_string(),
            "1 new (b/new), 1 gone (b/gone), 1 in another class (a/moved), 1 with other content \
             (b/edited), 1 renamed (a/old name)"
        );
        assert!(before.changes(&before).is_empty());
    }

    #[test]
    fn a_copy_of_a_file_is_new_and_not_a_change_of_the_first() {
        let before = manifest(&[(Part::Train, "a", "a/1", "1")]);
        let now = manifest(&[
            (Part::Train, "a", "a/1", "1"),
            (Part::Train, "b", "b/copy", "1"),
        ]);
        assert_eq!(before.changes(&now).to_string(), "1 new (b/copy)");
        assert_eq!(now.changes(&before).to_string(), "1 gone (b/copy)");
    }

    #[test]
    fn csv_keeps_everything() {
        let images = manifest(&[
            (Part::ClosedTest, "a, \"b\"", "a\nb", ""),
            (Part::Unused, "ü", "x", "12"),
        ]);
        let read = Manifest::from_csv(&images.to_csv().unwrap()).unwrap();
        assert_eq!(read, images);
        let error = Manifest::from_csv(b"foo").unwrap_err().to_string();
        assert!(error.contains("part,class"), "{error}");
        let error = Manifest::from_csv(b"part,class,name,content,pixels\nx,a,b,c,d\n");
        assert!(error.unwrap_err().to_string().contains("line: 2"));
    }

    #[test]
    fn what_was_trained_on_is_remembered_when_it_is_gone() {
        let first = manifest(&[
            (Part::Train, "a", "a/1", "1"),
            (Part::Test, "a", "a/2", "2"),
            (Part::Train, "a", "a/3", "3"),
        ]);
        let mut second = manifest(&[(Part::Train, "a", "a/1 renamed", "1")]);
        second.remember(&first);
        let kept = |manifest: &Manifest| {
            let past = manifest.images.iter().filter(|i| i.part == Part::Past);
            past.map(|image| image.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(kept(&second), ["a/3"]);
        let mut third = manifest(&[(Part::Train, "a", "a/9", "9")]);
        third.remember(&second);
        assert_eq!(kept(&third), ["a/1 renamed", "a/3"]);
        assert!(second.changes(&second).is_empty());
    }
}
