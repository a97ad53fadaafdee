//! The Siamese network: one trunk, a LeNet or a small residual network, whose weights embed both
//! images of a pair.
//!
//! * [`Network`] maps images (N, C, H, W) to embeddings (N, D); [`NetworkConfig`] describes it,
//!   Caffe's `examples/siamese` network among the rest.
//! * [`conv_pool()`] is its convolution, activation and max-pool in one op, with its own backward.
//! * [`weights`] stores a network, and what is needed to use it, in one safetensors file.

mod activation;
mod conv;
pub mod conv_pool;
mod cpu_op;
mod error;
mod linear;
mod matrix;
mod network;
pub mod weights;

pub use activation::Activation;
pub use conv_pool::{conv_pool, conv_pool_composed};
pub use error::{ModelError, Result};
pub use metrics::Calibration;
pub use network::{Hidden, Network, NetworkConfig, Parameter, Role, Trunk};
pub use weights::{ModelFile, Preprocessing};
