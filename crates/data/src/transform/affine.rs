//! Rotation, zoom, shear and crop in one.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::resample::{View, resample};
use super::{Edge, Transform, rectangle, symmetric};
use crate::ImageShape;

/// The most by which a crop's aspect ratio differs from the image's, as in torchvision's
/// `RandomResizedCrop`.
const STRETCH: f32 = 4.0 / 3.0;

/// Crops a part of the image and scales it back to the full size, then shears, zooms and rotates it about its
/// centre: one map, so that the image is interpolated once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomAffine {
    /// Largest angle of the rotation, in degrees, as of [`RandomRotation`](super::RandomRotation).
    pub rotation: f32,
    /// Largest change in size, as a fraction: the factor is uniform in its logarithm, from 1/(1 + `zoom`) to
    /// 1 + `zoom`.
    pub zoom: f32,
    /// Largest angle by which upright lines are slanted, in degrees below 90.
    pub shear: f32,
    /// Largest share of the area that is cut away, below 1; the share is uniform. The aspect ratio is
    /// multiplied by 3/4 to 4/3, uniform in its logarithm, or by less where the part would not fit in.
    pub crop: f32,
    /// What fills the gap.
    pub edge: Edge,
}

impl Transform for RandomAffine {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        let view = self.draw(rng).view(shape);
        resample(image, shape, view, self.edge);
    }
}

