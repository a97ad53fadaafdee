//! Convolution, activation and 2×2 max-pool as one candle op with its own backward.
//!
//! It exists because candle 0.11's `max_pool2d` has a wrong gradient (a unique maximum of a 2×2
//! window gets a quarter of it, four equal ones get all of it each), and because its convolution
//! takes most of a training step. On the CPU it is vector code, each image in a lane of its own on the
//! way forward, and on the way back only what the pool's winners ask for; elsewhere
//! [`conv_pool_composed`] builds the same layer of candle's own ops.
//!
//! For one image, with w of filter o, at pooled position (i, j):
//!
//! ```text
//! conv[y, x, o]   = bias[o] + Σ_{a,b,c} image[y+a, x+b, c] · w[o, c, a, b]
//! pooled[i, j, o] = activation( max over (y, x) in {2i, 2i+1} × {2j, 2j+1} of conv[y, x, o] )
//! ```
//!
//! The gradient goes to the window's maximum; of equal ones to the first in row-major order, as
//! in Caffe and PyTorch. A NaN wins its window, so that a diverged network shows.

mod backward;
mod composed;
mod cpu;
mod forward;
mod lanes;
mod op;
mod padding;

use std::sync::OnceLock;

use candle_core::{DType, Tensor};
use candle_nn::{Module, VarBuilder};
use pulp::Arch;

use super::cpu_op::apply;
use super::inference::{Convolution, Prepare, Prepared, prepared};
use super::{Activation, ZERO, xavier};
use crate::onnx::{Export, Graph, Value, convolution, ints};
use crate::{ModelError, Result};
pub use composed::conv_pool_composed;
pub(crate) use cpu::Buffered;
pub(crate) use lanes::{Buffer, Real, Registers};

/// A convolution, its activation and a 2×2 max-pool, as [`conv_pool`] computes them: (N, H, W, C) to
/// (N, ⌊(H+2p−k+1)/2⌋, ⌊(W+2p−k+1)/2⌋, O), where p is 0 but for [`padded`](Self::padded).
#[derive(Clone, Debug)]
pub struct ConvPool {
    weight: Tensor,
    bias: Tensor,
    padding: usize,
    activation: Activation,
    prepared: Option<Prepared>,
}

impl ConvPool {
    /// `filters` filters of side `kernel` over `channels` channels: `weight` (O, C, k, k), initialised
    /// by [`xavier`], and `bias` (O,), which begins at 0.
    ///
    /// # Errors
    /// Those of `vb`.
    pub fn new(
        channels: usize,
        filters: usize,
        kernel: usize,
        activation: Activation,
        vb: VarBuilder,
    ) -> candle_core::Result<Self> {
        let shape = (filters, channels, kernel, kernel);
        let init = xavier(channels * kernel * kernel);
        Ok(Self {
            weight: vb.get_with_hints(shape, "weight", init)?,
            bias: vb.get_with_hints(filters, "bias", ZERO)?,
            padding: 0,
            activation,
            prepared: None,
        })
    }

    /// The layer with `padding` zeros on each side of its images.
    #[must_use]
    pub fn padded(self, padding: usize) -> Self {
        Self { padding, ..self }
    }
}

impl Prepare for ConvPool {
    fn prepare(&mut self) -> candle_core::Result<()> {
        let Self { weight, bias, .. } = &*self;
        let (padding, activation) = (self.padding, self.activation);
        self.prepared = prepared!(
            weight,
            Convolution::new(Arch::new(), weight, bias, padding, true, activation)
        );
        Ok(())
    }
}

impl Module for ConvPool {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        if let Some(prepared) = &self.prepared {
            return prepared.forward(x);
        }
        let (weight, bias) = (&self.weight, &self.bias);
        Ok(conv_pool_padded(
            x,
            weight,
            bias,
            self.padding,
            self.activation,
        )?)
    }
}

impl Export for ConvPool {
    fn export(&self, graph: &mut Graph, x: Value) -> candle_core::Result<Value> {
        let sums = convolution(graph, &x, [&self.weight, &self.bias], self.padding)?;
        // Before the pool, which it commutes with: runtimes compute a convolution and its ReLU as one.
        let x = self.activation.export(graph, sums)?;
        let attributes = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
        let dims = [x.dims[0], x.dims[1] / 2, x.dims[2] / 2];
        Ok(graph.add("MaxPool", &[&x.name], attributes, &dims))
    }
}

