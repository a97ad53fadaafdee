//! Labelled images, as bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::pixel_file::MappedPixels;
use crate::{DataError, Size};

/// Channels, height and width of an image; serialised as `[channels, height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "[usize; 3]", into = "[usize; 3]")]
pub struct ImageShape {
    /// 1 for grey, 3 for colour.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// MNIST's shape: (1, 28, 28).
    pub const MNIST: Self = Self {
        channels: 1,
        height: 28,
        width: 28,
    };

    /// Values in one image, C·H·W.
    pub fn values(self) -> usize {
        self.channels * self.height * self.width
    }

    /// Width and height.
    pub fn size(self) -> Size {
        Size(self.width, self.height)
    }
}

impl From<ImageShape> for [usize; 3] {
    fn from(shape: ImageShape) -> Self {
        [shape.channels, shape.height, shape.width]
    }
}

impl TryFrom<[usize; 3]> for ImageShape {
    type Error = DataError;

    /// # Errors
    /// [`DataError::Setting`] unless there are 1 or 3 channels and both sides are 1..=4096.
    fn try_from(found: [usize; 3]) -> Result<Self, DataError> {
        let [channels, height, width] = found;
        let side = 1..=4096;
        if !matches!(channels, 1 | 3) || !side.contains(&height) || !side.contains(&width) {
            return Err(DataError::Setting {
                name: "image shape",
                found: format!("{found:?}"),
                expected: "[channels, height, width] with 1 or 3 channels and sides from 1 to 4096"
                    .into(),
            });
        }
        Ok(Self {
            channels,
            height,
            width,
        })
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// N images of one shape, each with the number of its class.
#[derive(Clone, Debug)]
pub struct LabelledImages {
    shape: ImageShape,
    pixels: Pixels,
    labels: Vec<u32>,
    classes: Vec<String>,
    /// (N,): the place of each image in its source.
    places: Vec<u32>,
    origin: Origin,
    features: Option<Features>,
}

/// What a pretrained trunk makes of each image.
#[derive(Clone, Debug)]
struct Features {
    /// (N, F).
    values: Vec<f32>,
    dimension: usize,
}

/// Where the pixels are.
#[derive(Clone, Debug)]
enum Pixels {
    /// (N, C, H, W) in memory.
    Memory(Vec<u8>),
    /// In a file, shared with other sets of images, at the images' places.
    Mapped(MappedPixels),
}

/// What the places of images in their source are.
#[derive(Clone, Debug)]
enum Origin {
    /// Numbers in one file, called this.
    File(&'static str),
    /// Files of their own.
    Files(Arc<[ImageFile]>),
}

/// A file that holds one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Its path within the source's folder, with `/`.
    pub name: String,
    /// SHA-256 of its bytes.
    pub content: [u8; 32],
}

impl PartialEq for LabelledImages {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape
            && self.labels == other.labels
            && self.classes == other.classes
            && (0..self.len()).all(|i| self.image(i) == other.image(i))
    }
}

impl LabelledImages {
    /// Takes `pixels` (N, C, H, W), one label per image and the classes' names.
    ///
    /// # Errors
    /// [`DataError::Images`] unless `pixels` holds exactly N images of `shape` and every label is an
    /// index into `classes`.
    pub fn new(
        shape: ImageShape,
        pixels: Vec<u8>,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        if Some(pixels.len()) != shape.values().checked_mul(labels.len()) {
            return Err(DataError::Images(format!(
                "{} pixel values for {} labels; images of {shape} need {}",
                pixels.len(),
                labels.len(),
                shape.values().saturating_mul(labels.len())
            )));
        }
        if let Some(position) = labels.iter().position(|&l| l as usize >= classes.len()) {
            return Err(DataError::Images(format!(
                "label {position} is {}, but there are {} classes, numbered from 0",
                labels[position],
                classes.len()
            )));
        }
        Ok(Self {
            shape,
            pixels: Pixels::Memory(pixels),
            places: (0..).take(labels.len()).collect(),
            labels,
            classes,
            origin: Origin::File("images"),
            features: None,
        })
    }

    /// Whether these are drawings in one colour, such as signs and characters, as far as a sample of them
    /// tells: grey, and nearly two thirds of them plain background, black or white.
    pub fn are_drawings(&self) -> bool {
        const SAMPLE: usize = 1000;
        const BACKGROUND: f64 = 0.65;
        let plane = self.shape.height * self.shape.width;
        let (mut black, mut white, mut all) = (0, 0, 0);
        for image in (0..self.len()).step_by(self.len().div_ceil(SAMPLE).max(1)) {
            let mut planes = self.image(image).chunks_exact(plane);
            let first = planes.next().unwrap_or_default();
            if planes.any(|other| other != first) {
                return false;
            }
            black += first.iter().filter(|value| **value < 16).count();
            white += first.iter().filter(|value| **value > 239).count();
            all += plane;
        }
        black.max(white) as f64 > BACKGROUND * all as f64
    }

