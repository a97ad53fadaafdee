use candle_core::{DType, Tensor};

use super::Geometry;
use crate::{Activation, Result};

/// [`conv_pool`](super::conv_pool()) of candle's own ops, for any device; what a GPU runs.
///
/// The pool is the place of each window's maximum and a `gather`, whose gradient is right, unlike
/// that of `max_pool2d`. Shapes and errors are those of [`conv_pool`](super::conv_pool()).
///
/// # Errors
/// As [`conv_pool`](super::conv_pool()), and whatever candle reports for the device.
pub fn conv_pool_composed(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
    let geometry = Geometry::new(x, weight, bias, 0)?;
    let (n, o) = (geometry.images, geometry.filters);
    let (h, w) = (geometry.pooled_height(), geometry.pooled_width());
    let conv = x
        .permute((0, 3, 1, 2))?
        .contiguous()?
        .conv2d(&weight.contiguous()?, 0, 1, 1, 1)?
        .broadcast_add(&bias.reshape((1, o, 1, 1))?)?;
    let windows = conv
        .narrow(2, 0, 2 * h)?
        .narrow(3, 0, 2 * w)?
        .reshape((n, o, h, 2, w, 2))?
        .permute((0, 2, 4, 1, 3, 5))?
        .contiguous()?
        .reshape((n, h, w, o, 4))?;
    let pooled = windows.gather(&winners(&windows)?, 4)?.squeeze(4)?;
    Ok(activation.forward(&pooled)?)
}

/// The place (u8) of the largest of the four in the last dimension: of equal ones the first, and a
/// NaN before any number.
///
/// Not `argmax`: candle's CUDA kernel compares place 0 with 2 and 1 with 3, then these two. Of
/// (0, 5, 5, 0) it returns place 2, and a NaN wins at place 0 only.
fn winners(windows: &Tensor) -> candle_core::Result<Tensor> {
    let windows = windows.detach();
    let mut best = windows.narrow(4, 0, 1)?;
    let mut winner = Tensor::zeros(best.shape(), DType::U8, best.device())?;
    for place in 1..4u8 {
        let next = windows.narrow(4, place.into(), 1)?;
        // At most one of the two is true; the second is true of a NaN.
        let wins = (next.gt(&best)? + next.ne(&next)?)?;
        best = wins.where_cond(&next, &best)?;
        let place = Tensor::full(place, winner.shape(), winner.device())?;
        winner = wins.where_cond(&place, &winner)?;
    }
    Ok(winner)
}
