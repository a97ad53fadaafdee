//! Pixels as planes: one channel after the other, each row by row.

use std::borrow::Cow;

use crate::ImageShape;

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
