//! What the launches of both losses share.
//!
//! Nothing waits for the device: results, workspace and launches are queued on its stream.

#![allow(unsafe_code, reason = "kernels are started through ffi")]

use std::ffi::{CStr, c_void};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::{CudaStorage, Layout, Result, bail};
use cudarc::driver::{CudaStream, DevicePtr, SyncOnDrop};

use crate::{Variant, ffi};

// A variant goes to the kernels as its number, which is its place in either list.
const _: () = assert!(Variant::ALL.len() == ffi::CONTRASTIVE_VARIANTS as usize);

/// A tensor as a CustomOp gets it.
pub(crate) type View<'a> = (&'a CudaStorage, &'a Layout);

/// Makes the stream's device the one of this thread: the kernels are the CUDA runtime's, which
/// launches in the thread's current context.
pub(crate) fn bind(stream: &CudaStream) -> Result<()> {
    stream.context().bind_to_thread().w()
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
