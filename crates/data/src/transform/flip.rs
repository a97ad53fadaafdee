//! Mirror images.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::Transform;
use crate::ImageShape;

/// Mirrors an image left to right, with probability 1/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomFlip;

impl Transform for RandomFlip {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        if rng.random::<bool>() {
            for row in image.chunks_exact_mut(shape.width) {
                row.reverse();
            }
        }
    }
}

/// Mirrors an image top to bottom, with probability 1/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomVerticalFlip;

impl Transform for RandomVerticalFlip {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        if rng.random::<bool>() {
            let ImageShape { height, width, .. } = shape;
            for plane in image.chunks_exact_mut(height * width) {
                let (upper, lower) = plane.split_at_mut(height / 2 * width);
                let lower = lower.chunks_exact_mut(width).rev();
                for (above, below) in upper.chunks_exact_mut(width).zip(lower) {
                    above.swap_with_slice(below);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::test_images::{SHAPE, image};
    use crate::{Purpose, stream};

    #[test]
    fn a_flip_mirrors_about_half_of_the_images() {
        let left_right = [3., 2., 1., 6., 5., 4., 9., 8., 7.];
        let top_bottom = [7., 8., 9., 4., 5., 6., 1., 2., 3.];
        let kinds: [(&dyn Transform, _); 2] =
            [(&RandomFlip, left_right), (&RandomVerticalFlip, top_bottom)];
        for (flip, mirrored) in kinds {
            let mut rng = stream(1, Purpose::Augmentation, 0);
            let mut flips = 0;
            for _ in 0..1000 {
                let mut pixels = image();
                flip.apply(&mut pixels, SHAPE, &mut rng);
                if pixels != image() {
                    assert_eq!(pixels[..9], mirrored);
                    assert_eq!(pixels[9..], mirrored.map(|v| v * 10.0));
                    flips += 1;
                }
            }
            assert!((400..600).contains(&flips), "{flips}");
        }
    }

    #[test]
    fn an_even_number_of_rows_is_mirrored_too() {
        let shape = ImageShape {
            channels: 2,
            height: 2,
            width: 1,
        };
        let mut rng = stream(1, Purpose::Augmentation, 0);
        let flipped = (0..20).map(|_| {
            let mut pixels = [1., 2., 3., 4.];
            RandomVerticalFlip.apply(&mut pixels, shape, &mut rng);
            pixels
        });
        let flipped = Vec::from_iter(flipped);
        assert!(flipped.contains(&[2., 1., 4., 3.]) && flipped.contains(&[1., 2., 3., 4.]));
    }
}
