//! Rectangles taken out of images.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Transform, rectangle};
use crate::ImageShape;

/// The smallest share of the area that is erased, and the most by which the aspect ratio differs from the
/// image's: those of Zhong et al. 2017.
const LEAST: f32 = 0.02;
const STRETCH: f32 = 10.0 / 3.0;

/// Random erasing (Zhong et al. 2017): with probability 1/2 fills a rectangle anywhere in the image with the
/// image's mean, each channel with its own. The rectangle's share of the area is uniform from 0.02 (or
/// `max`, if that is less) to `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomErasing {
    /// Largest share of the area, up to 1.
    pub max: f32,
}

impl Transform for RandomErasing {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut ChaCha8Rng) {
        if rng.random::<bool>() {
            return;
        }
        let least = LEAST.min(self.max);
        let share = least + rng.random::<f32>() * (self.max - least);
        let sides = rectangle(share, STRETCH, rng);
        let mut place = |share: f32, side: usize| {
            let length = ((share * side as f32) as usize).clamp(1, side);
            let start = rng.random_range(0..=side - length);
            start..start + length
        };
        let (columns, rows) = (place(sides[0], shape.width), place(sides[1], shape.height));
        for plane in image.chunks_exact_mut(shape.height * shape.width) {
            let mean = plane.iter().sum::<f32>() / plane.len() as f32;
            for row in rows.clone() {
                plane[row * shape.width..][columns.clone()].fill(mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Purpose, stream};

    const SHAPE: ImageShape = ImageShape {
        channels: 2,
        height: 20,
        width: 40,
    };

    /// The left, top, width and height of what is erased from an image of no two equal pixels.
    fn erased(erasing: RandomErasing, rng: &mut ChaCha8Rng) -> Option<[usize; 4]> {
        let image: Vec<f32> = (0..1600).map(|i| (i % 800 * 2 + i / 800) as f32).collect();
        let mut pixels = image.clone();
        erasing.apply(&mut pixels, SHAPE, rng);
        let changed = |plane: usize| -> Vec<usize> {
            let places = 0..800;
            let changed = places.filter(|i| pixels[plane * 800 + i] != image[plane * 800 + i]);
            changed.collect()
        };
        let places = changed(0);
        // The same in both channels; none of the means is a pixel's own value.
        assert_eq!(changed(1), places);
        for (plane, mean) in [799.0, 800.0].into_iter().enumerate() {
            assert!(places.iter().all(|i| pixels[plane * 800 + i] == mean));
        }
        let columns = places.iter().map(|i| i % 40);
        let (left, right) = (columns.clone().min()?, columns.max()?);
        let (top, bottom) = (places[0] / 40, places[places.len() - 1] / 40);
        let [width, height] = [right - left + 1, bottom - top + 1];
        assert_eq!(places.len(), width * height, "a rectangle");
        Some([left, top, width, height])
    }

    #[test]
    fn half_of_the_images_lose_a_rectangle_of_up_to_that_share() {
        let mut rng = stream(1, Purpose::Augmentation, 0);
        let erasing = RandomErasing { max: 0.25 };
        let erased = (0..2000).filter_map(|_| erased(erasing, &mut rng));
        let erased: Vec<[usize; 4]> = erased.collect();
        assert!((900..1100).contains(&erased.len()), "{}", erased.len());
        let areas = erased.iter().map(|[_, _, width, height]| width * height);
        // Sides are rounded down.
        let (least, most) = (areas.clone().min().unwrap(), areas.max().unwrap());
        assert!(
            (8..=16).contains(&least) && (180..=200).contains(&most),
            "{least} {most}"
        );
        assert!(erased.iter().any(|[left, ..]| *left == 0));
        assert!(erased.iter().any(|[left, _, width, _]| left + width == 40));
        assert!(erased.iter().any(|[_, top, ..]| *top == 0));
        assert!(erased.iter().any(|[_, top, _, height]| top + height == 20));
        // Compared with the image's, up to 10/3 times as wide or as high.
        let stretched = erased
            .iter()
            .filter(|[.., width, height]| width * height > 100);
        let ratios = stretched.map(|[.., width, height]| *width as f32 / (2 * height) as f32);
        let (narrow, wide) = ratios.fold((1f32, 1f32), |(a, b), r| (a.min(r), b.max(r)));
        assert!(
            (0.25..0.4).contains(&narrow) && (2.5..4.2).contains(&wide),
            "{narrow} {wide}"
        );
    }

    #[test]
    fn a_share_too_small_for_a_pixel_takes_one_and_all_of_it_takes_all() {
        let mut rng = stream(1, Purpose::Augmentation, 0);
        let mut tiny = (0..20).filter_map(|_| erased(RandomErasing { max: 1e-6 }, &mut rng));
        assert!(tiny.all(|[_, _, width, height]| (width, height) == (1, 1)));
        for _ in 0..200 {
            erased(RandomErasing { max: 1.0 }, &mut rng);
        }
    }
}
