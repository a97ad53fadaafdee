//! Shifts by whole pixels.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Edge, Transform};
use crate::ImageShape;

/// Shifts the image by whole pixels, uniform in -`max`..=`max` along each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomShift {
    /// Largest shift, in pixels.
    pub max: u32,
    /// What fills the gap.
    pub edge: Edge,
}

impl Transform for RandomShift {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        let max = i64::from(self.max);
        let [right, down] = [0; 2].map(|_| rng.random_range(-max..=max));
        shift(image, shape, right, down, self.edge);
    }
}

fn shift(image: &mut [f32], shape: ImageShape, right: i64, down: i64, edge: Edge) {
    let ImageShape { height, width, .. } = shape;
    let source = image.to_vec();
    // The place along an axis that comes to `at`, if it is in the image.
    let origin = |at: usize, shift: i64, side: usize| {
        let from = at as i64 - shift;
        let nearest = from.clamp(0, side as i64 - 1);
        (edge == Edge::Repeat || from == nearest).then_some(nearest as usize)
    };
    let columns: Vec<_> = (0..width).map(|x| origin(x, right, width)).collect();
    for (row, values) in image.chunks_exact_mut(width).enumerate() {
        let (plane, y) = (row / height, row % height);
        let from =
            origin(y, down, height).map(|y| &source[(plane * height + y) * width..][..width]);
        for (value, column) in values.iter_mut().zip(&columns) {
            *value = match (from, column) {
                (Some(row), Some(column)) => row[*column],
                _ => 0.0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::test_images::{SHAPE, image};
    use crate::{Purpose, stream};

    #[test]
    fn a_shift_moves_every_channel_and_brings_in_background() {
        let mut pixels = image();
        shift(&mut pixels, SHAPE, 1, -1, Edge::Zero);
        assert_eq!(pixels[..9], [0., 4., 5., 0., 7., 8., 0., 0., 0.]);
        assert_eq!(pixels[9..], [0., 40., 50., 0., 70., 80., 0., 0., 0.]);
        shift(&mut pixels, SHAPE, 4, 0, Edge::Zero);
        assert_eq!(pixels, [0.0; 18]);
    }

    #[test]
    fn a_repeated_edge_brings_in_the_nearest_pixel_of_the_same_channel() {
        let mut pixels = image();
        shift(&mut pixels, SHAPE, 1, -1, Edge::Repeat);
        assert_eq!(pixels[..9], [4., 4., 5., 7., 7., 8., 7., 7., 8.]);
        assert_eq!(pixels[9..], [40., 40., 50., 70., 70., 80., 70., 70., 80.]);
    }

    #[test]
    fn shifts_take_every_value_up_to_the_greatest_and_none_beyond() {
        let shape = ImageShape {
            channels: 1,
            height: 7,
            width: 7,
        };
        let mut rng = stream(1, Purpose::Augmentation, 0);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let mut pixels = [0.0; 49];
            pixels[24] = 1.0;
            RandomShift {
                max: 2,
                edge: Edge::Zero,
            }
            .apply(&mut pixels, shape, &mut rng);
            let at = pixels.iter().position(|&v| v == 1.0).unwrap();
            seen.insert((at % 7, at / 7));
        }
        let all = (1..=5).flat_map(|x| (1..=5).map(move |y| (x, y)));
        assert_eq!(seen, all.collect());
    }
}
