//! The loss over all pairs of a batch, as a candle CustomOp. The arithmetic of a pair is in
//! [`crate::energy`], that of a tile of pairs in `tile.rs` and, for a GPU, in `kernels/in_batch.cu`
//! behind `cuda.rs`.

mod classes;
#[cfg(feature = "cuda")]
mod cuda;
mod evaluate;
mod lanes;
mod matrix;
mod miner;
mod reduction;
mod rounds;
mod source;
mod tile;
mod weigh;

use std::ops::{AddAssign, MulAssign, SubAssign};
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Shape, Storage, Tensor, WithDType,
};
use num_traits::Float;
use serde::{Deserialize, Serialize};

use self::classes::Classes;
use self::evaluate::evaluate;
use self::reduction::Totals;
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
        #[cfg(feature = "cuda")]
        if embeddings.device().is_cuda() {
            return Ok(cuda::forward(*self, (embeddings, labels))?);
        }
        Ok(embeddings.apply_op1(self.of_batch(embeddings, labels)?)?)
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
        #[cfg(feature = "cuda")]
        if queries.device().is_cuda() {
            let references = (references, reference_labels);
            return Ok(cuda::forward_against(
                *self,
                (queries, query_labels),
                references,
            )?);
        }
        let op = Op {
            loss: *self,
            classes: Classes::of_batches([query_labels, reference_labels])?.into(),
            wanted: [queries.track_op(), references.track_op()],
            gradients: Mutex::default(),
        };
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
        #[cfg(feature = "cuda")]
        if embeddings.device().is_cuda() {
            return Ok(cuda::loss_and_gradient(*self, (embeddings, labels))?);
        }
        let op = Op {
            wanted: [true, false],
            ..self.of_batch(embeddings, labels)?
        };
        let loss = embeddings.apply_op1_no_bwd(&op)?;
        let [gradient, _] = op.gradients(&loss.ones_like()?, embeddings, None)?;
        Ok((loss, gradient.unwrap_or_else(|| embeddings.clone())))
    }

    fn of_batch(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Op, LossError> {
        Ok(Op {
            loss: *self,
            classes: Classes::of_batches([labels])?.into(),
            wanted: [embeddings.track_op(), false],
            gradients: Mutex::default(),
        })
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

/// The number type of the sums.
trait Real: Float + AddAssign + MulAssign + SubAssign + Default + WithDType {
    fn next_up(self) -> Self;
}

impl Real for f32 {
    fn next_up(self) -> Self {
        self.next_up()
    }
}

impl Real for f64 {
    fn next_up(self) -> Self {
        self.next_up()
    }
}

/// A gradient as it was summed, to be multiplied by `factor` still.
struct Wide {
    factor: f64,
    values: CpuStorage,
}

impl Wide {
    fn times(self, upstream: f64, like: &Tensor) -> candle_core::Result<Tensor> {
        fn scaled<W: Real>(
            mut values: Vec<W>,
            factor: f64,
            shape: &Shape,
        ) -> candle_core::Result<Tensor> {
            let factor = W::from_f64(factor);
            for value in &mut values {
                *value *= factor;
            }
            Tensor::from_vec(values, shape, &Device::Cpu)
        }
        let factor = self.factor * upstream;
        match self.values {
            CpuStorage::F32(values) => scaled(values, factor, like.shape())?,
            CpuStorage::F64(values) => scaled(values, factor, like.shape())?,
            other => candle_core::bail!("a gradient summed in {:?}", other.dtype()),
        }
        .to_dtype(like.dtype())
    }
}

struct Op {
    loss: InBatchContrastiveLoss,
    /// Of the batch, and of the other where there is one.
    classes: Vec<Classes>,
    wanted: [bool; 2],
    /// From the forward pass; the first backward pass takes them, another makes them anew.
    gradients: Mutex<Option<[Option<Wide>; 2]>>,
}

impl Op {
    fn run(&self, batches: &[evaluate::View]) -> candle_core::Result<(f64, [Option<Wide>; 2])> {
        let mut batches = batches.iter().copied().zip(&self.classes);
        let Some(first) = batches.next() else {
            candle_core::bail!("{}: no batch", CustomOp1::name(self));
        };
        evaluate(self.loss, (first, batches.next()), self.wanted)
    }

    fn forward(&self, batches: &[evaluate::View]) -> candle_core::Result<(CpuStorage, Shape)> {
        let (value, gradients) = self.run(batches)?;
        *self.kept() = Some(gradients);
        let value = match batches[0].0.dtype() {
            DType::F16 => half::f16::to_cpu_storage_owned(vec![half::f16::from_f64(value)]),
            DType::BF16 => half::bf16::to_cpu_storage_owned(vec![half::bf16::from_f64(value)]),
            DType::F64 => f64::to_cpu_storage_owned(vec![value]),
            _ => f32::to_cpu_storage_owned(vec![value as f32]),
        };
        Ok((value, ().into()))
    }

    fn gradients(
        &self,
        upstream: &Tensor,
        first: &Tensor,
        second: Option<&Tensor>,
    ) -> candle_core::Result<[Option<Tensor>; 2]> {
        let kept = self.kept().take();
        let [of_first, of_second] = match kept {
            Some(gradients) => gradients,
            None => {
                let tensors: Vec<_> = [Some(first), second]
                    .into_iter()
                    .flatten()
                    .map(Tensor::storage_and_layout)
                    .collect();
                let views = tensors
                    .iter()
                    .map(|(storage, layout)| match &**storage {
                        Storage::Cpu(storage) => Ok((storage, *layout)),
                        _ => candle_core::bail!("{}: not on the CPU", CustomOp1::name(self)),
                    })
                    .collect::<candle_core::Result<Vec<_>>>()?;
                self.run(&views)?.1
            }
        };
        let upstream = upstream.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let times = |gradient: Option<Wide>, like: Option<&Tensor>| {
            gradient
                .zip(like)
                .map(|(gradient, like)| gradient.times(upstream, like))
                .transpose()
        };
        Ok([times(of_first, Some(first))?, times(of_second, second)?])
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<[Option<Wide>; 2]>> {
        // What it holds is whole or not there.
        self.gradients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "in-batch-contrastive-loss"
    }

    fn cpu_fwd(
        &self,
        embeddings: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward(&[(embeddings, layout)])
    }

    fn bwd(
        &self,
        embeddings: &Tensor,
        _loss: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        let [gradient, _] = self.gradients(upstream, embeddings, None)?;
        Ok(gradient)
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        CustomOp1::name(self)
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        query_layout: &Layout,
        references: &CpuStorage,
        reference_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward(&[(queries, query_layout), (references, reference_layout)])
    }

    fn bwd(
        &self,
        queries: &Tensor,
        references: &Tensor,
        _loss: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let [of_queries, of_references] = self.gradients(upstream, queries, Some(references))?;
        Ok((of_queries, of_references))
    }
}
