//! A whole picture in a frame.

use super::raster::Raster;
use super::resample::Scaling;
use super::{Filter, Size, Treatment};
use crate::ImageShape;

/// Scales a picture to fit into `shape` in proportion.
pub(super) fn letterbox(picture: Raster, shape: ImageShape) -> (Vec<u8>, Treatment) {
    let (from, frame) = (picture.size, shape.size());
    if from == frame {
        let pixels = picture.into_planes();
        return (pixels, Treatment::TakenAsIs { size: frame });
    }
    let scale = (shape.width as f64 / from.0 as f64).min(shape.height as f64 / from.1 as f64);
    let fitted = |side: usize, most: usize| ((side as f64 * scale).round() as usize).clamp(1, most);
    let width = fitted(from.0, shape.width);
    let height = fitted(from.1, shape.height);
    let to = Size(width, height);
    let (left, top) = ((shape.width - width) / 2, (shape.height - height) / 2);
    let scaled = Scaling::whole(from, to, Filter::Bicubic).run(&picture.pixels, picture.channels);
    let mut framed = Vec::with_capacity(shape.values());
    for (channel, plane) in scaled.chunks_exact(width * height).enumerate() {
        let start = framed.len();
        framed.resize(
            start + shape.height * shape.width,
            picture.background(channel),
        );
        for (row, values) in plane.chunks_exact(width).enumerate() {
            let at = start + (top + row) * shape.width + left;
            framed[at..at + width].copy_from_slice(values);
        }
    }
    (framed, Treatment::Letterboxed { from, to, frame })
}
