//! From bytes to what the network takes.

use rand_chacha::ChaCha8Rng;

use super::Transform;
use crate::ImageShape;

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
