//! Images of a data set on one sheet, as a PNG.

use std::cmp::Ordering;

use anyhow::{Context, Result};
use data::{ImageShape, LabelledImages};
use image::codecs::png::{CompressionType, FilterType as Filter, PngEncoder};
use image::imageops::{FilterType, replace};
use image::{DynamicImage, GrayImage, Rgb, RgbImage};

/// What is between the images in rows: that many pixels of a grey that neither the background of drawings
/// nor that of photographs has.
const GAP: u32 = 4;
const GREY: u8 = 160;

/// Images side by side, row by row.
pub struct ContactSheet {
    /// The PNG file.
    pub png: Vec<u8>,
    /// Width and height of one image on the sheet.
    pub tile: (u32, u32),
    /// Those of the sheet.
    pub size: (u32, u32),
}

impl ContactSheet {
    /// The images of those indices in that order on a sheet that is about square; larger ones made smaller, so that neither side
    /// is longer than `side`.
    pub fn new(images: &LabelledImages, indices: &[usize], side: u32) -> Result<Self> {
        let tile = tile(images.shape(), side);
        Self::draw(images, indices, columns(indices.len()), tile, 0)
    }

    /// All images in order, `columns` to a row, with a gap between them; enlarged by a whole number, so
    /// that neither side is shorter than `side`.
    pub fn in_rows(images: &LabelledImages, columns: usize, side: u32) -> Result<Self> {
        let size = images.shape().size();
        let (width, height) = (size.0 as u32, size.1 as u32);
        let factor = side.div_ceil(width.min(height));
        let tile = (width * factor, height * factor);
        let all: Vec<usize> = (0..images.len()).collect();
        Self::draw(images, &all, columns as u32, tile, GAP)
    }

    /// The first images of as many rows, `columns` to each, as fit into `most` values, with a gap between
    /// them; larger ones made smaller, so that neither side is longer than `side`.
    pub fn first_rows(
        images: &LabelledImages,
        columns: usize,
        side: u32,
        most: usize,
    ) -> Result<Self> {
        let tile = tile(images.shape(), side);
        let row = columns * images.shape().channels * (tile.0 * tile.1) as usize;
        let shown = images.len().min(most / row * columns);
        let indices: Vec<usize> = (0..shown).collect();
        Self::draw(images, &indices, columns as u32, tile, GAP)
    }

    fn draw(
        images: &LabelledImages,
        indices: &[usize],
        columns: u32,
        tile: (u32, u32),
        gap: u32,
    ) -> Result<Self> {
        let rows = indices.len().div_ceil(columns as usize).max(1) as u32;
        let step = (tile.0 + gap, tile.1 + gap);
        let (width, height) = (columns * step.0 - gap, rows * step.1 - gap);
        let mut sheet = match images.shape().channels {
            3 => RgbImage::from_pixel(width, height, Rgb([GREY; 3])).into(),
            _ => DynamicImage::from(GrayImage::from_pixel(width, height, [GREY].into())),
        };
        for (place, &index) in (0u32..).zip(indices) {
            let (x, y) = (place % columns * step.0, place / columns * step.1);
            replace(&mut sheet, &scaled(images, index, tile), x.into(), y.into());
        }
        let mut png = Vec::new();
        sheet
            .write_with_encoder(PngEncoder::new_with_quality(
                &mut png,
                // The best takes eight times as long for files 2% smaller.
                CompressionType::Default,
                Filter::Adaptive,
            ))
            .context("writing images as PNG")?;
        Ok(Self {
            png,
            tile,
            size: (width, height),
        })
    }
}

/// Images in a row of a sheet of `count`: TensorBoard wants the sheet square.
pub fn columns(count: usize) -> u32 {
    (count as f64).sqrt().ceil().max(1.0) as u32
}

/// Width and height of an image of `shape` if neither may exceed `side`.
pub fn tile(shape: ImageShape, side: u32) -> (u32, u32) {
    let (width, height) = (shape.width as u32, shape.height as u32);
    let longer = width.max(height);
    let fit = |length: u32| match longer > side {
        true => (length * side).div_ceil(longer).clamp(1, side),
        false => length,
    };
    (fit(width), fit(height))
}

