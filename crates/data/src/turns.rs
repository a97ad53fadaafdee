//! Classes made of turned images.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{DataError, ImageShape, LabelledImages};

/// Which turned images make classes of their own: a class becomes [one for each turn](Self::all), so that
/// few classes become many (Santoro et al. 2016).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Turns {
    /// None: classes stay as they are.
    #[default]
    None,
    /// Left to the images: [`Both`](Self::Both) for [drawings](crate::LabelledImages::are_drawings).
    /// Whoever trains decides before images are drawn; until then none.
    Auto,
    /// Those turned by 90, 180 and 270 degrees.
    Quarter,
    /// Mirror images.
    Mirror,
    /// Both, and mirror images that are turned: the eight symmetries of a square.
    Both,
}

/// A mirror image or not, then turned counter-clockwise by quarters of a circle. The default is the image as
/// it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Turn {
    mirrored: bool,
    quarters: u8,
}

impl Turns {
    /// The image as it is, and those that make further classes.
    pub fn all(self) -> &'static [Turn] {
        const fn turn(mirrored: bool, quarters: u8) -> Turn {
            Turn { mirrored, quarters }
        }
        const ALL: [Turn; 8] = [
            turn(false, 0),
            turn(false, 1),
            turn(false, 2),
            turn(false, 3),
            turn(true, 0),
            turn(true, 1),
            turn(true, 2),
            turn(true, 3),
        ];
        const MIRROR: [Turn; 2] = [ALL[0], ALL[4]];
        match self {
            Self::None | Self::Auto => &ALL[..1],
            Self::Quarter => &ALL[..4],
            Self::Mirror => &MIRROR,
            Self::Both => &ALL,
        }
    }

    /// Any of them, each as likely as another: its number and itself.
    pub fn draw<R: Rng + ?Sized>(self, rng: &mut R) -> (u32, Turn) {
        let all = self.all();
        let number = rng.random_range(0..all.len());
        (number as u32, all[number])
    }

    /// The class that images of `class` are of with the turn of that number.
    pub(crate) fn class(self, class: u32, number: u32) -> u32 {
        class * self.classes() as u32 + number
    }

    /// So many classes of each.
    pub fn classes(self) -> usize {
        self.all().len()
    }

    /// Of `images`, those of `chosen`, which are their numbers times [`classes`](Self::classes) plus the
    /// number of a turn, each turned and of the class that it then is of.
    ///
    /// # Errors
    /// [`DataError::Setting`] if they would not keep their shape.
    ///
    /// # Panics
    /// For an image that there is not.
    pub fn turned(
        self,
        images: &LabelledImages,
        chosen: &[usize],
    ) -> Result<LabelledImages, DataError> {
        let (shape, turns) = (images.shape(), self.all());
        self.check(shape)?;
        if turns.len() == 1 {
            return Ok(images.select(chosen));
        }
        let mut pixels = Vec::with_capacity(chosen.len() * shape.values());
        let mut labels = Vec::with_capacity(chosen.len());
        for &one in chosen {
            let (image, number) = (one / turns.len(), one % turns.len());
            let from = pixels.len();
            pixels.extend_from_slice(images.image(image));
            turns[number].apply(&mut pixels[from..], shape);
            labels.push(self.class(images.labels()[image], number as u32));
        }
        let names = images.classes().iter();
        let names = names.flat_map(|name| {
            (0..turns.len()).map(move |number| match number {
                0 => name.clone(),
                _ => format!("{name}, turn {number}"),
            })
        });
        LabelledImages::new(shape, pixels, labels, names.collect())
    }

    /// # Errors
    /// [`DataError::Setting`] if images of `shape` would not keep it.
    pub(crate) fn check(self, shape: ImageShape) -> Result<(), DataError> {
        if self.needs_square() && shape.width != shape.height {
            return Err(DataError::Setting {
                name: "turns",
                found: format!("{self:?}").to_lowercase(),
                expected: format!(
                    "none or mirror for images of {}, which are not square",
                    shape.size()
                ),
            });
        }
        Ok(())
    }

    /// Whether images must be as wide as they are high, to be turned by quarters.
    pub fn needs_square(self) -> bool {
        matches!(self, Self::Quarter | Self::Both)
    }
}

