//! A memory of earlier batches.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use candle_core::Tensor;

use crate::LossError;

/// Embeddings of the latest batches, as references for
/// [`forward_against`](crate::InBatchContrastiveLoss::forward_against).
///
/// Cross-batch memory after Wang, Zhang, Huang, Scott, *Cross-Batch Memory for Embedding Learning*
/// (2020): a network that learns slowly has moved little since, so that old embeddings still do as
/// partners, and a small batch finds hard ones among thousands. They take no gradient. A step is
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
/// with the batch added after its loss, so that no embedding meets itself. The paper starts to use
/// the memory after a thousand steps or so, when the network has become slow.
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

    /// Embeddings in it; at most its capacity.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was remembered yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Remembers a copy of a batch, (N, D), and its labels, (N,), and forgets as many of the oldest
    /// as are too many; of a batch larger than the memory, the last rows stay.
    ///
    /// # Errors
    ///
    /// Where there is no label for each embedding, or the batch's dimensions, types or devices are
    /// not those of the batches before. The memory is then as it was.
    pub fn push(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<(), LossError> {
        if embeddings.rank() != 2 || labels.dims() != &embeddings.dims()[..1] {
            return Err(LossError::ClassShape {
                embeddings: embeddings.shape().clone(),
                labels: labels.shape().clone(),
            });
        }
        if let Some((known, known_labels)) = self.batches.back() {
            let fits = embeddings.dims()[1] == known.dims()[1]
                && embeddings.dtype() == known.dtype()
                && labels.dtype() == known_labels.dtype()
                && embeddings.device().same_device(known.device())
                && labels.device().same_device(known_labels.device());
            if !fits {
                return Err(LossError::OtherMemory {
                    expected: described(known, known_labels),
                    found: described(embeddings, labels),
                });
            }
        }
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
    ///
    /// # Errors
    ///
    /// What candle says, as where memory is short.
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
