//! The loss over all pairs of a batch on a GPU; the loops are in `kernels/in_batch.cu`.
//!
//! As in `cuda.rs`, nothing here waits for the device, but for labels of i16 and i32.

#![allow(unsafe_code, reason = "kernels are started through ffi")]

use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Storage,
    Tensor, bail,
};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, SyncOnDrop};
use half::{bf16, f16};

use super::{InBatchContrastiveLoss, InBatchReduction, Miner};
use crate::cuda::{Matrix, View, launched, variant};
use crate::ffi;

/// As many as `kernels/contrastive.h` allows.
const MOST_ROWS: usize = 1 << 24;

/// Embeddings and their labels, on one GPU.
pub(super) type Batch<'a> = (&'a Tensor, &'a Tensor);

/// The loss of the pairs of one batch.
pub(super) fn forward(loss: InBatchContrastiveLoss, batch: Batch) -> Result<Tensor> {
    batch.0.apply_op1(Op::new(loss, &[batch])?)
}

/// The loss of the pairs of a query and a reference.
pub(super) fn forward_against(
    loss: InBatchContrastiveLoss,
    queries: Batch,
    references: Batch,
) -> Result<Tensor> {
    let op = Op::new(loss, &[queries, references])?;
    queries.0.apply_op2(references.0, op)
}

/// The loss of the pairs of one batch, and its gradient.
pub(super) fn loss_and_gradient(
    loss: InBatchContrastiveLoss,
    batch: Batch,
) -> Result<(Tensor, Tensor)> {
    let op = Op::new(loss, &[batch])?;
    let value = batch.0.apply_op1_no_bwd(&op)?;
    let workspace = op.workspace(&[batch.0])?;
    let gradient = op.gradient(&[batch.0], &value.ones_like()?, &workspace, 0)?;
    Ok((value, gradient))
}

struct Op {
    loss: InBatchContrastiveLoss,
    /// Of each batch, contiguous i64.
    labels: Vec<Tensor>,
    wanted: Vec<bool>,
    /// What the forward pass found out for the backward pass; the first takes it, another makes it
    /// anew.
    kept: Mutex<Option<CudaSlice<u8>>>,
}

impl Op {
    fn new(loss: InBatchContrastiveLoss, batches: &[Batch]) -> Result<Self> {
        Ok(Self {
            loss,
            labels: batches
                .iter()
                .map(|(_, labels)| whole(labels)?.contiguous())
                .collect::<Result<_>>()?,
            wanted: batches.iter().map(|(batch, _)| batch.track_op()).collect(),
            kept: Mutex::default(),
        })
    }

