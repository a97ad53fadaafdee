//! The middle of a scaled picture, as image encoders are trained on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::raster::Raster;
use super::resample::Scaling;
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
    fn of(self, from: Size, least: Size) -> Size {
        let Size(width, height) = match self {
            Self::Exact([height, width]) => Size(width, height),
            Self::Shorter(side) => {
                let (short, long) = (from.0.min(from.1), from.0.max(from.1));
                // A strip would become millions of pixels long, of which only the middle is wanted.
                let long = (side * long / short).min(MOST_SIDE);
                match from.0 < from.1 {
                    true => Size(side, long),
                    false => Size(long, side),
                }
            }
        };
        Size(width.max(least.0), height.max(least.1))
    }
}

/// Pixels of a scaled picture's longer side at most.
const MOST_SIDE: usize = 1 << 14;

/// Scales a picture and cuts `shape` from the middle.
pub(super) fn centre_crop(
    picture: Raster,
    shape: ImageShape,
    resize: Resize,
    filter: Filter,
) -> (Vec<u8>, Treatment) {
    let (from, middle) = (picture.size, shape.size());
    let to = resize.of(from, middle);
    let scaling = Scaling {
        from,
        to,
        filter,
        skip: Size((to.0 - middle.0) / 2, (to.1 - middle.1) / 2),
        keep: middle,
    };
    let cut = scaling.run(&picture.pixels, picture.channels);
    let treatment = Treatment::CentreCropped { from, to, middle };
    (cut, treatment)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is cut from a grey picture of size `from`.
    fn cut(pixels: Vec<u8>, from: Size, to: Size, resize: Resize, filter: Filter) -> Vec<u8> {
        let picture = Raster {
            pixels,
            size: from,
            channels: 1,
        };
        let shape = ImageShape {
            channels: 1,
            height: to.1,
            width: to.0,
        };
        centre_crop(picture, shape, resize, filter).0
    }

    #[test]
    fn the_middle_is_cut_from_a_picture_of_the_right_size() {
        // 3x4 with 0 to 11, from which 2x2 is cut: (3-2)/2 = 0 rows and 1 column in.
        let pixels = (0..12).collect();
        let resize = Resize::Shorter(3);
        let cut = cut(pixels, Size(4, 3), Size(2, 2), resize, Filter::Bicubic);
        assert_eq!(cut, [1, 2, 5, 6]);
    }

    #[test]
    fn the_longer_side_is_rounded_down() {
        let of = |height, width| Resize::Shorter(256).of(Size(width, height), Size(224, 224));
        assert_eq!(of(300, 420), Size(358, 256)); // 256·420/300 = 358.4
        assert_eq!(of(420, 300), Size(256, 358));
        assert_eq!(of(64, 64), Size(256, 256));
        assert_eq!(of(1, 60_000), Size(MOST_SIDE, 256));
        let exact = Resize::Exact([224, 240]).of(Size(420, 300), Size(224, 224));
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
            let half = Size(2, 2);
            let scaled = cut(
                picture.clone(),
                Size(4, 4),
                half,
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
