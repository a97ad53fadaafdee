//! The loss over given pairs. The arithmetic of a pair is in [`crate::energy`], the candle
//! CustomOps are in `op.rs`, the loops over the pairs in `cpu.rs` and, for a GPU, in
//! `kernels/pairs.cu` behind `cuda.rs`.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod op;

use candle_core::{DType, Shape, Tensor};
use serde::{Deserialize, Serialize};

use self::op::{Backward, Forward};
use crate::error::{check_devices, check_size, check_types, is_float, refuse};
use crate::{LossError, Margin, Variant};

/// What the losses of the pairs become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// Their mean over all pairs, a scalar: Caffe's `1/(2N)·Σ`, the ½ being in each pair's loss.
    #[default]
    Mean,
    /// Their sum, a scalar.
    Sum,
    /// The losses as they are, (N,).
    None,
}

/// Contrastive loss of N given pairs of D-dimensional embeddings.
///
/// Deterministic: the same bits for the same input, for any number of threads and on every run on
/// a GPU; CPU and GPU differ by rounding. Sums are taken in
/// f32 for f16, bf16 and f32 embeddings (over the pairs in f64), and in f64 for f64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContrastiveLoss {
    margin: Margin,
    variant: Variant,
    reduction: Reduction,
    #[serde(default)]
    normalised: bool,
}

impl ContrastiveLoss {
    /// The mean of [`Variant::Hadsell`] over the pairs.
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
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Sets whether each embedding is first divided by its Euclidean length. The gradient goes through
    /// the division. An embedding of zeros stays as it is, and has gradient 0.
    pub fn normalised(self, normalised: bool) -> Self {
        Self { normalised, ..self }
    }

    /// The loss, with a backward pass to both sides.
    ///
    /// `a` and `b` are (N, D) of one type, f16, bf16, f32 or f64, with any strides. `same` is (N,),
    /// u8, u32 or floats: 1 for a similar pair, 0 for a dissimilar one. The result has the
    /// embeddings' type and is a scalar, or (N,) with [`Reduction::None`]. To
    /// weight the loss, multiply the result.
    ///
    /// On the CPU a scalar loss of embeddings that candle tracks comes with its gradients, so that they
    /// are read once for both. Until the backward pass it keeps them, the (2, N, D) that this pass would
    /// otherwise allocate; one from a factor other than 1, as of a weighted loss, computes them anew.
    /// A loss that is only looked at is cheaper of [detached](Tensor::detach) embeddings.
    ///
    /// On a GPU the call does not wait for the device and so cannot check the labels: a pair whose
    /// label is neither 0 nor 1 has a loss and gradients of NaN there.
    ///
    /// # Errors
    ///
    /// If shapes, types or devices do not fit, the batch is empty, or, on the CPU, a label is neither
    /// 0 nor 1.
    pub fn forward(&self, a: &Tensor, b: &Tensor, same: &Tensor) -> Result<Tensor, LossError> {
        check(a, b, same)?;
        let ahead = a.device().is_cpu() && (a.track_op() || b.track_op());
        Ok(a.apply_op3(b, same, Forward::new(*self, ahead))?)
    }