    /// The batches as the kernels take them.
    fn with_batch<R>(
        &self,
        embeddings: &[View],
        launch: impl FnOnce(&ffi::contrastive_batch, &CudaStream) -> Result<R>,
    ) -> Result<R> {
        let stream = embeddings[0].0.device.cuda_stream();
        // The kernels are the CUDA runtime's, which launches in the thread's current context.
        stream.context().bind_to_thread().w()?;
        let labels: Vec<_> = self.labels.iter().map(Tensor::storage_and_layout).collect();
        // To drop a side is to tell other streams that it has been read.
        let sides = embeddings
            .iter()
            .zip(&labels)
            .map(|(&embeddings, (labels, layout))| match &**labels {
                Storage::Cuda(labels) => Side::new(embeddings, (labels, *layout), &stream),
                _ => bail!("{}: labels that are not on the GPU", CustomOp1::name(self)),
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
        let (miner, negatives, width) = match self.loss.miner {
            Miner::All => (ffi::CONTRASTIVE_ALL, 0, 0.0),
            Miner::Hard => (ffi::CONTRASTIVE_HARD, 0, 0.0),
            Miner::SemiHard { width } => (ffi::CONTRASTIVE_SEMI_HARD, 0, width.get()),
            Miner::Hardest { negatives } => (ffi::CONTRASTIVE_HARDEST, negatives.get(), 0.0),
        };
        let reduction = match self.loss.reduction {
            InBatchReduction::Mean => ffi::CONTRASTIVE_IN_BATCH_MEAN,
            InBatchReduction::MeanNonZero => ffi::CONTRASTIVE_IN_BATCH_MEAN_NON_ZERO,
            InBatchReduction::Sum => ffi::CONTRASTIVE_IN_BATCH_SUM,
        };
        let batch = ffi::contrastive_batch {
            rows: sides[0].rows,
            others: sides.get(1).map_or(nothing, |side| side.rows),
            dim: embeddings[0].1.dims()[1] as i64,
            type_: sides[0].element as i32,
            variant: variant(self.loss.variant) as i32,
            reduction: reduction as i32,
            balanced: self.loss.balanced.into(),
            normalised: self.loss.normalised.into(),
            miner: miner as i32,
            negatives: negatives.into(),
            width,
            margin: self.loss.margin.get(),
        };
        launch(&batch, &stream)
    }

    /// The loss, and what the backward pass needs.
    fn run<S: CudaDType + DeviceRepr>(
        &self,
        embeddings: &[View],
    ) -> Result<(CudaStorage, CudaSlice<u8>)> {
        let device = &embeddings[0].0.device;
        self.with_batch(embeddings, |batch, stream| {
            // SAFETY: the description is whole, and this only computes.
            let bytes = unsafe { ffi::contrastive_in_batch_workspace_bytes(batch) };
            // SAFETY: the kernels write both before anything later on the stream reads them, of the
            // workspace what they read.
            let mut loss = unsafe { device.alloc::<S>(1) }?;
            let mut workspace = unsafe { device.alloc::<u8>(bytes as usize) }?;
            {
                let (loss, _written) = loss.device_ptr_mut(stream);
                let (workspace, _written_too) = workspace.device_ptr_mut(stream);
                // SAFETY: the pointers are of this stream's device, as large as the shapes in `batch`
                // ask for, and freed on this stream, after the kernels.
                launched(unsafe {
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

    fn forward(&self, embeddings: &[View]) -> Result<(CudaStorage, CudaSlice<u8>)> {
        match embeddings[0].0.dtype() {
            DType::F16 => self.run::<f16>(embeddings),
            DType::BF16 => self.run::<bf16>(embeddings),
            DType::F32 => self.run::<f32>(embeddings),
            DType::F64 => self.run::<f64>(embeddings),
            other => bail!("{}: no loss of {other:?}", CustomOp1::name(self)),
        }
    }

    fn workspace(&self, embeddings: &[&Tensor]) -> Result<CudaSlice<u8>> {
        match self.kept().take() {
            Some(workspace) => Ok(workspace),
            None => Ok(with_views(embeddings, |views| self.forward(views))?.1),
        }
    }

    /// The gradient of the batch `of`.
    fn gradient(
        &self,
        embeddings: &[&Tensor],
        upstream: &Tensor,
        workspace: &CudaSlice<u8>,
        of: usize,
    ) -> Result<Tensor> {
        let wide = match embeddings[of].dtype() {
            DType::F64 => self.wide_gradient::<f64>(embeddings, upstream, workspace, of),
            _ => self.wide_gradient::<f32>(embeddings, upstream, workspace, of),
        }?;
        wide.to_dtype(embeddings[of].dtype())
    }

    fn wide_gradient<W: CudaDType + DeviceRepr>(
        &self,
        embeddings: &[&Tensor],
        upstream: &Tensor,
        workspace: &CudaSlice<u8>,
        of: usize,
    ) -> Result<Tensor> {
        let shape = embeddings[of].shape();
        let gradient = with_views(embeddings, |views| {
            with_views(&[upstream], |upstream| {
                self.with_batch(views, |batch, stream| {
                    let device = &views[0].0.device;
                    let upstream = Matrix::new(upstream[0], stream)?;
                    // SAFETY: the kernel writes all of it before anything later on the stream reads it.
                    let mut gradient = unsafe { device.alloc::<W>(shape.elem_count()) }?;
                    {
                        let (gradient, _written) = gradient.device_ptr_mut(stream);
                        let (workspace, _read) = workspace.device_ptr(stream);
                        // SAFETY: as in `run`; the workspace is that of the same batch.
                        launched(unsafe {
                            ffi::contrastive_in_batch_backward(
                                batch,
                                upstream.matrix,
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

    fn backward(&self, embeddings: &[&Tensor], upstream: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let workspace = self.workspace(embeddings)?;
        (self.wanted.iter().enumerate())
            .map(|(of, wanted)| {
                wanted
                    .then(|| self.gradient(embeddings, upstream, &workspace, of))
                    .transpose()
            })
            .collect()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<CudaSlice<u8>>> {
        // What it holds is whole or not there.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, (loss, workspace): (CudaStorage, CudaSlice<u8>)) -> (CudaStorage, Shape) {
        *self.kept() = Some(workspace);
        (loss, ().into())
    }
}

/// Labels as i64. candle casts no other integers on a GPU; those few bytes take the way over the CPU.
fn whole(labels: &Tensor) -> Result<Tensor> {
    match labels.dtype() {
        DType::U8 | DType::U32 | DType::I64 => labels.to_dtype(DType::I64),
        _ => labels
            .to_device(&Device::Cpu)?
            .to_dtype(DType::I64)?
            .to_device(labels.device()),
    }
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

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "in-batch-contrastive-loss"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("{}: made for a GPU", CustomOp1::name(self))
    }

    fn cuda_fwd(&self, embeddings: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok(self.keep(self.forward(&[(embeddings, layout)])?))
    }

    fn bwd(&self, embeddings: &Tensor, _: &Tensor, upstream: &Tensor) -> Result<Option<Tensor>> {
        let mut gradients = self.backward(&[embeddings], upstream)?;
        Ok(gradients.swap_remove(0))
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        CustomOp1::name(self)
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("{}: made for a GPU", CustomOp1::name(self))
    }

    fn cuda_fwd(
        &self,
        queries: &CudaStorage,
        query_layout: &Layout,
        references: &CudaStorage,
        reference_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let batches = [(queries, query_layout), (references, reference_layout)];
        Ok(self.keep(self.forward(&batches)?))
    }

    fn bwd(
        &self,
        queries: &Tensor,
        references: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.backward(&[queries, references], upstream)?;
        let of_references = gradients.swap_remove(1);
        Ok((gradients.swap_remove(0), of_references))
    }
}
