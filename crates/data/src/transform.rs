//! Image transforms in the manner of torchvision, from raw pixels (0..=255) to network input.

use std::fmt::Debug;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{DataError, ImageShape};

/// A change to one image, in place.
pub trait Transform: Debug + Send + Sync {
    /// Changes `image` (C, H, W), of `shape`. All randomness comes from `rng`.
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng);
}

/// Transforms one after the other.
#[derive(Debug, Default)]
pub struct Compose(Vec<Box<dyn Transform>>);

impl Compose {
    /// The chain of `transforms`, the first applied first.
    pub fn new(transforms: Vec<Box<dyn Transform>>) -> Self {
        Self(transforms)
    }
}

impl Transform for Compose {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        for transform in &self.0 {
            transform.apply(image, shape, rng);
        }
    }
}

/// Multiplies every value: 1/255 gives 0..=1; Caffe's recipe has 1/256.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale(pub f32);

impl Transform for Scale {
    fn apply(&self, image: &mut [f32], _: ImageShape, _: &mut ChaCha8Rng) {
        for value in image {
            *value *= self.0;
        }
    }
}

/// Subtracts `mean`, then divides by `std`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    /// Mean of the scaled values.
    pub mean: f32,
    /// Their standard deviation.
    pub std: f32,
}

impl Transform for Normalise {
    fn apply(&self, image: &mut [f32], _: ImageShape, _: &mut ChaCha8Rng) {
        for value in image {
            *value = (*value - self.mean) / self.std;
        }
    }
}

/// What comes in where an image is moved or turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// 0, the ground of drawings.
    #[default]
    Zero,
    /// The nearest pixel of the image, as suits photographs.
    Repeat,
}

/// Mirrors every other image, by chance, left to right.
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

/// Multiplies the image by a number uniform in 1-`max`..1+`max`; bytes stay below 256.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomBrightness {
    /// Greatest change, as a part of the brightness.
    pub max: f32,
}

impl Transform for RandomBrightness {
    fn apply(&self, image: &mut [f32], _: ImageShape, rng: &mut ChaCha8Rng) {
        let factor = 1.0 + (rng.random::<f32>() * 2.0 - 1.0) * self.max;
        for value in image {
            *value = (*value * factor).min(255.0);
        }
    }
}

/// Moves the image by whole pixels, uniform in -`max`..=`max` along each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomShift {
    /// Greatest shift, in pixels.
    pub max: u32,
    /// What comes in.
    pub edge: Edge,
}

impl Transform for RandomShift {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        let max = i64::from(self.max);
        let [right, down] = [0; 2].map(|_| rng.random_range(-max..=max));
        match self.edge {
            Edge::Zero => shift(image, shape, right, down),
            Edge::Repeat => shift_repeating(image, shape, right, down),
        }
    }
}

fn shift_repeating(image: &mut [f32], shape: ImageShape, right: i64, down: i64) {
    let source = image.to_vec();
    let nearest =
        |at: usize, shift: i64, side: usize| (at as i64 - shift).clamp(0, side as i64 - 1) as usize;
    for (row, values) in image.chunks_exact_mut(shape.width).enumerate() {
        let (plane, y) = (row / shape.height, row % shape.height);
        let from = (plane * shape.height + nearest(y, down, shape.height)) * shape.width;
        for (x, value) in values.iter_mut().enumerate() {
            *value = source[from + nearest(x, right, shape.width)];
        }
    }
}

fn shift(image: &mut [f32], shape: ImageShape, right: i64, down: i64) {
    let ImageShape { height, width, .. } = shape;
    let source = image.to_vec();
    image.fill(0.0);
    let (from_x, to_x, columns) = overlap(width, right);
    let (from_y, to_y, rows) = overlap(height, down);
    for plane in (0..image.len()).step_by(height * width) {
        for row in 0..rows {
            let from = plane + (from_y + row) * width + from_x;
            let to = plane + (to_y + row) * width + to_x;
            image[to..to + columns].copy_from_slice(&source[from..from + columns]);
        }
    }
}

/// Along an axis of `length`: where the part that stays in view starts, where it goes, how long it is.
fn overlap(length: usize, shift: i64) -> (usize, usize, usize) {
    let distance = length.min(shift.unsigned_abs() as usize);
    if shift < 0 {
        (distance, 0, length - distance)
    } else {
        (0, distance, length - distance)
    }
}

/// Turns the image about its centre, uniform in -`max`..=`max`, bilinear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomRotation {
    /// Greatest angle, in degrees.
    pub max: f32,
    /// What comes in.
    pub edge: Edge,
}

impl Transform for RandomRotation {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        let degrees = (rng.random::<f32>() * 2.0 - 1.0) * self.max;
        rotate(image, shape, degrees, self.edge);
    }
}

/// Turns counter-clockwise as seen, y pointing down.
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

/// The value at (x, y) between the pixels of `plane`, which is 0 outside.
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

/// The transforms of a run, as its configuration file has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransformConfig {
    /// Factor on the raw pixels, 0..=255.
    pub scale: f32,
    /// Subtracted from the scaled pixels.
    pub mean: f32,
    /// The result is divided by this.
    pub std: f32,
    /// Greatest random shift of a training image, in pixels; 0 for none.
    pub shift: u32,
    /// Greatest random rotation of a training image, in degrees; 0 for none.
    pub rotation: f32,
    /// What comes in where a training image is shifted or turned.
    pub edge: Edge,
    /// Whether training images are mirrored, left to right, every other time.
    pub flip: bool,
    /// Greatest random change of a training image's brightness, as a part of it; 0 for none.
    pub brightness: f32,
}

