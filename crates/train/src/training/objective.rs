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
            LossKind::Pairs => config.pair_loss().into(),
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::settings::{Layers, Preset};

    /// The setting is one of the network; the loss has to know of it too.
    #[test]
    fn the_loss_of_a_network_that_normalises_is_that_of_its_embeddings() {
        for kind in ["pairs", "in-batch"] {
            let settings = ["net.normalised=true", "net.embedding=3"].into_iter();
            let layers = settings
                .chain([&*format!("loss.kind={kind}")])
                .try_fold(Layers::new(Preset::Default), |layers, setting| {
                    layers.assignment(setting)
                });
            let config = layers.and_then(Layers::finish).unwrap();
            let rng = &mut ChaCha8Rng::seed_from_u64(1);
            let net = Network::new(config.net.clone(), DType::F64, &Device::Cpu, rng).unwrap();
            let waves = Tensor::arange(0f64, 6. * 28. * 28., &Device::Cpu).unwrap();
            let waves = (waves * 0.37).unwrap().sin().unwrap();
            let images = waves.reshape((6, 1, 28, 28)).unwrap();
            let labels = match config.loss.kind {
                LossKind::Pairs => Tensor::new(&[1u32, 0, 0], &Device::Cpu),
                LossKind::InBatch => Tensor::new(&[0u32, 0, 1, 1, 2, 2], &Device::Cpu),
            };
            let labels = labels.unwrap();
            let scalar = |loss: Tensor| loss.to_scalar::<f64>().unwrap();
            let found = Objective::of(&config).loss(&net, &images, &labels).unwrap();
            let of = |embeddings: Tensor| match config.loss.kind {
                LossKind::Pairs => {
                    let side = |from| embeddings.narrow(0, from, 3).unwrap();
                    let loss = ContrastiveLoss::new(config.loss.margin);
                    scalar(loss.forward(&side(0), &side(3), &labels).unwrap())
                }
                LossKind::InBatch => {
                    let loss = InBatchContrastiveLoss::new(config.loss.margin).balanced(true);
                    scalar(loss.forward(&embeddings, &labels).unwrap())
                }
            };
            let found = scalar(found);
            let expected = of(net.forward(&images).unwrap());
            assert!(
                (found - expected).abs() < 1e-12,
                "{kind}: {found} {expected}"
            );
            let raw = of(net.forward_raw(&images).unwrap());
            assert!((found - raw).abs() > 1e-3, "{kind}: {found} {raw}");
        }
    }
}
