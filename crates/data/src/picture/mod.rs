//! A user's picture made to look like a training image: [decoded](decode), then [framed](Framing).

mod crop;
mod decode;
mod ink;
mod letterbox;
mod raster;
mod resample;
#[cfg(test)]
mod tests;
mod treatment;

use std::io::Read;
use std::path::Path;

use image::ImageFormat;
use sha2::{Digest, Sha256};

pub use self::crop::{Filter, Resize};
use self::decode::MOST_BYTES;
pub use self::treatment::{Size, Treatment};
use crate::{DataError, ImageShape, LabelledImages, file};

/// A picture as network input, before it is scaled and normalised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// (C, H, W), light on dark as MNIST.
    pub pixels: Vec<u8>,
    /// What was done to it, in order.
    pub treatment: Vec<Treatment>,
}

impl Picture {
    /// What was done to it, in words.
    pub fn treatment_in_words(&self) -> Vec<String> {
        self.treatment.iter().map(Treatment::to_string).collect()
    }
}

impl AsRef<Picture> for Picture {
    fn as_ref(&self) -> &Picture {
        self
    }
}

/// How a picture is fitted to the size of the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// As MNIST's makers did with drawings: light ink on 0, its bounding box scaled so that the longer
    /// side takes this many pixels, its centre of mass in the middle.
    Ink(u32),
    /// The whole picture, its sides in proportion, as large as fits and in the middle; the rest of the
    /// frame takes the median colour of the picture's border.
    Letterbox,
    /// The middle of the picture, which is scaled first: what image encoders are trained on.
    CentreCrop {
        /// How it is scaled.
        resize: Resize,
        /// By which filter.
        filter: Filter,
    },
}

impl Framing {
    /// The framing of drawings: the ink's side is the median, over `images`, of the longer side of its
    /// bounding box, 20 pixels for MNIST.
    ///
    /// Images without ink do not count; without any ink at all it is the image's shorter side.
    pub fn of_drawings(images: &LabelledImages) -> Self {
        Self::Ink(ink::ink_side(images))
    }

    /// As a model file has it: the ink's side, or none where pictures are not cropped to their ink.
    pub fn ink_side(self) -> Option<u32> {
        match self {
            Self::Ink(side) => Some(side),
            Self::Letterbox | Self::CentreCrop { .. } => None,
        }
    }
}

impl From<Option<u32>> for Framing {
    /// The inverse of [`ink_side`](Self::ink_side).
    fn from(ink_side: Option<u32>) -> Self {
        ink_side.map_or(Self::Letterbox, Self::Ink)
    }
}

/// Reads a picture file (by content, not by name) as an image of `shape`.
///
/// It is turned as its EXIF orientation says, transparent parts are laid on white, and one channel
/// takes luminance. Of an animation the first frame counts. Then it is framed.
///
/// [`Framing::Letterbox`] changes nothing else, and nothing at all in a picture of the shape's size.
/// [`Framing::CentreCrop`] changes nothing else either; a side that scaling leaves shorter than the shape's is
/// stretched to it.
///
/// [`Framing::Ink`] inverts ink that is darker than the background, which is the median of the
/// border's pixels. A picture of the shape's size is then taken as it is. In any other the background
/// goes to 0, the ink is cropped, scaled and centred, and strokes that scaling makes faint get their
/// brightness back.
///
/// # Errors
/// [`DataError::Read`] and [`DataError::Format`] for what is no file that can be read;
/// [`DataError::Picture`] for a file that gives no picture, or one that cannot be used;
/// [`DataError::Setting`] for a shape out of range.
pub fn read_picture(
    path: &Path,
    shape: ImageShape,
    framing: Framing,
) -> Result<Picture, DataError> {
    picture_from_bytes(&bytes_of(path)?, path, shape, framing)
}

/// As [`read_picture`], with SHA-256 of the file's bytes.
pub(crate) fn read_picture_hashed(
    path: &Path,
    shape: ImageShape,
    framing: Framing,
) -> Result<(Picture, [u8; 32]), DataError> {
    let bytes = bytes_of(path)?;
    let picture = picture_from_bytes(&bytes, path, shape, framing)?;
    Ok((picture, Sha256::digest(&bytes).into()))
}

/// The bytes of a picture file, no more than one may have.
pub(crate) fn bytes_of(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    file::open(path)?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .map_err(DataError::read(path))?;
    Ok(bytes)
}

/// As [`read_picture`], from a file's bytes in memory; errors call it `path`.
///
/// # Errors
/// [`DataError::Picture`] and [`DataError::Setting`] as [`read_picture`].
pub fn picture_from_bytes(
    bytes: &[u8],
    path: &Path,
    shape: ImageShape,
    framing: Framing,
) -> Result<Picture, DataError> {
    let shape = ImageShape::try_from(<[usize; 3]>::from(shape))?;
    let (decoded, turned) = decode::decode(bytes, path)?;
    let (picture, flattened) = decode::flatten(decoded, shape.channels);
    let frame = ImageShape {
        channels: picture.channels,
        ..shape
    };
    let (mut pixels, framed) = match framing {
        Framing::Letterbox => {
            let (pixels, framed) = letterbox::letterbox(picture, frame);
            (pixels, vec![framed])
        }
        Framing::CentreCrop { resize, filter } => {
            let (pixels, framed) = crop::centre_crop(picture, frame, resize, filter);
            (pixels, vec![framed])
        }
        Framing::Ink(side) => ink::frame_ink(path, picture, frame, side)?,
    };
    // A grey picture for a network that takes colours.
    if frame.channels < shape.channels {
        pixels = pixels.repeat(shape.channels);
    }
    let treatment = turned.into_iter().chain(flattened).chain(framed).collect();
    Ok(Picture { pixels, treatment })
}

/// Whether a file is named like a picture that can be read here, by its extension alone.
pub fn is_picture_name(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok_and(|format| format.reading_enabled())
}
