//! The launches over all pairs of a batch on a GPU; the loops are in `kernels/in_batch.cu`.

#![allow(unsafe_code, reason = "kernels are started through ffi")]

use std::ffi::c_void;
use std::ptr;

use candle_core::cuda_backend::CudaDType;
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, DType, Result, Storage, Tensor, bail};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, SyncOnDrop};

use super::op::Op;
use super::{InBatchReduction, Miner};
use crate::cuda::{self, Matrix, View};
use crate::ffi;

/// As many as `kernels/contrastive.h` allows.
const MOST_ROWS: usize = 1 << 24;

/// What the forward pass found out for the backward pass.
pub(super) type Workspace = CudaSlice<u8>;

/// The loss, and what the backward pass needs.
pub(super) fn forward<S: CudaDType + DeviceRepr>(
    op: &Op,
    embeddings: &[View],
) -> Result<(CudaStorage, Workspace)> {
    let device = &embeddings[0].0.device;
    with_batch(op, embeddings, |batch, stream| {
        // SAFETY: the description is whole, and this only computes.
        let bytes = unsafe { ffi::contrastive_in_batch_workspace_bytes(batch) };
        // SAFETY: the kernels write both before anything later on the stream reads them, of the
        // workspace what they read.
        let mut loss = unsafe { device.alloc::<S>(1) }?;
        // SAFETY: as above.
        let mut workspace = unsafe { device.alloc::<u8>(bytes as usize) }?;
        {
            let (loss, _written) = loss.device_ptr_mut(stream);
            let (workspace, _written_too) = workspace.device_ptr_mut(stream);
            // SAFETY: the pointers are of this stream's device, as large as the shapes in `batch`
            // ask for, and freed on this stream, after the kernels.
            cuda::launched(unsafe {
                ffi::contrastive_in_batch_forward(
                    batch,
                    loss as _,
                    workspace as *mut c_void,
                    stream.cu_stream() as _,
                )
            })?;
        }
        let loss = CudaStorage::wrap_cuda_slice(loss, device.clone());
        Ok((loss, workspace))
    })
}

/// The gradient of the batch `of`, in the type of the sums.
pub(super) fn gradient(
    op: &Op,
    embeddings: &[&Tensor],
    grad_output: &Tensor,
    workspace: &Workspace,
    of: usize,
) -> Result<Tensor> {
    match embeddings[of].dtype() {
        DType::F64 => gradient_as::<f64>(op, embeddings, grad_output, workspace, of),
        _ => gradient_as::<f32>(op, embeddings, grad_output, workspace, of),
    }
}

fn gradient_as<W: CudaDType + DeviceRepr>(
    op: &Op,
    embeddings: &[&Tensor],
    grad_output: &Tensor,
    workspace: &Workspace,
    of: usize,
) -> Result<Tensor> {
    let shape = embeddings[of].shape();
    let gradient = with_views(embeddings, |views| {
        with_views(&[grad_output], |grad_output| {
            with_batch(op, views, |batch, stream| {
                let device = &views[0].0.device;
                let grad_output = Matrix::new(grad_output[0], stream)?;
                // SAFETY: the kernel writes all of it before anything later on the stream reads it.
                let mut gradient = unsafe { device.alloc::<W>(shape.elem_count()) }?;
                {
                    let (gradient, _written) = gradient.device_ptr_mut(stream);
                    let (workspace, _read) = workspace.device_ptr(stream);
                    // SAFETY: as in `forward`; the workspace is that of the same batch.
                    cuda::launched(unsafe {
                        ffi::contrastive_in_batch_backward(
                            batch,
                            grad_output.matrix,
                            i32::from(of == 1),
                            gradient as _,
                            workspace as *const c_void,
                            stream.cu_stream() as _,
                        )
                    })?;
                }
                Ok(CudaStorage::wrap_cuda_slice(gradient, device.clone()))
            })
        })
    })?;
    let storage = Storage::Cuda(gradient);
    Ok(Tensor::from_storage(
        storage,
        shape,
        BackpropOp::none(),
        false,
    ))
}

