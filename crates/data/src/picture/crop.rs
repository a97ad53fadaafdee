//! The middle of a scaled picture, as image encoders are trained on.

use std::fmt;

use image::imageops::FilterType;
use serde::{Deserialize, Serialize};

use super::planes::resize_by;
use super::{Size, Treatment};
use crate::ImageShape;

/// How a picture is scaled before its middle is cut out; written as a list of one side or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub enum Resize {
    /// In proportion, so that its shorter side takes this many pixels.
    Shorter(usize),
    /// To this height and width, whatever its proportions.
    Exact([usize; 2]),
}

/// How a picture is scaled, with the names of Pillow, whose filters these are: each is widened where a
/// picture becomes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// A triangle.
    Bilinear,
    /// Catmull and Rom's cubic.
    Bicubic,
    /// Lanczos's, of three lobes.
    Lanczos,
}

impl From<Filter> for FilterType {
    fn from(filter: Filter) -> Self {
        match filter {
            Filter::Nearest => Self::Nearest,
            Filter::Bilinear => Self::Triangle,
            Filter::Bicubic => Self::CatmullRom,
            Filter::Lanczos => Self::Lanczos3,
        }
    }
}

impl From<Resize> for Vec<usize> {
    fn from(resize: Resize) -> Self {
        match resize {
            Resize::Shorter(side) => vec![side],
            Resize::Exact(sides) => sides.to_vec(),
        }
    }
}

impl TryFrom<Vec<usize>> for Resize {
    type Error = String;

    /// # Errors
    /// For a list of no side, or of more than two.
    fn try_from(sides: Vec<usize>) -> Result<Self, String> {
        match sides[..] {
            [side] => Ok(Self::Shorter(side)),
            [height, width] => Ok(Self::Exact([height, width])),
            _ => Err(format!(
                "{sides:?} is no way to scale: give the shorter side, or height and width"
            )),
        }
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shorter(side) => write!(f, "a shorter side of {side}"),
            Self::Exact([height, width]) => write!(f, "{height}x{width}"),
        }
    }
}

impl Resize {
    /// The size that a picture of size `from` is given, at least as large as `least`. The longer side is
    /// rounded down, as torchvision has it.
    fn of(self, from: ImageShape, least: ImageShape) -> Size {
        let Size(width, height) = match self {
            Self::Exact([height, width]) => Size(width, height),
            Self::Shorter(side) => {
                let (short, long) = (from.height.min(from.width), from.height.max(from.width));
                // A strip would become millions of pixels long, of which only the middle is wanted.
                let long = (side * long / short).min(MOST_SIDE);
                match from.width < from.height {
                    true => Size(side, long),
                    false => Size(long, side),
                }
            }
        };
        Size(width.max(least.width), height.max(least.height))
    }
}

/// Pixels of a scaled picture's longer side at most.
const MOST_SIDE: usize = 1 << 14;

/// Scales `pixels`, of shape `found`, and cuts `shape` from the middle.
pub(super) fn centre_crop(
    pixels: Vec<u8>,
    found: ImageShape,
    shape: ImageShape,
    resize: Resize,
    filter: Filter,
) -> (Vec<u8>, Treatment) {
    let to = resize.of(found, shape);
    let Size(width, height) = to;
    let (left, top) = ((width - shape.width) / 2, (height - shape.height) / 2);
    let mut cut = Vec::with_capacity(shape.values());
    for plane in pixels.chunks_exact(found.height * found.width) {
        let scaled = match to == found.size() {
            true => plane.to_vec(),
            false => resize_by(plane.to_vec(), found.size(), to, filter.into()),
        };
        for row in scaled.chunks_exact(width).skip(top).take(shape.height) {
            cut.extend_from_slice(&row[left..left + shape.width]);
        }
    }
    let treatment = Treatment::CentreCropped {
        from: found.size(),
        to,
        middle: shape.size(),
    };
    (cut, treatment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn shape(height: usize, width: usize) -> ImageShape {
        ImageShape {
            channels: 1,
            height,
            width,
        }
    }

    #[test]
    fn the_middle_is_cut_from_a_picture_of_the_right_size() {
        // 3x4 with 0 to 11, from which 2x2 is cut: (3-2)/2 = 0 rows and 1 column in.
        let pixels = (0..12).collect();
        let resize = Resize::Shorter(3);
        let (cut, _) = centre_crop(pixels, shape(3, 4), shape(2, 2), resize, Filter::Bicubic);
        assert_eq!(cut, [1, 2, 5, 6]);
    }

    #[test]
    fn the_longer_side_is_rounded_down() {
        let of = |height, width| Resize::Shorter(256).of(shape(height, width), shape(224, 224));
        assert_eq!(of(300, 420), Size(358, 256)); // 256·420/300 = 358.4
        assert_eq!(of(420, 300), Size(256, 358));
        assert_eq!(of(64, 64), Size(256, 256));
        assert_eq!(of(1, 60_000), Size(MOST_SIDE, 256));
        let exact = Resize::Exact([224, 240]).of(shape(300, 420), shape(224, 224));
        assert_eq!(exact, Size(240, 224));
    }

    /// Values of Pillow 13: `Image.fromarray(a).resize((2, 2), filter)` for a of 4x4 as below.
    #[test]
    fn pictures_are_scaled_as_pillow_scales_them() {
        let picture: Vec<u8> = [
            [0, 10, 200, 255],
            [30, 90, 160, 20],
            [70, 5, 250, 110],
            [140, 220, 15, 60],
        ]
        .concat();
        for (filter, expected) in PILLOW {
            let (scaled, _) = centre_crop(
                picture.clone(),
                shape(4, 4),
                shape(2, 2),
                Resize::Exact([2, 2]),
                filter,
            );
            let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 1;
            assert!(
                scaled.iter().zip(&expected).all(near),
                "{filter:?}: {scaled:?}, Pillow {expected:?}"
            );
        }
    }

    const PILLOW: [(Filter, [u8; 4]); 4] = [
        (Filter::Nearest, [90, 20, 220, 60]),
        (Filter::Bilinear, [56, 145, 107, 107]),
        (Filter::Bicubic, [43, 156, 111, 104]),
        (Filter::Lanczos, [40, 162, 115, 100]),
    ];
}
