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
use crate::error::check_size;
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

    /// With another formula.
    pub fn variant(self, variant: Variant) -> Self {
        Self { variant, ..self }
    }

    /// With another reduction.
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// The loss, with a backward pass to both sides.
    ///
    /// `a` and `b` are (N, D) of one type, f16, bf16, f32 or f64, with any strides. `same` is (N,),
    /// u8, u32 or floats: 1 for a similar pair, 0 for a dissimilar one. The result has the
    /// embeddings' type and is a scalar, or (N,) with [`Reduction::None`]. A loss weight comes in
    /// as the result's gradient: multiply the result by it.
    ///
    /// On a GPU nothing waits for it, and so no label is looked at here: a pair whose label is
    /// neither 0 nor 1 has a loss and gradients of NaN there.
    ///
    /// # Errors
    ///
    /// Where shapes, types or devices do not fit, the batch is empty, or, on the CPU, a label is
    /// neither 0 nor 1.
    pub fn forward(&self, a: &Tensor, b: &Tensor, same: &Tensor) -> Result<Tensor, LossError> {
        check(a, b, same)?;
        Ok(a.apply_op3(b, same, Forward(*self))?)
    }

    /// The gradients of both sides, each (N, D), without a graph: what the backward pass of
    /// [`forward`](Self::forward) computes from `grad_output`, the gradient of its result (a scalar,
    /// or (N,) with [`Reduction::None`], of the embeddings' type).
    ///
    /// Both are views of one (2, N, D) tensor, and nothing else is allocated.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward); or where `grad_output` has another shape, type or device than
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
        let backward = Backward {
            loss: *self,
            grad_output: grad_output.clone(),
        };
        let both = a.apply_op3_no_bwd(b, same, &backward)?;
        Ok((both.get(0)?, both.get(1)?))
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
        if grad_output.shape() == &shape
            && grad_output.dtype() == a.dtype()
            && grad_output.device().same_device(a.device())
        {
            return Ok(());
        }
        Err(LossError::Upstream {
            expected: (shape, a.dtype(), a.device().location()),
            found: (
                grad_output.shape().clone(),
                grad_output.dtype(),
                grad_output.device().location(),
            ),
        })
    }
}

/// The mean [`Variant::Hadsell`] loss of the pairs, see [`ContrastiveLoss::forward`].
///
/// # Errors
///
/// As [`ContrastiveLoss::forward`], or where the margin is not positive and finite.
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
        return Err(LossError::EmbeddingShapes {
            a: a.shape().clone(),
            b: b.shape().clone(),
        });
    }
    check_size(a.shape())?;
    if a.elem_count() == 0 {
        return Err(LossError::Empty(a.shape().clone()));
    }
    if same.dims() != &a.dims()[..1] {
        return Err(LossError::LabelShape {
            embeddings: a.shape().clone(),
            labels: same.shape().clone(),
        });
    }
    let float = |dtype| matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    if a.dtype() != b.dtype() || !float(a.dtype()) {
        return Err(LossError::EmbeddingTypes {
            a: a.dtype(),
            b: b.dtype(),
        });
    }
    if !(float(same.dtype()) || matches!(same.dtype(), DType::U8 | DType::U32)) {
        return Err(LossError::LabelType(same.dtype()));
    }
    if !a.device().same_device(b.device()) || !a.device().same_device(same.device()) {
        return Err(LossError::Devices {
            a: a.device().location(),
            b: b.device().location(),
            labels: same.device().location(),
        });
    }
    Ok(())
}
