//! The transforms of a run, as settings.

use serde::{Deserialize, Serialize};

use super::{
    Compose, Edge, Normalise, RandomBrightness, RandomFlip, RandomRotation, RandomShift, Scale,
    Transform,
};

/// A run's transforms, as in its configuration file. Values out of the ranges below give nonsense, not
/// errors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransformConfig {
    /// Factor on the raw pixels, 0..=255; above 0.
    pub scale: f32,
    /// Subtracted from the scaled pixels.
    pub mean: f32,
    /// The result is divided by this; above 0.
    pub std: f32,
    /// Largest random shift of a training image, in pixels; 0 for none.
    pub shift: u32,
    /// Largest random rotation of a training image, in degrees up to 180; 0 for none.
    pub rotation: f32,
    /// What fills the gap where a training image is shifted or rotated.
    pub edge: Edge,
    /// Whether training images are mirrored left to right, with probability 1/2.
    pub flip: bool,
    /// Largest random change of a training image's brightness, as a fraction of it up to 1; 0 for
    /// none.
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
    /// The chain for training images. It rotates before it shifts, so that the digit turns about its
    /// own centre, and augments raw pixels, whose background is 0.
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
    use crate::{ImageShape, Purpose, stream};

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
        for (found, expected) in std::iter::zip(pixels, expected) {
            assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
        }
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
