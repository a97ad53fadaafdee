use candle_core::Tensor;

use super::Geometry;
use crate::{Activation, Result};

/// [`conv_pool`](super::conv_pool()) of candle's own ops, for any device; what a GPU runs.
///
/// The pool is an arg-max over each window and a `gather`, whose gradient is right, unlike that
/// of `max_pool2d`. Shapes and errors are those of [`conv_pool`](super::conv_pool()).
///
/// # Errors
/// As [`conv_pool`](super::conv_pool()), and whatever candle reports for the device.
pub fn conv_pool_composed(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
    apply(
        &Geometry::new(x, weight, bias)?,
        x,
        weight,
        bias,
        activation,
    )
}

pub(super) fn apply(
    geometry: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
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
    let winners = windows.argmax_keepdim(4)?;
    let pooled = windows.gather(&winners, 4)?.squeeze(4)?;
    Ok(activation.forward(&pooled)?)
}
