//! The loss over all pairs of a batch. The arithmetic of a pair is in [`crate::energy`], the
//! candle CustomOp in `op.rs`, the loops over the pairs in `cpu.rs` and, for a GPU, in
//! `kernels/in_batch.cu` behind `cuda.rs`.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod miner;
mod op;
mod reduction;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use self::op::Op;
use crate::error::{check_devices, check_size, check_types, refuse};
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
/// with N: about 100 bytes a row, and a few tiles a thread.
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

    /// Sets the formula.
    pub fn variant(self, variant: Variant) -> Self {
        Self { variant, ..self }
    }

    /// Sets what the losses of the pairs become.
    pub fn reduction(self, reduction: InBatchReduction) -> Self {
        Self { reduction, ..self }
    }

    /// Sets whether similar and dissimilar pairs weigh the same, however many there are of each: a pair
    /// has weight `P/(2·P_kind)` before the reduction, where `P` is the number of pairs that the
    /// reduction counts and `P_kind` that of those of its kind. A mean is then the average of the
    /// two kinds' means; a kind without pairs has mean 0.
    pub fn balanced(self, balanced: bool) -> Self {
        Self { balanced, ..self }
    }

    /// Sets whether each embedding is first divided by its Euclidean length. The gradient goes through
    /// the division. An embedding of zeros stays as it is, and has gradient 0.
    pub fn normalised(self, normalised: bool) -> Self {
        Self { normalised, ..self }
    }

    /// Sets which pairs count.
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
    /// If shapes, types or devices do not fit, there is no pair, or the tensors are on a device
    /// that this loss is not written for.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor, LossError> {
        check_batch(embeddings, labels)?;
        let op = Op::new(*self, &[labels], [embeddings.track_op(), false])?;
        Ok(embeddings.apply_op1(op)?)
    }

    /// The loss of all pairs of an anchor and a reference, with a backward pass to those of the two
    /// that are tracked. A row of one batch that is also in the other is a pair like any other.
    ///
    /// `anchors` are (N, D) and `references` (M, D), of one type, each with its labels, (N,) and
    /// (M,). For a memory of earlier batches see [`XbmMemory`](crate::XbmMemory).
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), or if the two do not fit each other.
    pub fn forward_against(
        &self,
        anchors: &Tensor,
        anchor_labels: &Tensor,
        references: &Tensor,
        reference_labels: &Tensor,
    ) -> Result<Tensor, LossError> {
        check(anchors, anchor_labels)?;
        check(references, reference_labels)?;
        if anchors.dims()[1] != references.dims()[1] {
            refuse!(
                Shape,
                "anchors and references must have the same dimensions, got {:?} and {:?}",
                anchors.shape(),
                references.shape()
            );
        }
        check_types(&[anchors, references])?;
        check_devices(&[anchors, references])?;
        let op = Op::new(
            *self,
            &[anchor_labels, reference_labels],
            [anchors.track_op(), references.track_op()],
        )?;
        Ok(anchors.apply_op2(references, op)?)
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

/// Checks a batch whose own rows make the pairs.
fn check_batch(embeddings: &Tensor, labels: &Tensor) -> Result<(), LossError> {
    check(embeddings, labels)?;
    check_rows(embeddings, 2)
}

/// Refuses a batch that is too small for a pair.
fn check_rows(embeddings: &Tensor, least: usize) -> Result<(), LossError> {
    if embeddings.dims()[0] < least || embeddings.dims()[1] == 0 {
        refuse!(
            Shape,
            "a pair needs two embeddings of at least one dimension, got {:?}; leave out a last \
             batch that is too small",
            embeddings.shape()
        );
    }
    Ok(())
}

fn check(embeddings: &Tensor, labels: &Tensor) -> Result<(), LossError> {
    if embeddings.rank() != 2 {
        refuse!(
            Shape,
            "the embeddings of a batch must be (batch, dimensions), got {:?}",
            embeddings.shape()
        );
    }
    check_size(embeddings)?;
    check_rows(embeddings, 1)?;
    if labels.dims() != &embeddings.dims()[..1] {
        refuse!(
            Shape,
            "one label an embedding is needed: embeddings are {:?}, labels are {:?}",
            embeddings.shape(),
            labels.shape()
        );
    }
    check_types(&[embeddings])?;
    if !labels.dtype().is_int() {
        refuse!(
            DType,
            "the labels of a batch must be integers, which name classes, got {:?}",
            labels.dtype()
        );
    }
    let device = embeddings.device();
    if !(device.is_cpu() || cfg!(feature = "cuda") && device.is_cuda()) {
        refuse!(
            Device,
            "the loss over all pairs of a batch runs on the CPU and, built with the feature \
             `cuda`, on NVIDIA GPUs; got a tensor on {:?}",
            device.location()
        );
    }
    check_devices(&[embeddings, labels])
}
