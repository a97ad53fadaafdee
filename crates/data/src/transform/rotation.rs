//! Rotations.

use rand_chacha::ChaCha8Rng;

use super::resample::{View, resample};
use super::{Edge, Transform, symmetric};
use crate::ImageShape;

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
        rotate(image, shape, symmetric(self.max, rng), self.edge);
    }
}

/// Rotates counter-clockwise on the screen, where y points down.
fn rotate(image: &mut [f32], shape: ImageShape, degrees: f32, edge: Edge) {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let view = View {
        steps: [[cos, -sin], [sin, cos]],
        centre: View::middle(shape),
    };
    resample(image, shape, view, edge);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::test_images::{SHAPE, assert_close, image};
    use crate::{Purpose, stream};

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
    fn a_repeated_edge_leaves_an_even_image_even() {
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
