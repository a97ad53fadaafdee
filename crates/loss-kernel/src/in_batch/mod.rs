//! The loss over all pairs of a batch. The arithmetic of a pair is in [`crate::energy`], the
//! candle CustomOp in `op.rs`, the loops over the pairs in `cpu.rs` and, for a GPU, in
//! `kernels/in_batch.cu` behind `cuda.rs`.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod miner;
mod op;
mod reduction;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use self::op::Op;
use crate::error::check_size;
use crate::{LossError, Margin, Variant};

pub use self::miner::Miner;
pub use self::reduction::InBatchReduction;

/// Contrastive loss of all pairs `i < j` of one batch of N embeddings, similar where their labels
/// are equal; or of all pairs across two batches.
///
/// The value and the gradient are those of [`ContrastiveLoss`](crate::ContrastiveLoss) on the list
/// of these pairs. The list is never made, nor a matrix of N × N: pairs are computed a tile at a
/// time, once for both of their ends.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use loss_kernel::{InBatchContrastiveLoss, Margin};
///
/// # fn main() -> Result<(), loss_kernel::LossError> {
/// let embeddings = Var::new(&[[0f32, 0.], [0., 1.], [2., 0.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[7u32, 7, 3], &Device::Cpu)?;
///
/// let loss = InBatchContrastiveLoss::new(Margin::new(3.0)?).forward(&embeddings, &labels)?;
/// // (1² + max(3 − 2, 0)² + max(3 − √5, 0)²) / (2·3)
/// assert!((loss.to_scalar::<f32>()? - 0.430599).abs() < 1e-6);
/// let gradients = loss.backward()?;
/// assert_eq!(gradients.get(&embeddings).unwrap().dims(), [3, 2]);
/// # Ok(())
/// # }
/// ```
///
/// The result is a scalar of the embeddings' type. If it is tracked, the gradient is computed along
/// with it and kept for the backward pass: as much memory as the embeddings take (in f32 for f16
/// and bf16), and nothing of it for a [detached](Tensor::detach) batch. Beyond that, memory grows
/// with N: some 100 bytes a row, and a few tiles a thread.
///
/// Deterministic: the same bits for the same input, for any number of threads. Sums are taken in
/// f32 for f16, bf16 and f32 embeddings (over tiles in f64), and in f64 for f64. How exact the
/// distances are is in `docs/formulas.md`. On a GPU (feature `cuda`) the gradient is computed in the
/// backward pass instead; what differs is in `docs/gpu.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InBatchContrastiveLoss {
    margin: Margin,
    variant: Variant,
    reduction: InBatchReduction,
    balanced: bool,
    normalised: bool,
    miner: Miner,
}

impl InBatchContrastiveLoss {
    /// The mean of [`Variant::Hadsell`] over all pairs.
    pub fn new(margin: Margin) -> Self {
        Self {
            margin,
            ..Self::default()
        }
    }

    /// With another formula.
    pub fn variant(self, variant: Variant) -> Self {
        Self { variant, ..self }
    }

    /// With another reduction.
    pub fn reduction(self, reduction: InBatchReduction) -> Self {
        Self { reduction, ..self }
    }

    /// Whether similar and dissimilar pairs weigh the same, however many there are of each: a pair
    /// has weight `P/(2·P_kind)` before the reduction, where `P` is the number of pairs that the
    /// reduction counts and `P_kind` that of those of its kind. A mean is then the average of the
    /// two kinds' means; a kind without pairs has mean 0.
    pub fn balanced(self, balanced: bool) -> Self {
        Self { balanced, ..self }
    }

    /// Whether each embedding is first divided by its Euclidean length. The gradient goes through
    /// the division. An embedding of zeros stays as it is, and has gradient 0.
    pub fn normalised(self, normalised: bool) -> Self {
        Self { normalised, ..self }
    }

    /// With a selection of pairs.
    pub fn miner(self, miner: Miner) -> Self {
        Self { miner, ..self }
    }

