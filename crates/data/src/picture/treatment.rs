//! What is done to a picture.

use std::fmt;

use serde::{Serialize, Serializer};

/// Width and height in pixels, displayed as `28x28`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize, pub usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.0, self.1)
    }
}

/// Something that was done to a picture to make it network input. Displayed, and serialised, as a part
/// of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the sentences say what the fields are")]
pub enum Treatment {
    /// Turned or mirrored by its EXIF orientation.
    TurnedByExif,
    /// Blended with white where it is transparent.
    TransparentOnWhite,
    /// Turned from colour to luminance.
    ToGrey,
    /// Inverted, so that its ink is light.
    Inverted,
    /// Left as it is, since it has the network's size.
    TakenAsIs { size: Size },
    /// Stretched, so that its background, of this grey level, is 0.
    BackgroundToZero { level: u8 },
    /// Cropped to the bounding box of its ink.
    CroppedToInk { ink: Size, picture: Size },
    /// The ink scaled, and its centre of mass put in the middle of the frame.
    CentredByMass { to: Size, frame: Size },
    /// Brightened, since scaling made its strokes faint.
    Brightened,
    /// Scaled in proportion and put in the middle of the frame.
    Letterboxed { from: Size, to: Size, frame: Size },
    /// Scaled, and the middle cut out.
    CentreCropped { from: Size, to: Size, middle: Size },
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TurnedByExif => write!(f, "turned as its EXIF orientation says"),
            Self::TransparentOnWhite => write!(f, "transparent parts laid on white"),
            Self::ToGrey => write!(f, "colours turned to grey by luminance"),
            Self::Inverted => write!(f, "inverted, since its ink is darker than its background"),
            Self::TakenAsIs { size } => write!(f, "taken as it is, {size} pixels"),
            Self::BackgroundToZero { level } => {
                write!(f, "background of grey level {level} taken to 0")
            }
            Self::CroppedToInk { ink, picture } => {
                write!(f, "cropped to the ink, {ink} of {picture} pixels")
            }
            Self::CentredByMass { to, frame } => {
                write!(f, "scaled to {to} and centred by mass in {frame}")
            }
            Self::Brightened => {
                write!(
                    f,
                    "brightened, since its strokes became thinner than a pixel"
                )
            }
            Self::Letterboxed { from, to, frame } => {
                write!(
                    f,
                    "scaled from {from} to {to} pixels and centred in {frame}"
                )
            }
            Self::CentreCropped { from, to, middle } => {
                write!(
                    f,
                    "scaled from {from} to {to} pixels, the middle {middle} taken"
                )
            }
        }
    }
}

impl Serialize for Treatment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