impl RandomAffine {
    fn draw(&self, rng: &mut ChaCha8Rng) -> Affine {
        let degrees = symmetric(self.rotation, rng);
        let factor = symmetric(self.zoom.ln_1p(), rng).exp();
        let slant = symmetric(self.shear, rng);
        let part = rectangle(1.0 - rng.random::<f32>() * self.crop, STRETCH, rng);
        Affine {
            degrees,
            factor,
            slant,
            part,
            corner: part.map(|side| rng.random::<f32>() * (1.0 - side)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Affine {
    degrees: f32,
    factor: f32,
    slant: f32,
    /// Width and height of the part that is kept, as fractions of the image's.
    part: [f32; 2],
    /// Its left and its top, likewise.
    corner: [f32; 2],
}

impl Affine {
    fn view(self, shape: ImageShape) -> View {
        let (sin, cos) = self.degrees.to_radians().sin_cos();
        let slant = self.slant.to_radians().tan();
        // From the result back to the source: turned, slanted, scaled.
        let [across, down] = self.part.map(|side| side / self.factor);
        let steps = [
            [(cos - slant * sin) * across, (-sin - slant * cos) * across],
            [sin * down, cos * down],
        ];
        let centre = |axis: usize, side: usize| {
            (self.corner[axis] + self.part[axis] / 2.0) * side as f32 - 0.5
        };
        View {
            steps,
            centre: [centre(0, shape.width), centre(1, shape.height)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::RandomRotation;
    use crate::transform::test_images::{SHAPE, assert_close, image};
    use crate::{Purpose, stream};

    const NOTHING: Affine = Affine {
        degrees: 0.0,
        factor: 1.0,
        slant: 0.0,
        part: [1.0; 2],
        corner: [0.0; 2],
    };

    /// The first channel; the second is checked to be ten times that.
    fn seen(affine: Affine, edge: Edge) -> Vec<f32> {
        let mut pixels = image();
        resample(&mut pixels, SHAPE, affine.view(SHAPE), edge);
        let second = pixels.split_off(9);
        assert_close(
            &second,
            &pixels.iter().map(|v| v * 10.0).collect::<Vec<_>>(),
        );
        pixels
    }

    #[test]
    fn an_image_twice_as_large_shows_its_middle_and_one_half_as_large_a_margin() {
        let twice = Affine {
            factor: 2.0,
            ..NOTHING
        };
        let expected = [3., 3.5, 4., 4.5, 5., 5.5, 6., 6.5, 7.];
        assert_close(&seen(twice, Edge::Zero), &expected);
        let half = Affine {
            factor: 0.5,
            ..NOTHING
        };
        let expected = [0., 0., 0., 0., 5., 0., 0., 0., 0.];
        assert_close(&seen(half, Edge::Zero), &expected);
        let expected = [1., 2., 3., 4., 5., 6., 7., 8., 9.];
        assert_close(&seen(half, Edge::Repeat), &expected);
    }

    #[test]
    fn a_shear_moves_rows_by_their_distance_from_the_middle() {
        let right = Affine {
            slant: 45.0,
            ..NOTHING
        };
        let expected = [2., 3., 0., 4., 5., 6., 0., 7., 8.];
        assert_close(&seen(right, Edge::Zero), &expected);
        let left = Affine {
            slant: -45.0,
            ..NOTHING
        };
        let expected = [0., 1., 2., 4., 5., 6., 8., 9., 0.];
        assert_close(&seen(left, Edge::Zero), &expected);
    }

    #[test]
    fn a_crop_is_scaled_back_to_the_full_size() {
        let shape = ImageShape {
            channels: 1,
            height: 4,
            width: 8,
        };
        // Interpolating between these values is exact.
        let mut pixels: Vec<f32> = (0..32).map(|i| (i % 8 + i / 8 * 100) as f32).collect();
        let upper_right = Affine {
            part: [0.5, 0.25],
            corner: [0.5, 0.25],
            ..NOTHING
        };
        resample(&mut pixels, shape, upper_right.view(shape), Edge::Repeat);
        // Half of eight columns from the left edge of the fifth on, and the second row alone: four pixels
        // whose centres are 3/8 of a pixel above its, to 3/8 below.
        let columns = [3.75, 4.25, 4.75, 5.25, 5.75, 6.25, 6.75, 7.0];
        let rows = [0.625f32, 0.875, 1.125, 1.375];
        let expected = rows.map(|y| columns.map(|x| x + y * 100.0));
        assert_close(&pixels, expected.as_flattened());
    }

    #[test]
    fn parts_that_are_put_together_are_done_one_after_the_other() {
        // A quarter turn and a shear by whole pixels move pixels exactly, so that interpolating twice is right.
        let [turn, slant, zoom] = [
            Affine {
                degrees: 90.0,
                ..NOTHING
            },
            Affine {
                slant: 45.0,
                ..NOTHING
            },
            Affine {
                factor: 1.5,
                ..NOTHING
            },
        ];
        let crop = Affine {
            part: [0.8, 0.6],
            corner: [0.1, 0.3],
            ..NOTHING
        };
        let after = |steps: &[Affine]| {
            let mut pixels = image();
            for step in steps {
                resample(&mut pixels, SHAPE, step.view(SHAPE), Edge::Repeat);
            }
            pixels.truncate(9);
            pixels
        };
        let both = Affine {
            degrees: 90.0,
            ..zoom
        };
        assert_close(&seen(both, Edge::Repeat), &after(&[zoom, turn]));
        let both = Affine {
            degrees: 90.0,
            ..crop
        };
        assert_close(&seen(both, Edge::Repeat), &after(&[crop, turn]));
        let both = Affine {
            degrees: 90.0,
            ..slant
        };
        let expected = after(&[slant, turn]);
        assert_ne!(expected, after(&[turn, slant]));
        // Here the edge of the result of the first step is not the image's.
        assert_close(&seen(both, Edge::Zero)[..], &{
            let mut pixels = image();
            for step in [slant, turn] {
                resample(&mut pixels, SHAPE, step.view(SHAPE), Edge::Zero);
            }
            pixels.truncate(9);
            pixels
        });
    }

    #[test]
    fn a_rotation_alone_is_that_of_random_rotation() {
        let affine = RandomAffine {
            rotation: 30.0,
            zoom: 0.0,
            shear: 0.0,
            crop: 0.0,
            edge: Edge::Repeat,
        };
        let rotation = RandomRotation {
            max: 30.0,
            edge: Edge::Repeat,
        };
        for step in 0..20 {
            let [mut one, mut other] = [image(), image()];
            affine.apply(&mut one, SHAPE, &mut stream(1, Purpose::Augmentation, step));
            rotation.apply(
                &mut other,
                SHAPE,
                &mut stream(1, Purpose::Augmentation, step),
            );
            assert_close(&one, &other);
        }
    }

    #[test]
    fn every_part_keeps_to_its_range_and_goes_both_ways() {
        let random = RandomAffine {
            rotation: 20.0,
            zoom: 0.5,
            shear: 10.0,
            crop: 0.4,
            edge: Edge::Zero,
        };
        let mut rng = stream(1, Purpose::Augmentation, 0);
        let drawn: Vec<Affine> = (0..1000).map(|_| random.draw(&mut rng)).collect();
        // All values of a kind lie within the range, and reach all but a 50th of it at both ends.
        let spans = |value: fn(&Affine) -> f32, least: f32, most: f32| {
            let mut values: Vec<f32> = drawn.iter().map(value).collect();
            values.sort_by(f32::total_cmp);
            let rim = (most - least) / 50.0;
            let (first, last) = (values[0], values[999]);
            assert!(least - 1e-5 <= first && first < least + rim, "{first}");
            assert!(most - rim < last && last <= most + 1e-5, "{last}");
            values[500]
        };
        spans(|drawn| drawn.degrees, -20.0, 20.0);
        spans(|drawn| drawn.slant, -10.0, 10.0);
        // As often larger as smaller.
        let median = spans(|drawn| drawn.factor, 1.0 / 1.5, 1.5);
        assert!((0.97..1.03).contains(&median), "{median}");
        let median = spans(|drawn| drawn.part[0] * drawn.part[1], 0.6, 1.0);
        assert!((0.78..0.82).contains(&median), "{median}");
        spans(|drawn| drawn.part[0] / drawn.part[1], 0.75, 4.0 / 3.0);
        for axis in [0, 1] {
            let fits = |drawn: &Affine| {
                let (side, at) = (drawn.part[axis], drawn.corner[axis]);
                side <= 1.0 && at >= 0.0 && at + side <= 1.0 + 1e-6
            };
            assert!(drawn.iter().all(fits));
            // At both ends as often as in between.
            let room = drawn.iter().filter(|drawn| drawn.part[axis] < 0.99);
            let places: Vec<f32> = room
                .map(|d| d.corner[axis] / (1.0 - d.part[axis]))
                .collect();
            let mean = places.iter().sum::<f32>() / places.len() as f32;
            assert!((0.46..0.54).contains(&mean), "{mean}");
        }
    }
}
