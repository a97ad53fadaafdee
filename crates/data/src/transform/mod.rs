//! Image transforms in the manner of torchvision, from raw pixels (0..=255) to network input.

mod config;
mod geometry;
mod values;

use std::fmt::Debug;

use rand_chacha::ChaCha8Rng;

pub use config::TransformConfig;
pub use geometry::{Edge, RandomFlip, RandomRotation, RandomShift};
pub use values::{Normalise, RandomBrightness, Scale};

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