/// Convolves (no padding, stride 1), adds the bias, applies the activation and takes the maximum
/// of each 2×2 window (stride 2).
///
/// * `x`: (N, H, W, C), f32 or f64, any strides;
/// * `weight`: (O, C, kh, kw), as PyTorch has it;
/// * `bias`: (O,).
///
/// Returns (N, ⌊(H−kh+1)/2⌋, ⌊(W−kw+1)/2⌋, O). A last odd row or column of the convolution is
/// dropped, as in PyTorch; Caffe rounds up and would pool it alone. On the sizes of Caffe's LeNet
/// (24 and 8) the two agree.
///
/// On the CPU the result and the gradients have the same bits for any number of rayon threads,
/// and no gradient is computed for an input that candle does not track. Sums are in the element
/// type.
///
/// # Errors
/// A wrong rank, an empty dimension, channels or filters that disagree, an image that leaves no
/// whole pooling window, and an element type other than f32 or f64 or not the same for all three.
pub fn conv_pool(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
    conv_pool_padded(x, weight, bias, 0, activation)
}

/// [`conv_pool`] of images with `padding` zeros on each side: (N, H, W, C) to
/// (N, ⌊(H+2p−kh+1)/2⌋, ⌊(W+2p−kw+1)/2⌋, O).
///
/// # Errors
/// As [`conv_pool`].
pub fn conv_pool_padded(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    padding: usize,
    activation: Activation,
) -> Result<Tensor> {
    if !x.device().is_cpu() {
        let x = x
            .pad_with_zeros(1, padding, padding)?
            .pad_with_zeros(2, padding, padding)?;
        return conv_pool_composed(&x, weight, bias, activation);
    }
    let op = op::ConvPoolOp {
        geometry: Geometry::new(x, weight, bias, padding)?,
        activation,
        winners: OnceLock::new(),
    };
    // Filters as rows in the order of a patch, (kh, kw, C): candle carries the gradient back.
    Ok(apply(op, x, &weight.permute((0, 2, 3, 1))?, bias)?)
}

/// Saved for a window whose maximum the ReLU cut; 0 to 3 are places in the window.
const CUT: u8 = 4;

/// The sizes of one call, checked.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    images: usize,
    /// With the padding, as `width`.
    height: usize,
    width: usize,
    /// Zeros on each side.
    padding: usize,
    channels: usize,
    kernel: [usize; 2],
    filters: usize,
}

impl Geometry {
    fn new(x: &Tensor, weight: &Tensor, bias: &Tensor, padding: usize) -> Result<Self> {
        let &[images, height, width, channels] = x.dims() else {
            return Err(ModelError::shape("x", "(N, H, W, C)", x));
        };
        if x.elem_count() == 0 {
            return Err(ModelError::shape("x", "(N, H, W, C) with no size 0", x));
        }
        let [height, width] = [height, width].map(|side| side + 2 * padding);
        if u32::try_from(height * width * channels).is_err() {
            return Err(ModelError::shape(
                "x",
                "(N, H, W, C) with fewer than 2³² elements an image",
                x,
            ));
        }
        let expected = format!("(O, {channels}, kh, kw), as x has {channels} channels,");
        let &[filters, weight_channels, kh, kw] = weight.dims() else {
            return Err(ModelError::shape("weight", &expected, weight));
        };
        if weight_channels != channels || weight.elem_count() == 0 {
            return Err(ModelError::shape(
                "weight",
                &(expected + " with no size 0"),
                weight,
            ));
        }
        if bias.dims() != [filters] {
            return Err(ModelError::shape("bias", format!("({filters},)"), bias));
        }
        if !matches!(x.dtype(), DType::F32 | DType::F64) {
            return Err(ModelError::dtype("x", "f32 or f64", x.dtype()));
        }
        for (name, tensor) in [("weight", weight), ("bias", bias)] {
            if tensor.dtype() != x.dtype() {
                let expected = format!("{:?} as x is", x.dtype());
                return Err(ModelError::dtype(name, expected, tensor.dtype()));
            }
        }
        if height <= kh || width <= kw {
            return Err(ModelError::Input(format!(
                "an image of {height}×{width} is too small: a {kh}×{kw} convolution and a 2×2 pool \
                 need at least {}×{}",
                kh + 1,
                kw + 1
            )));
        }
        Ok(Self {
            images,
            height,
            width,
            padding,
            channels,
            kernel: [kh, kw],
            filters,
        })
    }

    fn pooled_height(&self) -> usize {
        (self.height - self.kernel[0]).div_ceil(2)
    }

    fn pooled_width(&self) -> usize {
        (self.width - self.kernel[1]).div_ceil(2)
    }

    /// Elements of one input image.
    fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Elements of one row of an image.
    fn row_len(&self) -> usize {
        self.width * self.channels
    }

    /// Elements of an image under one row of the kernel, which lie side by side.
    fn run(&self) -> usize {
        self.kernel[1] * self.channels
    }

    /// Elements of an image under the kernel.
    fn patch_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    /// Elements of one image's result.
    fn pooled_len(&self) -> usize {
        self.pooled_height() * self.pooled_width() * self.filters
    }
}
