//! The layers that the trunks are made of, each a [`Module`](candle_nn::Module) made by a
//! [`VarBuilder`](candle_nn::VarBuilder), with a forward and a backward pass of their own on the CPU.

mod activation;
mod conv;
pub mod conv_pool;
mod cpu_op;
pub(crate) mod inference;
mod linear;
mod matrix;
mod norm;

use candle_nn::Init;

pub use activation::Activation;
pub use conv::Conv;
pub use conv_pool::ConvPool;
pub use linear::Linear;
pub use norm::GroupNorm;

/// The initialisation that Caffe calls Xavier: uniform in ±√(3 / fan-in).
pub fn xavier(fan_in: usize) -> Init {
    let bound = (3.0 / fan_in as f64).sqrt();
    Init::Uniform {
        lo: -bound,
        up: bound,
    }
}

/// The initialisation of biases.
pub const ZERO: Init = Init::Const(0.0);

/// The initialisation of a normalisation's gain.
pub const ONE: Init = Init::Const(1.0);