    /// All images of `file`, of `shape`, a label for each.
    pub(crate) fn mapped(
        shape: ImageShape,
        file: MappedPixels,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Self {
        Self {
            shape,
            pixels: Pixels::Mapped(file),
            places: (0..).take(labels.len()).collect(),
            labels,
            classes,
            origin: Origin::File("images"),
            features: None,
        }
    }

    /// The same, with what a pretrained trunk makes of each image, `features` (N, `dimension`): network input
    /// in place of the pixels.
    ///
    /// # Errors
    /// [`DataError::Images`] unless there are `dimension` features for each image, and at least one.
    pub fn with_features(self, features: Vec<f32>, dimension: usize) -> Result<Self, DataError> {
        if dimension == 0 || self.len().checked_mul(dimension) != Some(features.len()) {
            return Err(DataError::Images(format!(
                "{} features for {} images, {dimension} for each",
                features.len(),
                self.len()
            )));
        }
        let features = Features {
            values: features,
            dimension,
        };
        Ok(Self {
            features: Some(features),
            ..self
        })
    }

    /// The same, all from one file, called `file`.
    pub(crate) fn in_file(self, file: &'static str) -> Self {
        let origin = Origin::File(file);
        Self { origin, ..self }
    }

    /// The same, each from a file of its own: one for every place.
    pub(crate) fn in_files(self, files: Vec<ImageFile>) -> Self {
        let origin = Origin::Files(files.into());
        Self { origin, ..self }
    }

    /// Number of images, N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Shape of each image.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Pixels of image `i`, (C, H, W), 0..=255.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len), as slice indexing does.
    pub fn image(&self, i: usize) -> &[u8] {
        let values = self.shape.values();
        let (pixels, place) = match &self.pixels {
            Pixels::Memory(pixels) => (pixels.as_slice(), i),
            Pixels::Mapped(file) => (file.bytes(), self.places[i] as usize),
        };
        &pixels[place * values..(place + 1) * values]
    }

    /// What a pretrained trunk makes of image `i`, (F,); `None` without one.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn features(&self, i: usize) -> Option<&[f32]> {
        let Features { values, dimension } = self.features.as_ref()?;
        Some(&values[i * dimension..(i + 1) * dimension])
    }

    /// Features of each image, F; `None` where pixels are network input.
    pub fn feature_dimension(&self) -> Option<usize> {
        self.features.as_ref().map(|features| features.dimension)
    }

    /// Pixels of all images, (N, C, H, W); copied where they are not in memory.
    pub fn pixels(&self) -> Cow<'_, [u8]> {
        match &self.pixels {
            Pixels::Memory(pixels) => pixels.into(),
            Pixels::Mapped(_) => (0..self.len())
                .flat_map(|i| self.image(i))
                .copied()
                .collect(),
        }
    }

    /// Each image's class, an index into [`classes`](Self::classes).
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The classes' names.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Where image `i` comes from: its file's path within the source's folder, or its number in the
    /// source's file, as `train/17`.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn name(&self, i: usize) -> Cow<'_, str> {
        let place = self.places[i];
        match &self.origin {
            Origin::File(file) => format!("{file}/{place}").into(),
            Origin::Files(files) => (&files[place as usize].name).into(),
        }
    }

    /// SHA-256 of image `i`'s file; `None` if it shares one with others.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn content(&self, i: usize) -> Option<&[u8; 32]> {
        match &self.origin {
            Origin::File(_) => None,
            Origin::Files(files) => Some(&files[self.places[i] as usize].content),
        }
    }

    /// (N,): the [`pixel_hash`] of each image.
    pub fn pixel_hashes(&self) -> Vec<u64> {
        let hash = |i| pixel_hash(self.image(i));
        (0..self.len()).into_par_iter().map(hash).collect()
    }

    /// The group of each class: the same number for classes whose names start with the same `GROUP/`. A
    /// class without one is alone in its group.
    pub fn groups(&self) -> Vec<u32> {
        let mut numbers = HashMap::new();
        let mut group = |class: &String| {
            let name = match class.split_once('/') {
                Some((group, _)) => group.to_string(),
                // No group has a slash in its name.
                None => format!("/{class}"),
            };
            let next = numbers.len() as u32;
            *numbers.entry(name).or_insert(next)
        };
        self.classes.iter().map(&mut group).collect()
    }

    /// Images of each class.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        counts
    }

    /// The images at `indices`, in that order, with all classes kept: a copy where they are in
    /// memory, a view of the same file where they are in one.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn select(&self, indices: &[usize]) -> Self {
        let pixels = match &self.pixels {
            Pixels::Memory(_) => {
                let mut pixels = Vec::with_capacity(indices.len() * self.shape.values());
                for &i in indices {
                    pixels.extend_from_slice(self.image(i));
                }
                Pixels::Memory(pixels)
            }
            Pixels::Mapped(file) => Pixels::Mapped(file.clone()),
        };
        let rows = |dimension| Features {
            values: indices
                .iter()
                .flat_map(|&i| self.features(i).unwrap_or_default())
                .copied()
                .collect(),
            dimension,
        };
        Self {
            features: self.feature_dimension().map(rows),
            shape: self.shape,
            pixels,
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            classes: self.classes.clone(),
            places: indices.iter().map(|&i| self.places[i]).collect(),
            origin: self.origin.clone(),
        }
    }

    /// These images, then `more`, which are other images of the same source.
    #[must_use]
    pub fn and(&self, more: &Self) -> Self {
        let pixels = match (&self.pixels, &more.pixels) {
            (Pixels::Mapped(file), Pixels::Mapped(_)) => Pixels::Mapped(file.clone()),
            _ => Pixels::Memory([self.pixels(), more.pixels()].concat()),
        };
        let features = self.features.as_ref().zip(more.features.as_ref());
        Self {
            pixels,
            labels: [&self.labels[..], &more.labels].concat(),
            places: [&self.places[..], &more.places].concat(),
            features: features.map(|(first, second)| Features {
                values: [&first.values[..], &second.values].concat(),
                dimension: first.dimension,
            }),
            shape: self.shape,
            classes: self.classes.clone(),
            origin: self.origin.clone(),
        }
    }
}

