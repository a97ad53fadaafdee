//! The Siamese network: one LeNet trunk whose weights embed both images of a pair.
//!
//! * [`LeNet`] maps images (N, C, H, W) to embeddings (N, D); [`LeNetConfig`] describes it,
//!   Caffe's `examples/siamese` network among the rest.
//! * [`conv_pool()`] is its convolution, activation and max-pool in one op, with its own backward.
//! * [`weights`] stores a network, and what is needed to use it, in one safetensors file.

mod activation;
pub mod conv_pool;
mod error;
mod lenet;
mod linear;
pub mod weights;

pub use activation::Activation;
pub use conv_pool::{conv_pool, conv_pool_composed};
pub use error::{ModelError, Result};
pub use lenet::{Hidden, LeNet, LeNetConfig, Parameter, Role};
pub use weights::{Calibration, ModelFile, Preprocessing};
