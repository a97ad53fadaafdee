//! The Siamese network on candle: a trunk, such as a LeNet or a small residual network, and fully
//! connected layers, whose weights embed both images of a pair.
//!
//! * [`Network`] maps images (N, C, H, W) to embeddings (N, D) and owns its weights;
//!   [`NetworkConfig`] describes it, the network of Caffe's `examples/siamese` among others.
//! * [`Embedder`] does so without gradients, faster, and with bits that do not depend on the batch.
//! * [`LeNet`], [`SmallResnet`] and [`Conv4`], the trunks, and [`EmbeddingNet`], the whole, are candle
//!   modules made by a `VarBuilder`, for programs of your own.
//! * [`layers`] has what they are made of: convolution, activation and max-pool in one op
//!   ([`layers::conv_pool`]), a convolution that keeps the size, a group normalisation, a fully connected
//!   layer.
//! * [`weights`] stores a network, and what is needed to use it, in one safetensors file; [`onnx`] writes
//!   it for other programs.
//!
//! A LeNet in a candle program, trained by candle's own optimiser:
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{AdamW, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, loss, seq};
//! use model::layers::Linear;
//! use model::{Activation, LeNet, Norm};
//!
//! # fn main() -> candle_core::Result<()> {
//! let device = &Device::Cpu;
//! let weights = VarMap::new();
//! let vb = VarBuilder::from_varmap(&weights, DType::F32, device);
//! let trunk = LeNet::new(1, [8, 16], Norm::None, Activation::Relu, vb.pp("trunk"))?;
//! let classes = Linear::new(4 * 4 * 16, 10, Activation::Linear, vb.pp("classes"))?;
//! let net = seq().add(trunk).add(classes);
//!
//! let mut adam = AdamW::new(weights.all_vars(), ParamsAdamW::default())?;
//! let images = Tensor::rand(0f32, 1., (5, 1, 28, 28), device)?;
//! let digits = Tensor::new(&[3u32, 1, 4, 1, 5], device)?;
//! let before = loss::cross_entropy(&net.forward(&images)?, &digits)?;
//! for _ in 0..10 {
//!     let loss = loss::cross_entropy(&net.forward(&images)?, &digits)?;
//!     adam.backward_step(&loss)?;
//! }
//! let after = loss::cross_entropy(&net.forward(&images)?, &digits)?;
//! assert!(after.to_scalar::<f32>()? < before.to_scalar::<f32>()?);
//! # Ok(())
//! # }
//! ```

mod config;
mod embedder;
mod error;
pub mod layers;
mod network;
pub mod onnx;
mod parameter;
mod trunk;
pub mod weights;

pub use config::{Hidden, NetworkConfig};
pub use embedder::Embedder;
pub use error::{ModelError, Result};
pub use layers::conv_pool::{conv_pool, conv_pool_composed};
pub use layers::{Activation, conv_pool};
pub use network::{EmbeddingNet, Network};
pub use parameter::{Parameter, Role};
pub use trunk::{Conv4, LeNet, Norm, SmallResnet, Trunk};
pub use weights::{Calibration, ModelFile, Preprocessing, Pretrained};
