//! A memory of earlier batches.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use candle_core::Tensor;

use crate::LossError;
use crate::error::refuse;

/// Embeddings of the latest batches, as references for
/// [`forward_against`](crate::InBatchContrastiveLoss::forward_against).
///
/// Cross-batch memory after Wang, Zhang, Huang, Scott, *Cross-Batch Memory for Embedding Learning*
/// (2020): a network that learns slowly has changed little since, so old embeddings can still serve
/// as partners, and a small batch finds hard ones among thousands. They take no gradient. A step:
///
/// ```
/// # use candle_core::{Device, Tensor, Var};
/// # use loss_kernel::{InBatchContrastiveLoss, Margin, XbmMemory};
/// # fn main() -> Result<(), loss_kernel::LossError> {
/// # let loss = InBatchContrastiveLoss::new(Margin::new(1.0)?);
/// # let embeddings = Var::new(&[[0f32, 0.], [0., 1.], [2., 0.]], &Device::Cpu)?;
/// # let labels = Tensor::new(&[7u32, 7, 3], &Device::Cpu)?;
/// let mut memory = XbmMemory::new(std::num::NonZeroUsize::new(8192).unwrap());
/// // every step:
/// let mut value = loss.forward(&embeddings, &labels)?;
/// if let Some((remembered, their_labels)) = memory.references()? {
///     value = (value + loss.forward_against(&embeddings, &labels, &remembered, &their_labels)?)?;
/// }
/// memory.push(&embeddings, &labels)?;
/// value.backward()?;
/// # Ok(())
/// # }
/// ```
///
/// Add a batch after its loss, so that no embedding meets itself. The paper starts to use the memory
/// after a thousand steps or so, when the network has settled.
#[derive(Debug)]
pub struct XbmMemory {
    capacity: NonZeroUsize,
    /// Oldest first, whole batches but for the oldest.
    batches: VecDeque<(Tensor, Tensor)>,
    len: usize,
}

impl XbmMemory {
    /// An empty memory of the latest `capacity` embeddings.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            capacity,
            batches: VecDeque::new(),
            len: 0,
        }
    }

    /// The number of embeddings in it, at most its capacity.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Remembers a copy of a batch, (N, D), and its labels, (N,), and forgets the oldest embeddings
    /// beyond the capacity. Of a batch larger than that, the last rows stay.
    ///
    /// # Errors
    ///
    /// If there is no label for each embedding, or the batch's dimensions, types or devices are
    /// not those of the batches before. The memory is then as it was.
    pub fn push(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<(), LossError> {
        if embeddings.rank() != 2 || labels.dims() != &embeddings.dims()[..1] {
            refuse!(
                Shape,
                "one label an embedding is needed: embeddings are {:?}, labels are {:?}",
                embeddings.shape(),
                labels.shape()
            );
        }
        if let Some((known, known_labels)) = self.batches.back() {
            let kind = if embeddings.dims()[1] != known.dims()[1] {
                LossError::Shape
            } else if embeddings.dtype() != known.dtype() || labels.dtype() != known_labels.dtype()
            {
                LossError::DType
            } else if !embeddings.device().same_device(known.device())
                || !labels.device().same_device(known_labels.device())
            {
                LossError::Device
            } else {
                return self.add(embeddings, labels);
            };
            return Err(kind(format!(
                "the memory holds {}, and cannot take {}",
                described(known, known_labels),
                described(embeddings, labels)
            )));
        }
        self.add(embeddings, labels)
    }

    fn add(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<(), LossError> {
        let rows = embeddings.dims()[0];
        let kept = rows.min(self.capacity.get());
        if kept == 0 {
            return Ok(());
        }
        // A copy: the network may write over its own, and a view would keep all of it alive.
        let latest = |tensor: &Tensor| tensor.narrow(0, rows - kept, kept)?.detach().copy();
        let batch = (latest(embeddings)?, latest(labels)?);
        while self.len + kept > self.capacity.get() {
            let Some((embeddings, labels)) = self.batches.pop_front() else {
                break;
            };
            let old = embeddings.dims()[0];
            let surplus = self.len + kept - self.capacity.get();
            self.len -= old;
            if surplus < old {
                let rest = |tensor: &Tensor| tensor.narrow(0, surplus, old - surplus);
                self.batches
                    .push_front((rest(&embeddings)?, rest(&labels)?));
                self.len += old - surplus;
            }
        }
        self.batches.push_back(batch);
        self.len += kept;
        Ok(())
    }

    /// All that is remembered, (M, D), and its labels, (M,), oldest first; `None` while empty.
    /// [Pushed](Self::push) into a new memory of the same capacity, as after a restart, they make it
    /// go on as this one would.
    ///
    /// # Errors
    ///
    /// What candle reports, for example if memory is short.
    pub fn references(&self) -> Result<Option<(Tensor, Tensor)>, LossError> {
        if self.is_empty() {
            return Ok(None);
        }
        let (embeddings, labels): (Vec<_>, Vec<_>) = self.batches.iter().cloned().unzip();
        Ok(Some((
            Tensor::cat(&embeddings, 0)?,
            Tensor::cat(&labels, 0)?,
        )))
    }
}

fn described(embeddings: &Tensor, labels: &Tensor) -> String {
    format!(
        "{} dimensions of {:?} on {:?} with labels of {:?} on {:?}",
        embeddings.dims()[1],
        embeddings.dtype(),
        embeddings.device().location(),
        labels.dtype(),
        labels.device().location()
    )
}
