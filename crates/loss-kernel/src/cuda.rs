//! The launches over the pairs on a GPU; the loops are in `kernels/pairs.cu`.
//!
//! Nothing here waits for the device: results, workspace and launches are queued on its stream.

#![allow(unsafe_code, reason = "kernels are started through ffi")]

use std::ffi::{CStr, c_void};
use std::ptr;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice, WrapErr};
use candle_core::{CudaStorage, Layout, Result, bail};
use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, SyncOnDrop};
use half::{bf16, f16};

use crate::{ContrastiveLoss, Reduction, Variant, ffi};

/// A tensor as a CustomOp gets it.
pub(crate) type View<'a> = (&'a CudaStorage, &'a Layout);

/// As many as `kernels/contrastive.h` allows.
const MOST_PAIRS: usize = 1 << 31;

/// Loss of every pair, reduced.
pub(crate) fn forward(loss: ContrastiveLoss, a: View, b: View, same: View) -> Result<CudaStorage> {
    match a.0.slice {
        CudaStorageSlice::F16(_) => forward_as::<f16>(loss, a, b, same),
        CudaStorageSlice::BF16(_) => forward_as::<bf16>(loss, a, b, same),
        CudaStorageSlice::F32(_) => forward_as::<f32>(loss, a, b, same),
        CudaStorageSlice::F64(_) => forward_as::<f64>(loss, a, b, same),
        _ => bail!("contrastive-loss: no loss of embeddings that are not floats"),
    }
}

/// Gradients of both sides, (2, N, D).
pub(crate) fn backward(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
    upstream: View,
) -> Result<CudaStorage> {
    match a.0.slice {
        CudaStorageSlice::F16(_) => backward_as::<f16>(loss, a, b, same, upstream),
        CudaStorageSlice::BF16(_) => backward_as::<bf16>(loss, a, b, same, upstream),
        CudaStorageSlice::F32(_) => backward_as::<f32>(loss, a, b, same, upstream),
        CudaStorageSlice::F64(_) => backward_as::<f64>(loss, a, b, same, upstream),
        _ => bail!("contrastive-loss: no loss of embeddings that are not floats"),
    }
}

fn forward_as<S: CudaDType + DeviceRepr>(
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
        launched(unsafe {
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

fn backward_as<S: CudaDType + DeviceRepr>(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
    upstream: View,
) -> Result<CudaStorage> {
    let device = &a.0.device;
    let stream = device.cuda_stream();
    let batch = Batch::new(loss, a, b, same, &stream)?;
    let upstream = Matrix::new(upstream, &stream)?;
    // SAFETY: the kernel writes all of it before anything later on the stream reads it.
    let mut gradients = unsafe { device.alloc::<S>(2 * a.1.shape().elem_count()) }?;
    {
        let (gradients, _written) = gradients.device_ptr_mut(&stream);
        // SAFETY: as in `forward_as`.
        launched(unsafe {
            ffi::contrastive_backward(
                &batch.pairs,
                upstream.matrix,
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
        // The kernels are the CUDA runtime's, which launches in the thread's current context.
        stream.context().bind_to_thread().w()?;
        let a = Matrix::new(a, stream)?;
        let b = Matrix::new(b, stream)?;
        let same = Matrix::new(same, stream)?;
        let pairs = ffi::contrastive_pairs {
            a: a.matrix,
            b: b.matrix,
            same: same.matrix,
            pairs: pairs as i64,
            dim: dim as i64,
            type_: a.element as i32,
            label_type: same.element as i32,
            variant: variant(loss.variant) as i32,
            reduction: reduction(loss.reduction) as i32,
            margin: loss.margin.get(),
            normalised: 0,
        };
        Ok(Self {
            pairs,
            _read: [a.read, b.read, same.read],
        })
    }
}

/// A tensor of rank 0 to 2 as the kernels take it, with the type of its elements.
pub(crate) struct Matrix<'a> {
    pub(crate) matrix: ffi::contrastive_matrix,
    pub(crate) element: ffi::contrastive_type,
    pub(crate) read: SyncOnDrop<'a>,
}

impl<'a> Matrix<'a> {
    pub(crate) fn new((storage, layout): View<'a>, stream: &'a CudaStream) -> Result<Self> {
        let (element, (data, read)) = match &storage.slice {
            CudaStorageSlice::F16(data) => (ffi::CONTRASTIVE_F16, data.device_ptr(stream)),
            CudaStorageSlice::BF16(data) => (ffi::CONTRASTIVE_BF16, data.device_ptr(stream)),
            CudaStorageSlice::F32(data) => (ffi::CONTRASTIVE_F32, data.device_ptr(stream)),
            CudaStorageSlice::F64(data) => (ffi::CONTRASTIVE_F64, data.device_ptr(stream)),
            CudaStorageSlice::U8(data) => (ffi::CONTRASTIVE_U8, data.device_ptr(stream)),
            CudaStorageSlice::U32(data) => (ffi::CONTRASTIVE_U32, data.device_ptr(stream)),
            _ => bail!("contrastive-loss: no kernel for {:?}", storage.dtype()),
        };
        let offset = layout.start_offset() * storage.dtype().size_in_bytes();
        let stride = |axis: usize| layout.stride().get(axis).map_or(0, |&stride| stride as i64);
        Ok(Self {
            matrix: ffi::contrastive_matrix {
                data: (data + offset as u64) as *const c_void,
                row_stride: stride(0),
                column_stride: stride(1),
            },
            element,
            read,
        })
    }
}

pub(crate) fn variant(variant: Variant) -> ffi::contrastive_variant {
    match variant {
        Variant::Hadsell => ffi::CONTRASTIVE_HADSELL,
        Variant::Legacy => ffi::CONTRASTIVE_LEGACY,
        Variant::Squared => ffi::CONTRASTIVE_SQUARED,
        Variant::ExponentialL1 => ffi::CONTRASTIVE_EXPONENTIAL_L1,
        Variant::ExponentialL2 => ffi::CONTRASTIVE_EXPONENTIAL_L2,
    }
}

fn reduction(reduction: Reduction) -> ffi::contrastive_reduction {
    match reduction {
        Reduction::Mean => ffi::CONTRASTIVE_MEAN,
        Reduction::Sum => ffi::CONTRASTIVE_SUM,
        Reduction::None => ffi::CONTRASTIVE_NONE,
    }
}

/// What a launch returned, as an error that names the kernel.
pub(crate) fn launched(code: i32) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: both return a C string that is never freed.
    let (kernel, error) = unsafe {
        (
            CStr::from_ptr(ffi::contrastive_last_kernel()),
            CStr::from_ptr(ffi::cudaGetErrorString(code)),
        )
    };
    bail!(
        "the GPU kernel {} could not be launched: {} (cudaError_t {code})",
        kernel.to_string_lossy(),
        error.to_string_lossy()
    )
}

#[cfg(test)]
mod tests {
    use super::launched;

    #[test]
    fn a_failed_launch_is_an_error_in_cudas_words() {
        assert!(launched(0).is_ok());
        let error = launched(209).unwrap_err().to_string();
        assert!(error.contains("no kernel image is available"), "{error}");
    }
}