    /// The loss, as [`forward`](Self::forward) has it, and the gradients of both sides, each (N, D),
    /// without a graph; of the losses of [`Reduction::None`], those of their sum.
    ///
    /// On the CPU the embeddings are read once, but for [`Reduction::None`]. The gradients are views of
    /// one (2, N, D) tensor, and nothing else of that size is allocated. Of embeddings that are variables
    /// themselves, [`GradStore::insert`](candle_core::backprop::GradStore::insert) takes them as they
    /// are, where candle's backward pass adds them to zeros.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn loss_and_gradient(
        &self,
        a: &Tensor,
        b: &Tensor,
        same: &Tensor,
    ) -> Result<(Tensor, (Tensor, Tensor)), LossError> {
        check(a, b, same)?;
        let op = Forward::new(*self, a.device().is_cpu());
        let loss = a.apply_op3_no_bwd(b, same, &op)?;
        let both = match op.take() {
            Some(both) => both,
            None => self.both_gradients(a, b, same, &loss.ones_like()?)?,
        };
        Ok((loss, (both.get(0)?, both.get(1)?)))
    }

    /// The gradients of both sides, each (N, D), without a graph: what the backward pass of
    /// [`forward`](Self::forward) computes from `grad_output`, the gradient of its result (a scalar,
    /// or (N,) with [`Reduction::None`], of the embeddings' type).
    ///
    /// Both are views of one (2, N, D) tensor. Nothing else of that size is allocated.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), or if `grad_output` has another shape, type or device than
    /// the result.
    pub fn gradient(
        &self,
        a: &Tensor,
        b: &Tensor,
        same: &Tensor,
        grad_output: &Tensor,
    ) -> Result<(Tensor, Tensor), LossError> {
        check(a, b, same)?;
        self.check_grad_output(a, grad_output)?;
        let both = self.both_gradients(a, b, same, grad_output)?;
        Ok((both.get(0)?, both.get(1)?))
    }

    /// The gradients of both sides, (2, N, D), of arguments that have been checked.
    fn both_gradients(
        &self,
        a: &Tensor,
        b: &Tensor,
        same: &Tensor,
        grad_output: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let backward = Backward {
            loss: *self,
            grad_output: grad_output.clone(),
        };
        a.apply_op3_no_bwd(b, same, &backward)
    }

    /// The shape of the loss of `pairs` pairs.
    fn shape(&self, pairs: usize) -> Shape {
        match self.reduction {
            Reduction::Mean | Reduction::Sum => ().into(),
            Reduction::None => pairs.into(),
        }
    }

    fn check_grad_output(&self, a: &Tensor, grad_output: &Tensor) -> Result<(), LossError> {
        let shape = self.shape(a.dims()[0]);
        let kind = if grad_output.shape() != &shape {
            LossError::Shape
        } else if grad_output.dtype() != a.dtype() {
            LossError::DType
        } else if !grad_output.device().same_device(a.device()) {
            LossError::Device
        } else {
            return Ok(());
        };
        let expected = (shape, a.dtype(), a.device().location());
        let found = (
            grad_output.shape(),
            grad_output.dtype(),
            grad_output.device().location(),
        );
        Err(kind(format!(
            "the gradient of the output must have the output's shape, type and device, \
             {expected:?}, got {found:?}"
        )))
    }
}

/// The mean [`Variant::Hadsell`] loss of the pairs, see [`ContrastiveLoss::forward`].
///
/// # Errors
///
/// As [`ContrastiveLoss::forward`], or if the margin is not positive and finite.
pub fn contrastive_loss(
    a: &Tensor,
    b: &Tensor,
    same: &Tensor,
    margin: f64,
) -> Result<Tensor, LossError> {
    ContrastiveLoss::new(Margin::new(margin)?).forward(a, b, same)
}

fn check(a: &Tensor, b: &Tensor, same: &Tensor) -> Result<(), LossError> {
    if a.rank() != 2 || a.dims() != b.dims() {
        refuse!(
            Shape,
            "the embeddings of a batch of pairs must both be (pairs, dimensions), got {:?} and {:?}",
            a.shape(),
            b.shape()
        );
    }
    check_size(a)?;
    if a.elem_count() == 0 {
        refuse!(
            Shape,
            "a batch must have at least one pair of at least one dimension, got {:?}",
            a.shape()
        );
    }
    if same.dims() != &a.dims()[..1] {
        refuse!(
            Shape,
            "one label a pair is needed: embeddings are {:?}, labels are {:?}",
            a.shape(),
            same.shape()
        );
    }
    check_types(&[a, b])?;
    if !(is_float(same.dtype()) || matches!(same.dtype(), DType::U8 | DType::U32)) {
        refuse!(
            DType,
            "the labels must be u8, u32 or floats, got {:?}",
            same.dtype()
        );
    }
    check_devices(&[a, b, same])
}
