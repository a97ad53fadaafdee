//! The transforms of a run, as settings.

use serde::{Deserialize, Serialize};

use super::{
    Compose, Edge, Normalise, RandomAffine, RandomBrightness, RandomContrast, RandomErasing,
    RandomFlip, RandomHue, RandomRotation, RandomSaturation, RandomShift, RandomVerticalFlip,
    Scale, Transform,
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
    /// Largest random change of a training image's size, as a fraction; 0 for none. See [`RandomAffine`],
    /// as for the next two.
    pub zoom: f32,
    /// Largest random shear of a training image, in degrees up to 45; 0 for none.
    pub shear: f32,
    /// Largest share of a training image's area, below 1, that a random crop cuts away; 0 for none.
    pub crop: f32,
    /// What fills the gap where a training image is moved.
    pub edge: Edge,
    /// Whether training images are mirrored left to right, with probability 1/2.
    pub flip: bool,
    /// Whether training images are mirrored top to bottom, with probability 1/2.
    pub flip_vertical: bool,
    /// Largest random change of a training image's brightness, as a fraction of it up to 1; 0 for
    /// none.
    pub brightness: f32,
    /// Largest random change of its contrast, likewise.
    pub contrast: f32,
    /// Largest random change of its saturation, likewise.
    pub saturation: f32,
    /// Largest random turn of its hues, as a fraction of the colour wheel up to 1/2; 0 for none.
    pub hue: f32,
    /// Largest share of its area that is [erased](RandomErasing), up to 1; 0 for none.
    pub erase: f32,
}

/// A transform of that strength.
type Make = fn(f32) -> Box<dyn Transform>;

impl Default for TransformConfig {
    /// Mean and standard deviation are those of MNIST's training pixels.
    fn default() -> Self {
        Self {
            scale: 1.0 / 255.0,
            mean: 0.1307,
            std: 0.3081,
            shift: 0,
            rotation: 0.0,
            zoom: 0.0,
            shear: 0.0,
            crop: 0.0,
            edge: Edge::Zero,
            flip: false,
            flip_vertical: false,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue: 0.0,
            erase: 0.0,
        }
    }
}

impl TransformConfig {
    /// The chain for training images. It rotates before it shifts, so that the digit turns about its
    /// own centre, and augments raw pixels, whose background is 0. Transforms that are off are not in it.
    pub fn train(&self) -> Compose {
        let mut chain: Vec<Box<dyn Transform>> = Vec::new();
        if self.flip {
            chain.push(Box::new(RandomFlip));
        }
        if self.flip_vertical {
            chain.push(Box::new(RandomVerticalFlip));
        }
        chain.extend(self.resampling());
        if self.shift > 0 {
            let (max, edge) = (self.shift, self.edge);
            chain.push(Box::new(RandomShift { max, edge }));
        }
        chain.extend(self.colouring());
        if self.erase > 0.0 {
            let max = self.erase;
            chain.push(Box::new(RandomErasing { max }));
        }
        chain.extend(self.evaluation().0);
        Compose(chain)
    }

    /// What interpolates between pixels: one transform, since each of them blurs.
    fn resampling(&self) -> Option<Box<dyn Transform>> {
        let Self {
            rotation,
            zoom,
            shear,
            crop,
            edge,
            ..
        } = *self;
        if zoom > 0.0 || shear > 0.0 || crop > 0.0 {
            return Some(Box::new(RandomAffine {
                rotation,
                zoom,
                shear,
                crop,
                edge,
            }));
        }
        // Runs of versions that had no other have this one's random numbers.
        let max = rotation;
        (rotation > 0.0).then(|| Box::new(RandomRotation { max, edge }) as _)
    }

    fn colouring(&self) -> impl Iterator<Item = Box<dyn Transform>> {
        let kinds: [(f32, Make); 4] = [
            (self.brightness, |max| Box::new(RandomBrightness { max })),
            (self.contrast, |max| Box::new(RandomContrast { max })),
            (self.saturation, |max| Box::new(RandomSaturation { max })),
            (self.hue, |max| Box::new(RandomHue { max })),
        ];
        let on = kinds.into_iter().filter(|(max, _)| *max > 0.0);
        on.map(|(max, transform)| transform(max))
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

    /// The pixels that the [evaluation](Self::evaluation) chain makes `input` of, rounded to bytes.
    pub fn pixels(&self, input: &[f32]) -> Vec<u8> {
        let pixel = |value: &f32| (value * self.std + self.mean) / self.scale;
        // A cast keeps to the range of bytes.
        let pixels = input.iter().map(|value| pixel(value).round() as u8);
        pixels.collect()
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
    fn network_input_is_made_pixels_again() {
        let shape = ImageShape {
            channels: 1,
            height: 16,
            width: 16,
        };
        let caffe = TransformConfig {
            scale: 1.0 / 256.0,
            mean: 0.0,
            std: 1.0,
            ..TransformConfig::default()
        };
        for config in [TransformConfig::default(), caffe] {
            let all: Vec<u8> = (0..=255).collect();
            let mut input: Vec<f32> = all.iter().map(|&pixel| f32::from(pixel)).collect();
            let mut rng = stream(1, Purpose::Augmentation, 0);
            config.evaluation().apply(&mut input, shape, &mut rng);
            assert_eq!(config.pixels(&input), all);
            assert_eq!(config.pixels(&[-100.0, 1000.0]), [0, 255]);
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
    fn images_are_interpolated_once_whatever_is_on() {
        let all = TransformConfig {
            shift: 2,
            rotation: 10.0,
            zoom: 0.1,
            shear: 5.0,
            crop: 0.3,
            flip: true,
            flip_vertical: true,
            brightness: 0.1,
            contrast: 0.2,
            saturation: 0.3,
            hue: 0.05,
            erase: 0.4,
            ..TransformConfig::default()
        };
        let chain = all.train().0;
        let evaluation = all.evaluation().0;
        let (random, fixed) = chain.split_at(chain.len() - 2);
        assert_eq!(format!("{fixed:?}"), format!("{evaluation:?}"));
        assert_eq!(
            format!("{random:?}"),
            "[RandomFlip, RandomVerticalFlip, RandomAffine { rotation: 10.0, zoom: 0.1, shear: 5.0, crop: 0.3, \
             edge: Zero }, RandomShift { max: 2, edge: Zero }, RandomBrightness { max: 0.1 }, \
             RandomContrast { max: 0.2 }, RandomSaturation { max: 0.3 }, RandomHue { max: 0.05 }, \
             RandomErasing { max: 0.4 }]"
        );
        for on in ["zoom = 0.1", "shear = 5.0", "crop = 0.3"] {
            let config: TransformConfig = toml::from_str(on).unwrap();
            let chain = format!("{:?}", config.train().0);
            assert!(
                chain.starts_with("[RandomAffine { rotation: 0.0"),
                "{chain}"
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
