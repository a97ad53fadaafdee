//! Transforms that move pixels.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Transform;
use crate::ImageShape;

/// What fills the gap where an image is shifted or rotated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// 0, the background of drawings.
    #[default]
    Zero,
    /// The nearest pixel of the image, as suits photographs.
    Repeat,
}

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

/// Rotates the image about its centre by an angle uniform in -`max`..=`max`, with bilinear interpolation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomRotation {
    /// Largest angle, in degrees.
    pub max: f32,
    /// What fills the gap.
    pub edge: Edge,
}

impl Transform for RandomRotation {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        let degrees = (rng.random::<f32>() * 2.0 - 1.0) * self.max;
        rotate(image, shape, degrees, self.edge);
    }
}

/// Rotates counter-clockwise on the screen, where y points down.
fn rotate(image: &mut [f32], shape: ImageShape, degrees: f32, edge: Edge) {
    let ImageShape { height, width, .. } = shape;
    let source = image.to_vec();
    let (sin, cos) = degrees.to_radians().sin_cos();
    let [centre_x, centre_y] = [width, height].map(|side| (side as f32 - 1.0) / 2.0);
    for y in 0..height {
        for x in 0..width {
            let (right, down) = (x as f32 - centre_x, y as f32 - centre_y);
            let from_x = cos * right - sin * down + centre_x;
            let from_y = sin * right + cos * down + centre_y;
            let (from_x, from_y) = match edge {
                Edge::Zero => (from_x, from_y),
                Edge::Repeat => (
                    from_x.clamp(0.0, (width - 1) as f32),
                    from_y.clamp(0.0, (height - 1) as f32),
                ),
            };
            for plane in (0..source.len()).step_by(height * width) {
                image[plane + y * width + x] = bilinear(
                    &source[plane..plane + height * width],
                    width,
                    from_x,
                    from_y,
                );
            }
        }
    }
}

/// The interpolated value of `plane` at (x, y); it is 0 outside.
fn bilinear(plane: &[f32], width: usize, x: f32, y: f32) -> f32 {
    let height = plane.len() / width;
    // `f32::floor` is a function call on plain x86-64 and takes a third of the time.
    let floor = |value: f32| value as i32 - i32::from(value < 0.0);
    let (left, top) = (floor(x), floor(y));
    let (right_part, bottom_part) = (x - left as f32, y - top as f32);
    let at = |column: i32, row: i32| {
        // A negative index wraps to a huge one.
        let (column, row) = (column as usize, row as usize);
        if column < width && row < height {
            plane[row * width + column]
        } else {
            0.0
        }
    };
    let upper = at(left, top) * (1.0 - right_part) + at(left + 1, top) * right_part;
    let lower = at(left, top + 1) * (1.0 - right_part) + at(left + 1, top + 1) * right_part;
    upper * (1.0 - bottom_part) + lower * bottom_part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::RandomBrightness;
    use crate::{Purpose, stream};

    const SHAPE: ImageShape = ImageShape {
        channels: 2,
        height: 3,
        width: 3,
    };

    /// Two channels, the second ten times the first.
    fn image() -> Vec<f32> {
        let first = (1..=9).map(|v| v as f32);
        let second = first.clone().map(|v| v * 10.0);
        first.chain(second).collect()
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!((f - e).abs() < 1e-4, "at {i}: {f}, not {e}");
        }
    }

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
        let shape = ImageShape {
            channels: 1,
            height: 3,
            width: 3,
        };
        let mut even = [7.0; 9];
        rotate(&mut even, shape, 45.0, Edge::Repeat);
        assert_close(&even, &[7.0; 9]);
    }

    #[test]
    fn a_flip_mirrors_about_half_of_the_images_and_brightness_stays_in_its_range() {
        let mut rng = stream(1, Purpose::Augmentation, 0);
        let mirrored = [3., 2., 1., 6., 5., 4., 9., 8., 7.];
        let mut flips = 0;
        for _ in 0..1000 {
            let mut pixels = image();
            RandomFlip.apply(&mut pixels, SHAPE, &mut rng);
            if pixels != image() {
                assert_eq!(pixels[..9], mirrored);
                assert_eq!(pixels[9..], mirrored.map(|v| v * 10.0));
                flips += 1;
            }
        }
        assert!((400..600).contains(&flips), "{flips}");
        let mut factors = Vec::new();
        for _ in 0..1000 {
            let mut pixels = [100.0, 250.0];
            RandomBrightness { max: 0.2 }.apply(&mut pixels, SHAPE, &mut rng);
            assert!(pixels[1] <= 255.0);
            factors.push(pixels[0]);
        }
        factors.sort_by(f32::total_cmp);
        assert!((80.0..82.0).contains(&factors[0]), "{}", factors[0]);
        assert!((118.0..=120.0).contains(&factors[999]), "{}", factors[999]);
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

    #[test]
    fn a_quarter_turn_goes_counter_clockwise_on_every_channel() {
        let mut pixels = image();
        rotate(&mut pixels, SHAPE, 90.0, Edge::Zero);
        let turned = [3., 6., 9., 2., 5., 8., 1., 4., 7.];
        assert_close(&pixels[..9], &turned);
        assert_close(&pixels[9..], &turned.map(|v| v * 10.0));
    }

    #[test]
    fn half_a_right_angle_mixes_neighbours_and_background() {
        let shape = ImageShape {
            channels: 1,
            height: 3,
            width: 3,
        };
        let mut pixels = [1.0; 9];
        rotate(&mut pixels, shape, 45.0, Edge::Zero);
        // A corner comes from sqrt(2) right of the centre: its nearer column, weighted 2 - sqrt(2).
        let corner = 2.0 - std::f32::consts::SQRT_2;
        assert_close(
            &pixels,
            &[corner, 1., corner, 1., 1., 1., corner, 1., corner],
        );
    }

    #[test]
    fn rotations_stay_within_the_greatest_angle_and_go_both_ways() {
        let shape = ImageShape {
            channels: 1,
            height: 101,
            width: 101,
        };
        let mut rng = stream(1, Purpose::Augmentation, 0);
        let mut angles = Vec::new();
        for _ in 0..100 {
            // A bar from the centre to the right; its end shows the angle.
            let mut pixels = vec![0.0; 101 * 101];
            pixels[50 * 101 + 50..50 * 101 + 91].fill(1.0);
            RandomRotation {
                max: 20.0,
                edge: Edge::Zero,
            }
            .apply(&mut pixels, shape, &mut rng);
            let column: Vec<f32> = (0..101).map(|y| pixels[y * 101 + 85]).collect();
            let mass: f32 = column.iter().sum();
            let y = column.iter().enumerate().map(|(y, v)| y as f32 * v);
            angles.push(((50.0 - y.sum::<f32>() / mass) / 35.0).atan().to_degrees());
        }
        let least = angles.iter().copied().fold(f32::INFINITY, f32::min);
        let most = angles.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!((-20.5..-15.0).contains(&least), "{least}");
        assert!((15.0..20.5).contains(&most), "{most}");
    }
}
