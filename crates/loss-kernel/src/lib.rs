//! The contrastive loss of a Siamese network for [candle](candle_core), forward and backward
//! written by hand after Caffe's `ContrastiveLossLayer`.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use loss_kernel::contrastive_loss;
//!
//! # fn main() -> Result<(), loss_kernel::LossError> {
//! let a = Var::new(&[[0f32, 0.], [3., 4.]], &Device::Cpu)?;
//! let b = Var::new(&[[0f32, 1.], [3., 4.]], &Device::Cpu)?;
//! let same = Tensor::new(&[1u8, 0], &Device::Cpu)?; // similar, dissimilar
//!
//! let loss = contrastive_loss(&a, &b, &same, 1.0)?;
//! // (1² + max(1 − 0, 0)²) / (2·2)
//! assert_eq!(loss.to_scalar::<f32>()?, 0.5);
//!
//! let gradients = loss.backward()?;
//! let of_a = gradients.get(&a).unwrap();
//! assert_eq!(of_a.to_vec2::<f32>()?, [[0., -0.5], [0., 0.]]);
//! # Ok(())
//! # }
//! ```
//!
//! - [`ContrastiveLoss`] is the loss of given pairs, [`contrastive_loss`] its common case.
//! - [`InBatchContrastiveLoss`] is the loss of all pairs of a batch, or of those that a [`Miner`]
//!   selects, with [`XbmMemory`] for pairs with earlier batches.
//! - [`Variant`] has the formulas, `docs/formulas.md` their derivation. The gradient is exact:
//!   Caffe divides by `d + 1e-4` in its backward pass, this crate does not.
//!
//! In the source, `energy.rs` has the formulas of one pair. Each loss has a folder: `op.rs` is its
//! candle CustomOp, `cpu.rs` its loops on the CPU and `cuda.rs` the launches of its kernels, which are
//! in `kernels/`.
//!
//! With the feature `cuda` the same calls run on a GPU where the tensors are on one; what that
//! needs is in `docs/gpu.md`. The features `cudnn` and `nccl` are candle's.

#[cfg(feature = "cuda")]
mod cuda;
mod element;
mod embeddings;
mod energy;
mod error;
#[cfg(feature = "cuda")]
mod ffi;
mod in_batch;
mod lanes;
mod margin;
mod pairs;
mod xbm;

pub use energy::Variant;
pub use error::LossError;
pub use in_batch::{InBatchContrastiveLoss, InBatchReduction, Miner};
pub use margin::Margin;
pub use pairs::{ContrastiveLoss, Reduction, contrastive_loss};
pub use xbm::XbmMemory;
