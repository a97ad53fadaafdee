use anyhow::Result;
use candle_core::{DType, Tensor};
use model::Network;

use super::{NotFinite, Objective, Optimiser};
use crate::settings::OptimiserConfig;

/// A network in training: with the loss that is minimised and the optimiser of its weights.
pub struct Trainer {
    net: Network,
    objective: Objective,
    optimiser: Optimiser,
}

impl Trainer {
    /// With no steps taken.
    ///
    /// # Errors
    /// Whatever candle reports for the device, where the optimiser's memory is made.
    pub fn new(
        net: Network,
        objective: impl Into<Objective>,
        optimiser: OptimiserConfig,
    ) -> Result<Self> {
        let optimiser = Optimiser::new(optimiser, net.parameters())?;
        Ok(Self {
            net,
            objective: objective.into(),
            optimiser,
        })
    }

    /// The network as the steps so far have left it.
    pub fn net(&self) -> &Network {
        &self.net
    }

    /// The loss of a batch, a scalar that `backward` can be called on. The images are of the network's
    /// element type and on its device.
    ///
    /// Of P given pairs:
    /// * `images`: (2P, C, H, W), the first image of every pair, then the second of every pair;
    /// * `labels`: (P,), 1 for a similar pair, 0 for a dissimilar one, as [`ContrastiveLoss`] takes it.
    ///
    /// Of all pairs of N images:
    /// * `images`: (N, C, H, W);
    /// * `labels`: (N,), their classes, as [`InBatchContrastiveLoss`] takes them.
    ///
    /// # Errors
    /// Those of the network's and the loss's forward pass.
    pub fn loss(&self, images: &Tensor, labels: &Tensor) -> Result<Tensor> {
        Ok(match self.objective {
            Objective::Pairs(loss) => {
                let (a, b) = self.net.forward_pair(images)?;
                loss.forward(&a, &b, labels)?
            }
            Objective::InBatch(loss) => loss.forward(&self.net.forward(images)?, labels)?,
        })
    }

    /// One training step at the learning rate `rate`; see [`loss`](Self::loss) for the rest. Returns
    /// the loss before the step. On a GPU it may not be finite: then the weights are not either.
    ///
    /// # Errors
    /// As [`loss`](Self::loss). On the CPU a loss or a gradient that is not finite is an error too, and
    /// the weights are as they were.
    pub fn step(&mut self, images: &Tensor, labels: &Tensor, rate: f64) -> Result<Tensor> {
        let mut step = || {
            let loss = self.loss(images, labels)?;
            if loss.device().is_cpu() {
                let value = loss.to_dtype(DType::F64)?.to_scalar()?;
                NotFinite::check(value, "the loss", "")?;
            }
            self.optimiser.step(&loss.backward()?, rate)?;
            Ok(loss.detach())
        };
        if images.device().is_cpu() {
            // On one of rayon's own threads: each layer's work would otherwise be handed over to them
            // and back, and this thread put to sleep and woken, dozens of times a step.
            rayon::scope(|_| step())
        } else {
            step()
        }
    }

    /// What a checkpoint keeps besides the weights.
    pub(crate) fn optimiser(&self) -> &Optimiser {
        &self.optimiser
    }

    /// For a checkpoint to be taken up.
    pub(crate) fn optimiser_mut(&mut self) -> &mut Optimiser {
        &mut self.optimiser
    }
}
