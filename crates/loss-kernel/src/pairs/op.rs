//! The CustomOps over given pairs: the loss, and the gradients of both sides.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{ContrastiveLoss, cpu};
use crate::element::with_element;

pub(super) struct Forward(pub(super) ContrastiveLoss);

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
        let (a, b, same) = ((a, a_layout), (b, b_layout), (same, same_layout));
        let losses = with_element!(a.0.dtype(), S => cpu::forward::<S>(self.0, a, b, same))?;
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
    ) -> Result<(CudaStorage, Shape)> {
        let (a, b, same) = ((a, a_layout), (b, b_layout), (same, same_layout));
        let losses = with_element!(a.0.dtype(), S => cuda::forward::<S>(self.0, a, b, same))?;
        Ok((losses, self.0.shape(a_layout.dims()[0])))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        same: &Tensor,
        _loss: &Tensor,
        grad_output: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (of_a, of_b) = self.0.gradient(a, b, same, grad_output)?;
        Ok((Some(of_a), Some(of_b), None))
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
