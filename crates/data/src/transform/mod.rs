//! Image transforms in the manner of torchvision, from raw pixels (0..=255) to network input.

mod affine;
mod colour;
mod config;
mod erase;
mod flip;
mod resample;
mod rotation;
mod shift;
mod values;

use std::fmt::Debug;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

pub use affine::RandomAffine;
pub use colour::{RandomBrightness, RandomContrast, RandomHue, RandomSaturation};
pub use config::TransformConfig;
pub use erase::RandomErasing;
pub use flip::{RandomFlip, RandomVerticalFlip};
pub use resample::Edge;
pub use rotation::RandomRotation;
pub use shift::RandomShift;
pub use values::{Normalise, Scale};

use crate::ImageShape;

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

/// A number uniform in -`max`..`max`.
fn symmetric(max: f32, rng: &mut ChaCha8Rng) -> f32 {
    (rng.random::<f32>() * 2.0 - 1.0) * max
}

/// Width and height of a rectangle with that share of an image's area, as fractions of the image's. Its aspect
/// ratio is the image's, multiplied by 1/`stretch` to `stretch`, uniform in the logarithm, or by less where it
/// would not fit in.
fn rectangle(share: f32, stretch: f32, rng: &mut ChaCha8Rng) -> [f32; 2] {
    let stretch = symmetric(stretch.min(1.0 / share).ln(), rng).exp();
    [share * stretch, share / stretch].map(|square| square.sqrt().min(1.0))
}

#[cfg(test)]
mod test_images {
    use crate::ImageShape;

    pub const SHAPE: ImageShape = ImageShape {
        channels: 2,
        height: 3,
        width: 3,
    };

    /// Two channels, the second ten times the first.
    pub fn image() -> Vec<f32> {
        let first = (1..=9).map(|v| v as f32);
        let second = first.clone().map(|v| v * 10.0);
        first.chain(second).collect()
    }

    pub fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!((f - e).abs() < 1e-3, "at {i}: {f}, not {e}");
        }
    }
}
