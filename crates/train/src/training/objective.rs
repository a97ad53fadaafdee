use anyhow::Result;
use candle_core::Tensor;
use loss_kernel::{ContrastiveLoss, InBatchContrastiveLoss, XbmMemory};
use model::Network;

use crate::settings::{LossKind, RunConfig};

/// What a step minimises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// A loss of given pairs.
    Pairs(ContrastiveLoss),
    /// A loss of all pairs of a batch.
    InBatch(InBatchContrastiveLoss),
}

impl Objective {
    /// What the settings ask for.
    pub fn of(config: &RunConfig) -> Self {
        match config.loss.kind {
            LossKind::Pairs => config.loss.of_pairs().into(),
            LossKind::InBatch => InBatchContrastiveLoss::new(config.loss.margin)
                .variant(config.loss.variant)
                .miner(config.in_batch.miner.0)
                .reduction(config.in_batch.reduction)
                .balanced(config.in_batch.balanced)
                .normalised(config.net.normalised)
                .into(),
        }
    }

    /// The loss of a batch, a scalar that `backward` can be called on. The images are of the network's
    /// element type and on its device.
    ///
    /// P given pairs:
    /// * `images`: (2P, C, H, W), the first image of every pair, then the second of every pair;
    /// * `labels`: (P,), 1 for a similar pair, 0 for a dissimilar one, as [`ContrastiveLoss`] takes them.
    ///
    /// All pairs of N images:
    /// * `images`: (N, C, H, W);
    /// * `labels`: (N,), their classes, as [`InBatchContrastiveLoss`] takes them.
    ///
    /// # Errors
    /// Those of the network's and the loss's forward pass.
    pub fn loss(&self, net: &Network, images: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.remembering(net, images, labels, None)
    }

    /// The loss of a batch; for all pairs of one, plus its loss against what `memory` holds, which then
    /// takes up the batch.
    pub(super) fn remembering(
        &self,
        net: &Network,
        images: &Tensor,
        labels: &Tensor,
        memory: Option<&mut XbmMemory>,
    ) -> Result<Tensor> {
        match self {
            Self::Pairs(loss) => {
                let (a, b) = net.forward_pair(images)?;
                Ok(loss.forward(&a, &b, labels)?)
            }
            Self::InBatch(loss) => {
                let embeddings = net.forward_raw(images)?;
                let mut value = loss.forward(&embeddings, labels)?;
                if let Some(memory) = memory {
                    if let Some((earlier, their_labels)) = memory.references()? {
                        let against =
                            loss.forward_against(&embeddings, labels, &earlier, &their_labels)?;
                        value = (value + against)?;
                    }
                    memory.push(&embeddings, labels)?;
                }
                Ok(value)
            }
        }
    }
}

impl From<ContrastiveLoss> for Objective {
    fn from(loss: ContrastiveLoss) -> Self {
        Self::Pairs(loss)
    }
}

impl From<InBatchContrastiveLoss> for Objective {
    fn from(loss: InBatchContrastiveLoss) -> Self {
        Self::InBatch(loss)
    }
}
