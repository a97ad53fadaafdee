//! The CustomOp over all pairs: the same for one batch and for two, on the CPU and on a GPU.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, WithDType,
};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{InBatchContrastiveLoss, cpu};
use crate::element::with_element;
use crate::embeddings::View;

/// The loss over the pairs of one batch, as a [`CustomOp1`], or of two, as a [`CustomOp2`].
pub(super) struct Op {
    pub(super) loss: InBatchContrastiveLoss,
    /// Of each batch, contiguous i64.
    pub(super) labels: Vec<Tensor>,
    /// Which batches need a gradient.
    pub(super) wanted: [bool; 2],
    /// Left by a forward pass. The first backward pass takes it, another makes it anew.
    saved: Mutex<Option<Saved>>,
}

/// What a forward pass leaves for the backward pass.
enum Saved {
    Gradients([Option<cpu::Gradient>; 2]),
    #[cfg(feature = "cuda")]
    Workspace(cuda::Workspace),
}

impl Op {
    pub(super) const NAME: &str = "in-batch-contrastive-loss";

    pub(super) fn new(
        loss: InBatchContrastiveLoss,
        labels: &[&Tensor],
        wanted: [bool; 2],
    ) -> Result<Self> {
        let labels = labels.iter().map(|labels| whole(labels)?.contiguous());
        Ok(Self {
            loss,
            labels: labels.collect::<Result<_>>()?,
            wanted,
            saved: Mutex::default(),
        })
    }

    fn cpu(&self, batches: &[View]) -> Result<(CpuStorage, Shape)> {
        let (value, gradients) = with_element!(batches[0].0.dtype(), S => {
            let (value, gradients) = cpu::evaluate::<S>(self, batches)?;
            (S::to_cpu_storage_owned(vec![S::from_f64(value)]), gradients)
        });
        *self.saved() = Some(Saved::Gradients(gradients));
        Ok((value, ().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, batches: &[crate::cuda::View]) -> Result<(CudaStorage, Shape)> {
        let (value, workspace) =
            with_element!(batches[0].0.dtype(), S => cuda::forward::<S>(self, batches))?;
        *self.saved() = Some(Saved::Workspace(workspace));
        Ok((value, ().into()))
    }

    pub(super) fn gradients(
        &self,
        batches: &[&Tensor],
        grad_output: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let saved = loop {
            if let Some(saved) = self.saved().take() {
                break saved;
            }
            match batches {
                [one] => one.apply_op1_no_bwd(self)?,
                _ => batches[0].apply_op2_no_bwd(batches[1], self)?,
            };
        };
        let mut gradients = [None, None];
        match saved {
            Saved::Gradients(found) => {
                let grad_output = grad_output.to_dtype(DType::F64)?.to_scalar()?;
                for ((to, found), like) in gradients.iter_mut().zip(found).zip(batches) {
                    *to = found.map(|of| of.times(grad_output, like)).transpose()?;
                }
            }
            #[cfg(feature = "cuda")]
            Saved::Workspace(workspace) => {
                for (side, like) in batches.iter().enumerate().filter(|(i, _)| self.wanted[*i]) {
                    let gradient = cuda::gradient(self, batches, grad_output, &workspace, side)?;
                    gradients[side] = Some(gradient.to_dtype(like.dtype())?);
                }
            }
        }
        Ok(gradients)
    }

    fn saved(&self) -> MutexGuard<'_, Option<Saved>> {
        // What it holds is whole or not there.
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Labels as i64. On a GPU candle casts only some integers; the others, a few bytes, take the way
/// over the CPU.
fn whole(labels: &Tensor) -> Result<Tensor> {
    match labels.dtype() {
        DType::U8 | DType::U32 | DType::I64 => labels.to_dtype(DType::I64),
        _ => labels
            .to_device(&Device::Cpu)?
            .to_dtype(DType::I64)?
            .to_device(labels.device()),
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(&self, batch: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu(&[(batch, layout)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, batch: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda(&[(batch, layout)])
    }

    fn bwd(&self, batch: &Tensor, _: &Tensor, grad_output: &Tensor) -> Result<Option<Tensor>> {
        let [gradient, _] = self.gradients(&[batch], grad_output)?;
        Ok(gradient)
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        anchors: &CpuStorage,
        anchor_layout: &Layout,
        references: &CpuStorage,
        reference_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu(&[(anchors, anchor_layout), (references, reference_layout)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        anchors: &CudaStorage,
        anchor_layout: &Layout,
        references: &CudaStorage,
        reference_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda(&[(anchors, anchor_layout), (references, reference_layout)])
    }

    fn bwd(
        &self,
        anchors: &Tensor,
        references: &Tensor,
        _: &Tensor,
        grad_output: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [of_anchors, of_references] = self.gradients(&[anchors, references], grad_output)?;
        Ok((of_anchors, of_references))
    }
}
