//! Changes of brightness and colour, as torchvision's `ColorJitter` defines them, on values from 0 to 255.

use rand_chacha::ChaCha8Rng;

use super::{Transform, symmetric};
use crate::ImageShape;

/// Multiplies every value by one random factor, uniform in 1-`max`..1+`max`, and caps it at 255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomBrightness {
    /// Largest change, as a fraction of the brightness.
    pub max: f32,
}

impl Transform for RandomBrightness {
    fn apply(&self, image: &mut [f32], _: ImageShape, rng: &mut ChaCha8Rng) {
        let factor = 1.0 + symmetric(self.max, rng);
        for value in image {
            *value = (*value * factor).min(255.0);
        }
    }
}

/// Multiplies every value's distance from the mean grey of the image by one random factor, uniform in
/// 1-`max`..1+`max`, and keeps it in 0..=255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomContrast {
    /// Largest change, as a fraction of the contrast, up to 1.
    pub max: f32,
}

impl Transform for RandomContrast {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        contrast(image, shape, 1.0 + symmetric(self.max, rng));
    }
}

fn contrast(image: &mut [f32], shape: ImageShape, factor: f32) {
    let pixels = shape.height * shape.width;
    let mean = match planes(image, shape) {
        Some([red, green, blue]) => {
            let greys = (0..pixels).map(|i| grey([red[i], green[i], blue[i]]));
            greys.sum::<f32>()
        }
        None => image.iter().sum(),
    } / pixels as f32;
    for value in image {
        *value = away(mean, *value, factor);
    }
}

/// Multiplies every colour's distance from its grey by one random factor, uniform in 1-`max`..1+`max`, and
/// keeps it in 0..=255. Leaves images of one channel as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomSaturation {
    /// Largest change, as a fraction of the saturation, up to 1.
    pub max: f32,
}

impl Transform for RandomSaturation {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        saturate(image, shape, 1.0 + symmetric(self.max, rng));
    }
}

fn saturate(image: &mut [f32], shape: ImageShape, factor: f32) {
    each_colour(image, shape, |colour| {
        let grey = grey(colour);
        colour.map(|value| away(grey, value, factor))
    });
}

/// Turns every colour's hue by one random part of the colour wheel, uniform in -`max`..`max`. Leaves images of
/// one channel as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomHue {
    /// Largest turn, as a fraction of the wheel, up to 1/2.
    pub max: f32,
}

impl Transform for RandomHue {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        let turn = symmetric(self.max, rng);
        each_colour(image, shape, |colour| turn_hue(colour, turn));
    }
}

/// The colour of another hue, and the same saturation and value in HSV.
fn turn_hue([red, green, blue]: [f32; 3], turn: f32) -> [f32; 3] {
    let value = red.max(green).max(blue);
    let chroma = value - red.min(green).min(blue);
    if chroma == 0.0 {
        return [red, green, blue];
    }
    // In sixths of the wheel.
    let hue = if value == red {
        (green - blue) / chroma
    } else if value == green {
        (blue - red) / chroma + 2.0
    } else {
        (red - green) / chroma + 4.0
    };
    let hue = hue + 6.0 * turn;
    // The channels' colours lie a third of the wheel apart.
    [5.0, 3.0, 1.0].map(|offset| {
        let at = (hue + offset).rem_euclid(6.0);
        value - chroma * at.min(4.0 - at).clamp(0.0, 1.0)
    })
}

/// `value` moved from `centre`, its distance multiplied by `factor`.
fn away(centre: f32, value: f32, factor: f32) -> f32 {
    (centre + (value - centre) * factor).clamp(0.0, 255.0)
}

/// The luminance of a colour (ITU-R BT.601), with torchvision's digits.
fn grey([red, green, blue]: [f32; 3]) -> f32 {
    0.2989 * red + 0.587 * green + 0.114 * blue
}

/// The three planes of a colour image.
fn planes(image: &[f32], shape: ImageShape) -> Option<[&[f32]; 3]> {
    let mut planes = image.chunks_exact(shape.height * shape.width);
    Some([planes.next()?, planes.next()?, planes.next()?])
}

