//! The CustomOps over given pairs: the loss, and the gradients of both sides.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp3, DType, Device, Layout, Result, Shape, Storage, Tensor, bail,
};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{ContrastiveLoss, Reduction, cpu};
use crate::element::with_element;

/// The loss. On the CPU it can leave the gradients for the backward pass, so that the embeddings are
/// read once.
pub(super) struct Forward {
    loss: ContrastiveLoss,
    /// Whether it leaves them.
    ahead: bool,
    /// For a `grad_output` of 1, (2, N, D). The first backward pass takes them, another makes them anew.
    saved: Mutex<Option<Tensor>>,
}

impl Forward {
    /// `tracked`: whether the gradients will be asked for.
    pub(super) fn new(loss: ContrastiveLoss, tracked: bool) -> Self {
        Self {
            loss,
            // Losses of single pairs are there to be weighted: their gradients' factors are not 1.
            ahead: tracked && loss.reduction != Reduction::None,
            saved: Mutex::default(),
        }
    }

    /// What a forward pass has left.
    pub(super) fn take(&self) -> Option<Tensor> {
        self.saved().take()
    }

    fn saved(&self) -> MutexGuard<'_, Option<Tensor>> {
        // What it holds is whole or not there.
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    ) -> Result<(CpuStorage, Shape)> {
        let (n, d) = a_layout.shape().dims2()?;
        let (a, b, same) = ((a, a_layout), (b, b_layout), (same, same_layout));
        let losses = with_element!(a.0.dtype(), S => {
            if self.ahead {
                let (value, both) = cpu::loss_and_gradients::<S>(self.loss, a, b, same)?;
                let both = Tensor::from_vec(both, (2, n, d), &Device::Cpu)?;
                *self.saved() = Some(both);
                value
            } else {
                cpu::forward::<S>(self.loss, a, b, same)?
            }
        });
        Ok((losses, self.loss.shape(n)))
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
    ) -> Result<(CudaStorage, Shape)> {
        let (a, b, same) = ((a, a_layout), (b, b_layout), (same, same_layout));
        let losses = with_element!(a.0.dtype(), S => cuda::forward::<S>(self.loss, a, b, same))?;
        Ok((losses, self.loss.shape(a_layout.dims()[0])))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        same: &Tensor,
        _loss: &Tensor,
        grad_output: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut saved = self.take();
        // Multiplied with another factor they would be rounded twice, and as much memory would be
        // moved as to compute them anew.
        if saved.is_some() && grad_output.to_dtype(DType::F64)?.to_scalar::<f64>()? != 1.0 {
            saved = None;
        }
        let both = match saved {
            Some(both) => both,
            None => self.loss.both_gradients(a, b, same, grad_output)?,
        };
        let side = |of: &Tensor, index| of.track_op().then(|| both.get(index)).transpose();
        Ok((side(a, 0)?, side(b, 1)?, None))
    }
}

/// Gradients of both sides, stacked: a CustomOp returns one tensor. It takes at most three, so the
/// fourth rides along.
pub(super) struct Backward {
    pub(super) loss: ContrastiveLoss,
    pub(super) grad_output: Tensor,
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
    ) -> Result<(CpuStorage, Shape)> {
        let (grad_output, grad_output_layout) = self.grad_output.storage_and_layout();
        let Storage::Cpu(grad_output) = &*grad_output else {
            bail!(
                "{}: the gradient of the output is not on the CPU",
                self.name()
            );
        };
        let (n, d) = a_layout.shape().dims2()?;
        let (a, b, same) = ((a, a_layout), (b, b_layout), (same, same_layout));
        let grad_output = (grad_output, grad_output_layout);
        let gradients = with_element!(a.0.dtype(), S => {
            cpu::backward::<S>(self.loss, a, b, same, grad_output)
        })?;
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
    ) -> Result<(CudaStorage, Shape)> {
        let (grad_output, grad_output_layout) = self.grad_output.storage_and_layout();
        let Storage::Cuda(grad_output) = &*grad_output else {
            bail!(
                "{}: the gradient of the output is not on the GPU",
                self.name()
            );
        };
        let (n, d) = a_layout.shape().dims2()?;
        let (a, b, same) = ((a, a_layout), (b, b_layout), (same, same_layout));
        let grad_output = (grad_output, grad_output_layout);
        let gradients = with_element!(a.0.dtype(), S => {
            cuda::backward::<S>(self.loss, a, b, same, grad_output)
        })?;
        Ok((gradients, (2, n, d).into()))
    }
}
