use anyhow::Result;
use candle_core::{DType, Tensor};
use model::Network;

use super::{NotFinite, Objective, Optimiser};
use crate::settings::OptimiserConfig;

/// A network in training: with the loss that is minimised and the optimiser of its weights.
pub struct Trainer {
    net: Network,
    objective: Objective,
    pub(super) optimiser: Optimiser,
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

    /// The loss of a batch, as [`Objective::loss`] takes it.
    ///
    /// # Errors
    /// Those of the network's and the loss's forward pass.
    pub fn loss(&self, images: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.objective.loss(&self.net, images, labels)
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
}