    /// The loss of all pairs `i < j`, with a backward pass to the embeddings.
    ///
    /// `embeddings` are (N, D), f16, bf16, f32 or f64, with any strides, N at least 2. `labels` are
    /// (N,), integers of any of candle's types.
    ///
    /// # Errors
    ///
    /// Where shapes, types or devices do not fit, there is no pair, or the tensors are on a device
    /// that this loss is not written for.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor, LossError> {
        check_batch(embeddings, labels)?;
        let op = Op::new(*self, &[labels], [embeddings.track_op(), false])?;
        Ok(embeddings.apply_op1(op)?)
    }

    /// The loss of all pairs of a query and a reference, with a backward pass to those of the two
    /// that are tracked. A row of one batch that is also in the other is a pair like any other.
    ///
    /// `queries` are (N, D) and `references` (M, D), of one type, each with its labels, (N,) and
    /// (M,). For a memory of earlier batches see [`XbmMemory`](crate::XbmMemory).
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), or where the two do not fit each other.
    pub fn forward_against(
        &self,
        queries: &Tensor,
        query_labels: &Tensor,
        references: &Tensor,
        reference_labels: &Tensor,
    ) -> Result<Tensor, LossError> {
        check(queries, query_labels)?;
        check(references, reference_labels)?;
        if queries.dims()[1] != references.dims()[1] {
            return Err(LossError::Dimensions {
                queries: queries.shape().clone(),
                references: references.shape().clone(),
            });
        }
        if queries.dtype() != references.dtype() {
            return Err(LossError::EmbeddingTypes {
                a: queries.dtype(),
                b: references.dtype(),
            });
        }
        if !queries.device().same_device(references.device()) {
            return Err(LossError::Devices {
                a: queries.device().location(),
                b: references.device().location(),
                labels: query_labels.device().location(),
            });
        }
        let op = Op::new(
            *self,
            &[query_labels, reference_labels],
            [queries.track_op(), references.track_op()],
        )?;
        Ok(queries.apply_op2(references, op)?)
    }

    /// The loss and the gradient of the embeddings, (N, D), without a graph.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn loss_and_gradient(
        &self,
        embeddings: &Tensor,
        labels: &Tensor,
    ) -> Result<(Tensor, Tensor), LossError> {
        check_batch(embeddings, labels)?;
        let op = Op::new(*self, &[labels], [true, false])?;
        let loss = embeddings.apply_op1_no_bwd(&op)?;
        let [gradient, _] = op.gradients(&[embeddings], &loss.ones_like()?)?;
        Ok((loss, gradient.unwrap_or_else(|| embeddings.clone())))
    }
}

/// Of a batch whose own rows make the pairs.
fn check_batch(embeddings: &Tensor, labels: &Tensor) -> Result<(), LossError> {
    check(embeddings, labels)?;
    if embeddings.dims()[0] < 2 {
        return Err(LossError::NoPair(embeddings.shape().clone()));
    }
    Ok(())
}

fn check(embeddings: &Tensor, labels: &Tensor) -> Result<(), LossError> {
    if embeddings.rank() != 2 {
        return Err(LossError::BatchShape(embeddings.shape().clone()));
    }
    check_size(embeddings.shape())?;
    if embeddings.elem_count() == 0 {
        return Err(LossError::NoPair(embeddings.shape().clone()));
    }
    if labels.dims() != &embeddings.dims()[..1] {
        return Err(LossError::ClassShape {
            embeddings: embeddings.shape().clone(),
            labels: labels.shape().clone(),
        });
    }
    if !matches!(
        embeddings.dtype(),
        DType::F16 | DType::BF16 | DType::F32 | DType::F64
    ) {
        return Err(LossError::BatchType(embeddings.dtype()));
    }
    if !labels.dtype().is_int() {
        return Err(LossError::ClassType(labels.dtype()));
    }
    let (device, labels_device) = (embeddings.device(), labels.device());
    if !(device.is_cpu() || cfg!(feature = "cuda") && device.is_cuda()) {
        return Err(LossError::UnsupportedDevice(device.location()));
    }
    if !device.same_device(labels_device) {
        return Err(LossError::Devices {
            a: device.location(),
            b: device.location(),
            labels: labels_device.location(),
        });
    }
    Ok(())
}