fn scaled(images: &LabelledImages, index: usize, (width, height): (u32, u32)) -> DynamicImage {
    let shape = images.shape();
    let (full_width, full_height) = (shape.width as u32, shape.height as u32);
    let pixels = images.image(index);
    let value = |channel: usize, x: u32, y: u32| {
        pixels[(channel * shape.height + y as usize) * shape.width + x as usize]
    };
    let full = match shape.channels {
        3 => DynamicImage::from(RgbImage::from_fn(full_width, full_height, |x, y| {
            Rgb([0, 1, 2].map(|channel| value(channel, x, y)))
        })),
        _ => DynamicImage::from(GrayImage::from_fn(full_width, full_height, |x, y| {
            [value(0, x, y)].into()
        })),
    };
    match width.cmp(&full_width) {
        Ordering::Equal => full,
        Ordering::Less => full.resize_exact(width, height, FilterType::Triangle),
        Ordering::Greater => full.resize_exact(width, height, FilterType::Nearest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(shape: [usize; 3], count: usize) -> LabelledImages {
        let shape = ImageShape::try_from(shape).unwrap();
        let pixels = (0..count * shape.values()).map(|i| (i % 251) as u8);
        LabelledImages::new(shape, pixels.collect(), vec![0; count], vec!["a".into()]).unwrap()
    }

    #[test]
    fn every_image_is_in_its_place_with_its_own_colours() {
        for shape in [[1, 3, 2], [3, 3, 2]] {
            let images = images(shape, 7);
            let sheet = ContactSheet::new(&images, &[6, 0, 5, 2], 32).unwrap();
            assert_eq!((sheet.tile, columns(4)), ((2, 3), 2));
            let read = image::load_from_memory(&sheet.png).unwrap().to_rgb8();
            assert_eq!(read.dimensions(), (4, 6));
            for (place, index) in [6, 0, 5, 2].into_iter().enumerate() {
                for (x, y) in [(0, 0), (1, 2)] {
                    let expected = [0, 1, 2].map(|channel| {
                        let channel = channel.min(shape[0] - 1);
                        images.image(index)[channel * 6 + y * 2 + x]
                    });
                    let (x, y) = (place % 2 * 2 + x, place / 2 * 3 + y);
                    assert_eq!(read.get_pixel(x as u32, y as u32).0, expected);
                }
            }
        }
    }

    #[test]
    fn images_in_rows_are_enlarged_by_a_whole_number_and_have_a_gap() {
        for shape in [[1, 3, 2], [3, 3, 2]] {
            let images = images(shape, 6);
            // 2x3 pixels become 6x9.
            let sheet = ContactSheet::in_rows(&images, 3, 5).unwrap();
            assert_eq!(sheet.tile, (6, 9));
            let read = image::load_from_memory(&sheet.png).unwrap().to_rgb8();
            assert_eq!(read.dimensions(), (3 * 6 + 2 * 4, 2 * 9 + 4));
            for (x, y, pixel) in read.enumerate_pixels() {
                let (column, row) = (x / 10, y / 13);
                let (x, y) = ((x % 10 / 3) as usize, (y % 13 / 3) as usize);
                let expected = match x < 2 && y < 3 {
                    true => [0, 1, 2].map(|channel| {
                        let channel = channel.min(shape[0] - 1);
                        images.image((row * 3 + column) as usize)[channel * 6 + y * 2 + x]
                    }),
                    false => [GREY; 3],
                };
                assert_eq!(pixel.0, expected, "{x} {y}");
            }
        }
    }

    #[test]
    fn large_images_shrink_to_the_side_and_keep_their_proportions() {
        let sheet = ContactSheet::new(&images([3, 50, 100], 2), &[0, 1], 20).unwrap();
        assert_eq!(sheet.tile, (20, 10));
        let read = image::load_from_memory(&sheet.png).unwrap();
        assert_eq!((read.width(), read.height()), (40, 10));
    }
}