impl Default for TransformConfig {
    /// Mean and standard deviation are those of MNIST's training pixels.
    fn default() -> Self {
        Self {
            scale: 1.0 / 255.0,
            mean: 0.1307,
            std: 0.3081,
            shift: 0,
            rotation: 0.0,
            edge: Edge::Zero,
            flip: false,
            brightness: 0.0,
        }
    }
}

impl TransformConfig {
    /// Checks each setting's range.
    ///
    /// # Errors
    /// [`DataError::Setting`] for the first one out of range.
    pub fn validate(&self) -> Result<(), DataError> {
        let positive = |value: f32| value.is_finite() && value > 0.0;
        let checks = [
            (
                "scale",
                self.scale,
                positive(self.scale),
                "finite and above 0",
            ),
            ("mean", self.mean, self.mean.is_finite(), "finite"),
            ("std", self.std, positive(self.std), "finite and above 0"),
            (
                "rotation",
                self.rotation,
                (0.0..=180.0).contains(&self.rotation),
                "from 0 to 180 degrees",
            ),
            (
                "brightness",
                self.brightness,
                (0.0..=1.0).contains(&self.brightness),
                "from 0 to 1",
            ),
        ];
        match checks.into_iter().find(|(.., sound, _)| !sound) {
            None => Ok(()),
            Some((name, found, _, expected)) => Err(DataError::Setting {
                name,
                found: found.to_string(),
                expected,
            }),
        }
    }

    /// The chain for training images. It turns before it shifts, so that the centre of rotation is
    /// the digit's, and works on raw pixels, whose background is 0.
    pub fn train(&self) -> Compose {
        let mut chain: Vec<Box<dyn Transform>> = Vec::new();
        let edge = self.edge;
        if self.flip {
            chain.push(Box::new(RandomFlip));
        }
        if self.rotation > 0.0 {
            let max = self.rotation;
            chain.push(Box::new(RandomRotation { max, edge }));
        }
        if self.shift > 0 {
            let max = self.shift;
            chain.push(Box::new(RandomShift { max, edge }));
        }
        if self.brightness > 0.0 {
            let max = self.brightness;
            chain.push(Box::new(RandomBrightness { max }));
        }
        chain.extend(self.evaluation().0);
        Compose(chain)
    }

    /// The chain for all other images: scaled and normalised, nothing random.
    pub fn evaluation(&self) -> Compose {
        Compose(vec![
            Box::new(Scale(self.scale)),
            Box::new(Normalise {
                mean: self.mean,
                std: self.std,
            }),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn the_evaluation_chain_is_the_pixel_scaled_less_mean_over_std() {
        let mut pixels = [0.0, 51.0, 255.0];
        let shape = ImageShape {
            channels: 1,
            height: 1,
            width: 3,
        };
        let mut rng = stream(1, Purpose::Augmentation, 0);
        TransformConfig::default()
            .evaluation()
            .apply(&mut pixels, shape, &mut rng);
        let expected = [0.0f32, 0.2, 1.0].map(|v| (v - 0.1307) / 0.3081);
        assert_close(&pixels, &expected);
    }

    #[test]
    fn a_random_transform_that_is_off_is_not_in_the_chain() {
        let off = TransformConfig::default();
        assert_eq!(off.train().0.len(), 2);
        let on = TransformConfig {
            shift: 2,
            rotation: 10.0,
            ..off
        };
        assert_eq!(
            format!("{:?}", on.train().0),
            "[RandomRotation { max: 10.0, edge: Zero }, RandomShift { max: 2, edge: Zero }, Scale(0.003921569), \
             Normalise { mean: 0.1307, std: 0.3081 }]"
        );
        assert_eq!(on.evaluation().0.len(), 2);
    }

    #[test]
    fn a_shift_moves_every_channel_and_brings_in_background() {
        let mut pixels = image();
        shift(&mut pixels, SHAPE, 1, -1);
        assert_eq!(pixels[..9], [0., 4., 5., 0., 7., 8., 0., 0., 0.]);
        assert_eq!(pixels[9..], [0., 40., 50., 0., 70., 80., 0., 0., 0.]);
        shift(&mut pixels, SHAPE, 4, 0);
        assert_eq!(pixels, [0.0; 18]);
    }

    #[test]
    fn a_repeated_edge_brings_in_the_nearest_pixel_of_the_same_channel() {
        let mut pixels = image();
        shift_repeating(&mut pixels, SHAPE, 1, -1);
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

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let sound = TransformConfig::default();
        sound.validate().unwrap();
        type Change = fn(&mut TransformConfig);
        let wrong: [(&str, Change); 7] = [
            ("brightness", |c| c.brightness = 1.5),
            ("scale", |c| c.scale = 0.0),
            ("mean", |c| c.mean = f32::NAN),
            ("std", |c| c.std = 0.0),
            ("std", |c| c.std = f32::INFINITY),
            ("rotation", |c| c.rotation = -1.0),
            ("rotation", |c| c.rotation = f32::NAN),
        ];
        for (setting, change) in wrong {
            let mut config = sound;
            change(&mut config);
            let result = config.validate();
            assert!(
                matches!(result, Err(DataError::Setting { name, .. }) if name == setting),
                "{config:?}"
            );
        }
    }

    #[test]
    fn a_configuration_may_leave_settings_out_but_not_misspell_them() {
        let config: TransformConfig = toml::from_str("shift = 2").unwrap();
        assert_eq!(
            config,
            TransformConfig {
                shift: 2,
                ..TransformConfig::default()
            }
        );
        assert!(toml::from_str::<TransformConfig>("shfit = 2").is_err());
    }
}