impl Turn {
    /// Turns `image` (C, H, W); an odd number of quarters turns square ones only.
    pub(crate) fn apply<T: Copy>(self, image: &mut [T], shape: ImageShape) {
        let ImageShape { height, width, .. } = shape;
        if self.mirrored {
            for row in image.chunks_exact_mut(width) {
                row.reverse();
            }
        }
        for plane in image.chunks_exact_mut(height * width) {
            if self.quarters >= 2 {
                plane.reverse();
            }
            if self.quarters % 2 == 1 {
                let source = plane.to_vec();
                for (at, value) in plane.iter_mut().enumerate() {
                    let (x, y) = (at % width, at / width);
                    *value = source[x * width + width - 1 - y];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Turns; 4] = [Turns::None, Turns::Quarter, Turns::Mirror, Turns::Both];

    /// Two channels, the second ten times the first.
    fn turned(turn: Turn) -> Vec<f32> {
        let shape = ImageShape {
            channels: 2,
            height: 3,
            width: 3,
        };
        let mut image: Vec<f32> = (1..=9).map(|v| v as f32).collect();
        image.extend((1..=9).map(|v| v as f32 * 10.0));
        turn.apply(&mut image, shape);
        let (first, second) = image.split_at(9);
        assert!(first.iter().zip(second).all(|(a, b)| a * 10.0 == *b));
        first.to_vec()
    }

    #[test]
    fn the_eight_turns_are_those_of_a_square() {
        let expected = [
            [1., 2., 3., 4., 5., 6., 7., 8., 9.],
            [3., 6., 9., 2., 5., 8., 1., 4., 7.],
            [9., 8., 7., 6., 5., 4., 3., 2., 1.],
            [7., 4., 1., 8., 5., 2., 9., 6., 3.],
            [3., 2., 1., 6., 5., 4., 9., 8., 7.],
            [1., 4., 7., 2., 5., 8., 3., 6., 9.],
            [7., 8., 9., 4., 5., 6., 1., 2., 3.],
            [9., 6., 3., 8., 5., 2., 7., 4., 1.],
        ];
        let all: Vec<_> = Turns::Both.all().iter().map(|turn| turned(*turn)).collect();
        assert_eq!(all, expected);
        let of = |turns: Turns| turns.all().iter().map(|t| turned(*t)).collect::<Vec<_>>();
        assert_eq!(of(Turns::None), expected[..1]);
        assert_eq!(of(Turns::Quarter), expected[..4]);
        assert_eq!(of(Turns::Mirror), [expected[0], expected[4]]);
    }

    #[test]
    fn what_is_not_square_can_be_mirrored_but_not_turned_by_quarters() {
        let shape = ImageShape {
            channels: 1,
            height: 2,
            width: 3,
        };
        let refused = KINDS.map(|turns| turns.check(shape).is_err());
        assert_eq!(refused, [false, true, false, true]);
        let error = Turns::Quarter.check(shape).unwrap_err().to_string();
        let expected =
            "turns is quarter; it has to be none or mirror for images of 3x2, which are not square";
        assert_eq!(error, expected);
        let mut image = [1., 2., 3., 4., 5., 6.];
        Turns::Mirror.all()[1].apply(&mut image, shape);
        assert_eq!(image, [3., 2., 1., 6., 5., 4.]);
    }

    #[test]
    fn every_turn_of_a_class_is_a_class_of_its_own() {
        for (turns, count) in KINDS.into_iter().zip([1, 4, 2, 8]) {
            let turned = (0..3).flat_map(|class| (0..count).map(move |n| turns.class(class, n)));
            assert!(turned.eq(0..3 * count), "{turns:?}");
        }
    }

    #[test]
    fn turned_images_are_of_the_class_of_their_turn() {
        let shape = ImageShape {
            channels: 1,
            height: 2,
            width: 2,
        };
        let classes = ["a", "b"].map(String::from).to_vec();
        let images = LabelledImages::new(shape, (1..=8).collect(), vec![1, 0], classes).unwrap();
        // The second image as it is and turned by a quarter, the first in its mirror image turned by three.
        let turned = Turns::Both.turned(&images, &[8, 9, 7]).unwrap();
        assert_eq!(turned.labels(), [0, 1, 8 + 7]);
        assert_eq!(turned.class_counts().len(), 2 * Turns::Both.classes());
        assert_eq!(turned.classes()[8..10], ["b", "b, turn 1"]);
        let pixels: Vec<&[u8]> = (0..3).map(|i| turned.image(i)).collect();
        assert_eq!(pixels, [[5, 6, 7, 8], [6, 8, 5, 7], [4, 2, 3, 1]]);

        let as_they_are = Turns::None.turned(&images, &[1]).unwrap();
        assert_eq!(as_they_are.labels(), [0]);
        assert_eq!(as_they_are.classes(), images.classes());
        assert_eq!(as_they_are.image(0), [5, 6, 7, 8]);
        let wide = ImageShape {
            height: 1,
            width: 4,
            ..shape
        };
        let wide = LabelledImages::new(wide, vec![0; 4], vec![0], vec!["a".into()]).unwrap();
        assert!(Turns::Quarter.turned(&wide, &[0]).is_err());
    }
}
