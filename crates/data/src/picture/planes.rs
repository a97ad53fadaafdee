//! Pixels as planes: one channel after the other, each row by row.

use std::borrow::Cow;

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, Pixel};

use crate::{ImageShape, Size};

/// One plane: the mean over the channels.
pub(super) fn brightness(pixels: &[u8], shape: ImageShape) -> Cow<'_, [u8]> {
    if shape.channels == 1 {
        return pixels.into();
    }
    let plane = shape.height * shape.width;
    let mean = |i| {
        let channels = pixels[i..].iter().step_by(plane);
        channels.map(|&value| usize::from(value)).sum::<usize>() / shape.channels
    };
    (0..plane).map(|i| mean(i) as u8).collect()
}

/// The median of a plane's border.
pub(super) fn background(plane: &[u8], width: usize) -> u8 {
    let height = plane.len() / width;
    let on_border = |i: &usize| {
        let (x, y) = (i % width, i / width);
        x == 0 || y == 0 || x == width - 1 || y == height - 1
    };
    let places = (0..plane.len()).filter(on_border);
    let mut border: Vec<u8> = places.map(|i| plane[i]).collect();
    let middle = border.len() / 2;
    *border.select_nth_unstable(middle).1
}

/// A plane of another size, by Catmull and Rom's cubic filter.
pub(super) fn resize<T: 'static>(plane: Vec<T>, from: Size, to: Size) -> Vec<T>
where
    Luma<T>: Pixel<Subpixel = T> + 'static,
{
    resize_by(plane, from, to, FilterType::CatmullRom)
}

/// A plane of another size, by `filter`.
pub(super) fn resize_by<T: 'static>(
    plane: Vec<T>,
    from: Size,
    to: Size,
    filter: FilterType,
) -> Vec<T>
where
    Luma<T>: Pixel<Subpixel = T> + 'static,
{
    ImageBuffer::<Luma<T>, _>::from_raw(from.0 as u32, from.1 as u32, plane)
        .map(|plane| imageops::resize(&plane, to.0 as u32, to.1 as u32, filter).into_raw())
        .unwrap_or_default()
}