/// The batches as the kernels take them.
fn with_batch<R>(
    op: &Op,
    embeddings: &[View],
    launch: impl FnOnce(&ffi::contrastive_batch, &CudaStream) -> Result<R>,
) -> Result<R> {
    let stream = embeddings[0].0.device.cuda_stream();
    cuda::bind(&stream)?;
    let labels: Vec<_> = op.labels.iter().map(Tensor::storage_and_layout).collect();
    // To drop a side is to tell other streams that it has been read.
    let sides = embeddings
        .iter()
        .zip(&labels)
        .map(|(&embeddings, (labels, layout))| match &**labels {
            Storage::Cuda(labels) => Side::new(embeddings, (labels, *layout), &stream),
            _ => bail!("{}: labels that are not on the GPU", Op::NAME),
        })
        .collect::<Result<Vec<_>>>()?;
    let nothing = ffi::contrastive_rows {
        embeddings: ffi::contrastive_matrix {
            data: ptr::null(),
            row_stride: 0,
            column_stride: 0,
        },
        labels: ptr::null(),
        rows: 0,
    };
    let (miner, negatives, width) = match op.loss.miner {
        Miner::All => (ffi::CONTRASTIVE_ALL, 0, 0.0),
        Miner::Hard => (ffi::CONTRASTIVE_HARD, 0, 0.0),
        Miner::SemiHard { width } => (ffi::CONTRASTIVE_SEMI_HARD, 0, width.get()),
        Miner::Hardest { negatives } => (ffi::CONTRASTIVE_HARDEST, negatives.get(), 0.0),
    };
    let reduction = match op.loss.reduction {
        InBatchReduction::Mean => ffi::CONTRASTIVE_IN_BATCH_MEAN,
        InBatchReduction::MeanNonZero => ffi::CONTRASTIVE_IN_BATCH_MEAN_NON_ZERO,
        InBatchReduction::Sum => ffi::CONTRASTIVE_IN_BATCH_SUM,
    };
    let batch = ffi::contrastive_batch {
        rows: sides[0].rows,
        others: sides.get(1).map_or(nothing, |side| side.rows),
        dim: embeddings[0].1.dims()[1] as i64,
        type_: sides[0].element as i32,
        variant: op.loss.variant as i32,
        reduction: reduction as i32,
        balanced: op.loss.balanced.into(),
        normalised: op.loss.normalised.into(),
        miner: miner as i32,
        negatives: negatives.into(),
        width,
        margin: op.loss.margin.get(),
    };
    launch(&batch, &stream)
}

/// One batch as the kernels take it.
struct Side<'a> {
    rows: ffi::contrastive_rows,
    element: ffi::contrastive_type,
    _read: [SyncOnDrop<'a>; 2],
}

impl<'a> Side<'a> {
    fn new(
        embeddings: View<'a>,
        (labels, labels_layout): View<'a>,
        stream: &'a CudaStream,
    ) -> Result<Self> {
        let (rows, _) = embeddings.1.shape().dims2()?;
        if rows > MOST_ROWS {
            bail!("in-batch-contrastive-loss: at most {MOST_ROWS} rows on a GPU, got {rows}");
        }
        let embeddings = Matrix::new(embeddings, stream)?;
        let (labels, read) = labels.as_cuda_slice::<i64>()?.device_ptr(stream);
        let labels = (labels as *const i64).wrapping_add(labels_layout.start_offset());
        Ok(Self {
            rows: ffi::contrastive_rows {
                embeddings: embeddings.matrix,
                labels,
                rows: rows as i64,
            },
            element: embeddings.element,
            _read: [embeddings.read, read],
        })
    }
}

/// The tensors' storages, which must be on a GPU.
fn with_views<R>(tensors: &[&Tensor], work: impl FnOnce(&[View]) -> Result<R>) -> Result<R> {
    let tensors: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
    let views = tensors
        .iter()
        .map(|(storage, layout)| match &**storage {
            Storage::Cuda(storage) => Ok((storage, *layout)),
            _ => bail!("in-batch-contrastive-loss: a tensor that is not on the GPU"),
        })
        .collect::<Result<Vec<_>>>()?;
    work(&views)
}
