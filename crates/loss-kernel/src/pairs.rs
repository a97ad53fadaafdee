//! The loss over given pairs as a candle CustomOp. The arithmetic is in [`crate::energy`], the
//! loops are in `cpu.rs` and, for a GPU, in `kernels/pairs.cu` behind `cuda.rs`.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Shape, Storage, Tensor};
use serde::{Deserialize, Serialize};

#[cfg(feature = "cuda")]
use crate::cuda;
use crate::error::check_size;
use crate::{LossError, Variant, cpu};

/// How far apart dissimilar pairs are pushed; positive and finite. Caffe's default is 1.
///
/// The exponential variants read it as `Q`, the upper bound of the distance.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Margin(f64);

impl Margin {
    /// Checks the value.
    pub fn new(value: f64) -> Result<Self, LossError> {
        if value.is_finite() && value > 0.0 {
            Ok(Self(value))
        } else {
            Err(LossError::Margin(value))
        }
    }

    /// The number itself, in units of the embedding's distance.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Margin {
    fn default() -> Self {
        Self(1.0)
    }
}

impl TryFrom<f64> for Margin {
    type Error = LossError;

    fn try_from(value: f64) -> Result<Self, LossError> {
        Self::new(value)
    }
}

impl From<Margin> for f64 {
    fn from(margin: Margin) -> Self {
        margin.0
    }
}

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
    pub(crate) margin: Margin,
    pub(crate) variant: Variant,
    pub(crate) reduction: Reduction,
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
    /// [`forward`](Self::forward) computes from `upstream`, the gradient of its result (a scalar,
    /// or (N,) with [`Reduction::None`], of the embeddings' type).
    ///
    /// Both are views of one (2, N, D) tensor, and nothing else is allocated.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward); or where `upstream` has another shape, type or device than
    /// the result.
    pub fn gradient(
        &self,
        a: &Tensor,
        b: &Tensor,
        same: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Tensor, Tensor), LossError> {
        check(a, b, same)?;
        self.check_upstream(a, upstream)?;
        let backward = Backward {
            loss: *self,
            upstream: upstream.clone(),
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

    fn check_upstream(&self, a: &Tensor, upstream: &Tensor) -> Result<(), LossError> {
        let shape = self.shape(a.dims()[0]);
        if upstream.shape() == &shape
            && upstream.dtype() == a.dtype()
            && upstream.device().same_device(a.device())
        {
            return Ok(());
        }
        Err(LossError::Upstream {
            expected: (shape, a.dtype(), a.device().location()),
            found: (
                upstream.shape().clone(),
                upstream.dtype(),
                upstream.device().location(),
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

struct Forward(ContrastiveLoss);

impl CustomOp3 for Forward {
    fn name(&self) -> &'static str {
        "contrastive-loss"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        same: &CpuStorage,
        same_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let losses = cpu::forward(self.0, (a, a_layout), (b, b_layout), (same, same_layout))?;
        Ok((losses, self.0.shape(a_layout.dims()[0])))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
        same: &CudaStorage,
        same_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let losses = cuda::forward(self.0, (a, a_layout), (b, b_layout), (same, same_layout))?;
        Ok((losses, self.0.shape(a_layout.dims()[0])))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        same: &Tensor,
        _loss: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (of_a, of_b) = self.0.gradient(a, b, same, upstream)?;
        Ok((Some(of_a), Some(of_b), None))
    }
}

/// Gradients of both sides, stacked: a CustomOp returns one tensor. It takes at most three, so the
/// fourth rides along.
struct Backward {
    loss: ContrastiveLoss,
    upstream: Tensor,
}

impl CustomOp3 for Backward {
    fn name(&self) -> &'static str {
        "contrastive-loss-backward"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        same: &CpuStorage,
        same_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (upstream, upstream_layout) = self.upstream.storage_and_layout();
        let Storage::Cpu(upstream) = &*upstream else {
            candle_core::bail!("{}: the result's gradient is not on the CPU", self.name());
        };
        let (n, d) = a_layout.shape().dims2()?;
        let gradients = cpu::backward(
            self.loss,
            (a, a_layout),
            (b, b_layout),
            (same, same_layout),
            (upstream, upstream_layout),
        )?;
        Ok((gradients, (2, n, d).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
        same: &CudaStorage,
        same_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let (upstream, upstream_layout) = self.upstream.storage_and_layout();
        let Storage::Cuda(upstream) = &*upstream else {
            candle_core::bail!("{}: the result's gradient is not on the GPU", self.name());
        };
        let (n, d) = a_layout.shape().dims2()?;
        let gradients = cuda::backward(
            self.loss,
            (a, a_layout),
            (b, b_layout),
            (same, same_layout),
            (upstream, upstream_layout),
        )?;
        Ok((gradients, (2, n, d).into()))
    }
}