/// Changes each pixel of a colour image.
fn each_colour(image: &mut [f32], shape: ImageShape, change: impl Fn([f32; 3]) -> [f32; 3]) {
    let pixels = shape.height * shape.width;
    if shape.channels != 3 {
        return;
    }
    for i in 0..pixels {
        let places = [i, pixels + i, 2 * pixels + i];
        let changed = change(places.map(|place| image[place]));
        for (place, value) in places.into_iter().zip(changed) {
            image[place] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::test_images::assert_close;
    use crate::{Purpose, stream};

    fn shape(channels: usize, width: usize) -> ImageShape {
        ImageShape {
            channels,
            height: 1,
            width,
        }
    }

    type Factor = fn(&[f32]) -> f32;

    #[test]
    fn brightness_contrast_and_saturation_stay_in_their_range_and_go_both_ways() {
        // What has become of a value, or a difference, of 100.
        let kinds: [(&dyn Transform, ImageShape, [f32; 3], Factor); 3] = [
            (
                &RandomBrightness { max: 0.2 },
                shape(1, 3),
                [100., 250., 0.],
                |found| found[0] / 100.0,
            ),
            (
                &RandomContrast { max: 0.2 },
                shape(1, 3),
                [50., 150., 100.],
                |found| (found[1] - found[0]) / 100.0,
            ),
            (
                &RandomSaturation { max: 0.2 },
                shape(3, 1),
                [150., 50., 100.],
                |found| (found[0] - found[1]) / 100.0,
            ),
        ];
        for (random, shape, pixels, factor) in kinds {
            let mut rng = stream(1, Purpose::Augmentation, 0);
            let mut factors = Vec::new();
            for _ in 0..1000 {
                let mut pixels = pixels;
                random.apply(&mut pixels, shape, &mut rng);
                assert!(pixels.iter().all(|value| (0.0..=255.0).contains(value)));
                factors.push(factor(&pixels));
            }
            factors.sort_by(f32::total_cmp);
            let (least, most) = (factors[0], factors[999]);
            assert!((0.7999..0.81).contains(&least), "{random:?}: {least}");
            assert!((1.19..1.2001).contains(&most), "{random:?}: {most}");
        }
    }

    #[test]
    fn contrast_is_about_the_mean_grey_of_the_image() {
        let mut pixels = [0., 100., 200.];
        contrast(&mut pixels, shape(1, 3), 0.5);
        assert_close(&pixels, &[50., 100., 150.]);
        contrast(&mut pixels, shape(1, 3), 4.0);
        assert_close(&pixels, &[0., 100., 255.]);
        // Red of 100 and green of 200: greys of 29.89 and 117.4, mean 73.645.
        let mut pixels = [100., 0., 0., 200., 0., 0.];
        contrast(&mut pixels, shape(3, 2), 0.5);
        let low = 36.8225;
        assert_close(&pixels, &[50.0 + low, low, low, 100.0 + low, low, low]);
    }

    #[test]
    fn saturation_is_about_each_pixels_grey() {
        // Greys of 29.89, and of a grey pixel itself.
        let colours = [100., 50., 0., 50., 0., 50.];
        let mut pixels = colours;
        saturate(&mut pixels, shape(3, 2), 0.0);
        assert_close(&pixels, &[29.89, 49.995, 29.89, 49.995, 29.89, 49.995]);
        let mut pixels = colours;
        saturate(&mut pixels, shape(3, 2), 2.0);
        assert_close(&pixels, &[170.11, 50.005, 0., 50.005, 0., 50.005]);
        let mut grey = [1., 2., 3.];
        saturate(&mut grey, shape(1, 3), 2.0);
        assert_eq!(grey, [1., 2., 3.]);
    }

    #[test]
    fn a_hue_is_turned_round_the_wheel() {
        let third = 1.0 / 3.0;
        for (colour, turn, expected) in [
            // Red, yellow, green, cyan, blue, magenta: a sixth each.
            ([255., 0., 0.], third / 2.0, [255., 255., 0.]),
            ([255., 0., 0.], third, [0., 255., 0.]),
            ([255., 0., 0.], 0.5, [0., 255., 255.]),
            ([255., 0., 0.], -third, [0., 0., 255.]),
            ([255., 0., 0.], third / 4.0, [255., 127.5, 0.]),
            ([0., 0., 255.], third, [255., 0., 0.]),
            // A third of the wheel moves the values on by a channel.
            ([200., 100., 50.], third, [50., 200., 100.]),
            ([50., 100., 200.], -third, [100., 200., 50.]),
            ([80., 80., 80.], 0.3, [80., 80., 80.]),
            ([200., 100., 50.], 0.0, [200., 100., 50.]),
        ] {
            assert_close(&turn_hue(colour, turn), &expected);
        }
    }

    #[test]
    fn hues_turn_both_ways_up_to_the_most_and_a_grey_image_has_none() {
        let mut rng = stream(1, Purpose::Augmentation, 0);
        // Red turns to green one way and to blue the other; by a tenth, to 0.6 of the way to yellow or magenta.
        let mut most = [0f32; 2];
        for _ in 0..1000 {
            let mut pixels = [100., 0., 0.];
            RandomHue { max: 0.1 }.apply(&mut pixels, shape(3, 1), &mut rng);
            assert_close(&pixels[..1], &[100.0]);
            assert!(pixels[1] == 0.0 || pixels[2] == 0.0);
            most = [most[0].max(pixels[1]), most[1].max(pixels[2])];
        }
        assert!(
            most.iter().all(|most| (59.0..60.01).contains(most)),
            "{most:?}"
        );
        let mut grey = [1., 2., 3.];
        RandomHue { max: 0.5 }.apply(&mut grey, shape(1, 3), &mut rng);
        assert_eq!(grey, [1., 2., 3.]);
    }
}
