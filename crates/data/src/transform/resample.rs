//! Images that are seen from elsewhere: every pixel taken from another place, with bilinear interpolation.

use serde::{Deserialize, Serialize};

use crate::ImageShape;

/// What fills the gap where an image does not reach once it is moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// 0, the background of drawings.
    #[default]
    Zero,
    /// The nearest pixel of the image, as suits photographs.
    Repeat,
}

/// Where the pixels of a result come from in its source, by (x, y) in pixels; pixel 0 is at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    /// How far one step right and one step down in the result lead in the source: by row, x and y.
    pub(super) steps: [[f32; 2]; 2],
    /// The place in the source of the result's middle.
    pub(super) centre: [f32; 2],
}

impl View {
    /// The middle of images of `shape`.
    pub(super) fn middle(shape: ImageShape) -> [f32; 2] {
        [shape.width, shape.height].map(|side| (side as f32 - 1.0) / 2.0)
    }
}

/// Replaces `image` (C, H, W) by its `view`.
pub(super) fn resample(image: &mut [f32], shape: ImageShape, view: View, edge: Edge) {
    let ImageShape { height, width, .. } = shape;
    let source = image.to_vec();
    let [middle_x, middle_y] = View::middle(shape);
    let (steps, [centre_x, centre_y]) = (view.steps, view.centre);
    for y in 0..height {
        for x in 0..width {
            let (right, down) = (x as f32 - middle_x, y as f32 - middle_y);
            let from_x = steps[0][0] * right + steps[0][1] * down + centre_x;
            let from_y = steps[1][0] * right + steps[1][1] * down + centre_y;
            let (from_x, from_y) = match edge {
                Edge::Zero => (from_x, from_y),
                Edge::Repeat => (
                    from_x.clamp(0.0, (width - 1) as f32),
                    from_y.clamp(0.0, (height - 1) as f32),
                ),
            };
            for plane in (0..source.len()).step_by(height * width) {
                image[plane + y * width + x] = bilinear(
                    &source[plane..plane + height * width],
                    width,
                    from_x,
                    from_y,
                );
            }
        }
    }
}

/// The interpolated value of `plane` at (x, y); it is 0 outside.
fn bilinear(plane: &[f32], width: usize, x: f32, y: f32) -> f32 {
    let height = plane.len() / width;
    // `f32::floor` is a function call on plain x86-64 and takes a third of the time.
    let floor = |value: f32| value as i32 - i32::from(value < 0.0);
    let (left, top) = (floor(x), floor(y));
    let (right_part, bottom_part) = (x - left as f32, y - top as f32);
    let at = |column: i32, row: i32| {
        // A negative index wraps to a huge one.
        let (column, row) = (column as usize, row as usize);
        if column < width && row < height {
            plane[row * width + column]
        } else {
            0.0
        }
    };
    let upper = at(left, top) * (1.0 - right_part) + at(left + 1, top) * right_part;
    let lower = at(left, top + 1) * (1.0 - right_part) + at(left + 1, top + 1) * right_part;
    upper * (1.0 - bottom_part) + lower * bottom_part
}