/// A hash of an image's pixels, equal where all pixels are equal.
pub fn pixel_hash(pixels: &[u8]) -> u64 {
    first_8(&Sha256::digest(pixels))
}

/// A hash's first eight bytes, as a number.
pub(crate) fn first_8(hash: &[u8]) -> u64 {
    let bytes = hash.iter().take(8);
    bytes.fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The images of each class that has any, in ascending order, classes in ascending order of their
/// labels.
pub(crate) fn by_class(labels: &[u32]) -> Vec<Vec<u32>> {
    let mut classes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (image, &label) in (0..=u32::MAX).zip(labels) {
        classes.entry(label).or_default().push(image);
    }
    classes.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape {
        channels: 1,
        height: 1,
        width: 2,
    };

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| i.to_string()).collect()
    }

    #[test]
    fn a_selection_keeps_order_and_labels() {
        let images =
            LabelledImages::new(SHAPE, vec![0, 1, 2, 3, 4, 5], vec![2, 0, 1], names(4)).unwrap();
        let selected = images.select(&[2, 0, 2]);
        assert_eq!(*selected.pixels(), [4, 5, 0, 1, 4, 5]);
        assert_eq!(selected.labels(), [1, 2, 1]);
        assert_eq!(selected.image(1), [0, 1]);
        assert_eq!(selected.class_counts(), [0, 2, 1, 0]);
    }

    #[test]
    fn features_go_with_their_images() {
        let images = LabelledImages::new(SHAPE, vec![0; 6], vec![0; 3], names(1)).unwrap();
        assert_eq!(images.features(0), None);
        let error = images.clone().with_features(vec![0.0; 5], 2).unwrap_err();
        assert_eq!(error.to_string(), "5 features for 3 images, 2 for each");
        let images = images
            .with_features(vec![0.0, 0.1, 1.0, 1.1, 2.0, 2.1], 2)
            .unwrap();
        let selected = images.select(&[2, 0]);
        assert_eq!(selected.feature_dimension(), Some(2));
        assert_eq!(selected.features(0), Some(&[2.0, 2.1][..]));
        assert_eq!(selected.features(1), Some(&[0.0, 0.1][..]));
    }

    #[test]
    fn pixels_must_fill_exactly_one_image_per_label() {
        for pixels in [3, 5, 6] {
            let result = LabelledImages::new(SHAPE, vec![0; pixels], vec![0, 0], names(1));
            let error = result.unwrap_err().to_string();
            let expected = format!("{pixels} pixel values for 2 labels");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_group_is_the_first_part_of_a_name_and_a_class_without_one_is_alone() {
        let classes = [
            "Greek/alpha",
            "Greek/beta/2",
            "Latin/a",
            "Greek",
            "Latin",
            "Latin/b",
        ];
        let classes = classes.map(String::from).to_vec();
        let images = LabelledImages::new(SHAPE, Vec::new(), Vec::new(), classes).unwrap();
        assert_eq!(images.groups(), [0, 0, 1, 2, 3, 1]);
    }

    #[test]
    fn a_label_must_have_a_class() {
        let result = LabelledImages::new(SHAPE, vec![0; 4], vec![1, 2], names(2));
        assert_eq!(
            result.unwrap_err().to_string(),
            "label 1 is 2, but there are 2 classes, numbered from 0"
        );
    }

    #[test]
    fn a_shape_is_written_as_three_numbers_and_checked_when_read() {
        assert_eq!(
            serde_json::to_string(&ImageShape::MNIST).unwrap(),
            "[1,28,28]"
        );
        let read: ImageShape = serde_json::from_str("[1,28,28]").unwrap();
        assert_eq!(read, ImageShape::MNIST);
        for wrong in ["[2,28,28]", "[1,0,28]", "[1,28,4097]", "[28,28]"] {
            assert!(
                serde_json::from_str::<ImageShape>(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
