//! A whole picture in a frame.

use super::planes::{background, resize};
use super::{Size, Treatment};
use crate::ImageShape;

/// Scales `pixels`, of shape `found`, to fit into `shape` in proportion.
pub(super) fn letterbox(
    pixels: Vec<u8>,
    found: ImageShape,
    shape: ImageShape,
) -> (Vec<u8>, Treatment) {
    if found == shape {
        return (pixels, Treatment::TakenAsIs { size: shape.size() });
    }
    let scale =
        (shape.width as f64 / found.width as f64).min(shape.height as f64 / found.height as f64);
    let fitted = |side: usize, most: usize| ((side as f64 * scale).round() as usize).clamp(1, most);
    let width = fitted(found.width, shape.width);
    let height = fitted(found.height, shape.height);
    let to = Size(width, height);
    let (left, top) = ((shape.width - width) / 2, (shape.height - height) / 2);
    let mut framed = Vec::with_capacity(shape.values());
    for plane in pixels.chunks_exact(found.height * found.width) {
        let start = framed.len();
        let ground = background(plane, found.width);
        framed.resize(start + shape.height * shape.width, ground);
        let scaled = resize(plane.to_vec(), found.size(), to);
        for (row, values) in scaled.chunks_exact(width).enumerate() {
            let at = start + (top + row) * shape.width + left;
            framed[at..at + width].copy_from_slice(values);
        }
    }
    let treatment = Treatment::Letterboxed {
        from: found.size(),
        to,
        frame: shape.size(),
    };
    (framed, treatment)
}
