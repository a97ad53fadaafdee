//! The launches over given pairs on a GPU; the loops are in `kernels/pairs.cu`.

#![allow(unsafe_code, reason = "kernels are started through ffi")]

use std::ffi::c_void;
use std::ptr;

use candle_core::cuda_backend::CudaDType;
use candle_core::{CudaStorage, Result, bail};
use cudarc::driver::{CudaStream, DevicePtrMut, DeviceRepr, SyncOnDrop};

use super::{ContrastiveLoss, Reduction};
use crate::cuda::{self, Matrix, View};
use crate::ffi;

/// As many as `kernels/contrastive.h` allows.
const MOST_PAIRS: usize = 1 << 31;

/// Loss of every pair, reduced.
pub(super) fn forward<S: CudaDType + DeviceRepr>(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
) -> Result<CudaStorage> {
    let device = &a.0.device;
    let stream = device.cuda_stream();
    let batch = Batch::new(loss, a, b, same, &stream)?;
    let count = match loss.reduction {
        Reduction::Mean | Reduction::Sum => 1,
        Reduction::None => a.1.dims()[0],
    };
    // SAFETY: the kernels write all of it before anything later on the stream reads it.
    let mut losses = unsafe { device.alloc::<S>(count) }?;
    // SAFETY: the description is whole, and this only computes.
    let bytes = unsafe { ffi::contrastive_workspace_bytes(&batch.pairs) };
    // SAFETY: the kernels read only what they have written there.
    let mut workspace = (bytes > 0)
        .then(|| unsafe { device.alloc::<u8>(bytes as usize) })
        .transpose()?;
    {
        let (losses, _written) = losses.device_ptr_mut(&stream);
        let (workspace, _written) = match &mut workspace {
            Some(workspace) => {
                let (workspace, written) = workspace.device_ptr_mut(&stream);
                (workspace as *mut c_void, Some(written))
            }
            None => (ptr::null_mut(), None),
        };
        // SAFETY: the pointers are of this stream's device, as large as the shapes in `batch` ask
        // for, and freed on this stream, after the kernels.
        cuda::launched(unsafe {
            ffi::contrastive_forward(
                &batch.pairs,
                losses as _,
                workspace,
                stream.cu_stream() as _,
            )
        })?;
    }
    Ok(CudaStorage::wrap_cuda_slice(losses, device.clone()))
}

/// Gradients of both sides, (2, N, D).
pub(super) fn backward<S: CudaDType + DeviceRepr>(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
    grad_output: View,
) -> Result<CudaStorage> {
    let device = &a.0.device;
    let stream = device.cuda_stream();
    let batch = Batch::new(loss, a, b, same, &stream)?;
    let grad_output = Matrix::new(grad_output, &stream)?;
    // SAFETY: the kernel writes all of it before anything later on the stream reads it.
    let mut gradients = unsafe { device.alloc::<S>(2 * a.1.shape().elem_count()) }?;
    {
        let (gradients, _written) = gradients.device_ptr_mut(&stream);
        // SAFETY: as in `forward`.
        cuda::launched(unsafe {
            ffi::contrastive_backward(
                &batch.pairs,
                grad_output.matrix,
                gradients as _,
                stream.cu_stream() as _,
            )
        })?;
    }
    Ok(CudaStorage::wrap_cuda_slice(gradients, device.clone()))
}

/// The batch as the kernels take it. To drop it is to tell other streams that it has been read, so
/// it has to outlive the launch.
struct Batch<'a> {
    pairs: ffi::contrastive_pairs,
    _read: [SyncOnDrop<'a>; 3],
}

impl<'a> Batch<'a> {
    fn new(
        loss: ContrastiveLoss,
        a: View<'a>,
        b: View<'a>,
        same: View<'a>,
        stream: &'a CudaStream,
    ) -> Result<Self> {
        let (pairs, dim) = a.1.shape().dims2()?;
        if pairs > MOST_PAIRS {
            bail!("contrastive-loss: at most {MOST_PAIRS} pairs on a GPU, got {pairs}");
        }
        cuda::bind(stream)?;
        let a = Matrix::new(a, stream)?;
        let b = Matrix::new(b, stream)?;
        let same = Matrix::new(same, stream)?;
        let reduction = match loss.reduction {
            Reduction::Mean => ffi::CONTRASTIVE_MEAN,
            Reduction::Sum => ffi::CONTRASTIVE_SUM,
            Reduction::None => ffi::CONTRASTIVE_NONE,
        };
        let pairs = ffi::contrastive_pairs {
            a: a.matrix,
            b: b.matrix,
            same: same.matrix,
            pairs: pairs as i64,
            dim: dim as i64,
            type_: a.element as i32,
            label_type: same.element as i32,
            variant: loss.variant as i32,
            reduction: reduction as i32,
            margin: loss.margin.get(),
            normalised: loss.normalised.into(),
        };
        Ok(Self {
            pairs,
            _read: [a.read, b.read, same.read],
        })
    }
}
