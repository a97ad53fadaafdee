use anyhow::Result;
use candle_core::Tensor;
use loss_kernel::ContrastiveLoss;
use model::LeNet;

use crate::optimiser::{Optimiser, OptimiserConfig};

/// A network in training: with the loss that is minimised and the optimiser of its weights.
pub struct Trainer {
    net: LeNet,
    loss: ContrastiveLoss,
    optimiser: Optimiser,
}

impl Trainer {
    /// With no steps taken.
    ///
    /// # Errors
    /// Whatever candle reports for the device, where the optimiser's memory is made.
    pub fn new(net: LeNet, loss: ContrastiveLoss, optimiser: OptimiserConfig) -> Result<Self> {
        let optimiser = Optimiser::new(optimiser, net.parameters())?;
        Ok(Self {
            net,
            loss,
            optimiser,
        })
    }

    /// The network as the steps so far have left it.
    pub fn net(&self) -> &LeNet {
        &self.net
    }

    /// The loss of P pairs, a scalar that `backward` can be called on.
    ///
    /// * `images`: (2P, C, H, W), the first image of every pair, then the second of every pair, of
    ///   the network's element type and on its device;
    /// * `same`: (P,), 1 for a similar pair, 0 for a dissimilar one, as [`ContrastiveLoss`] takes it.
    ///
    /// # Errors
    /// Those of [`LeNet::forward_pair`] and [`ContrastiveLoss::forward`].
    pub fn loss(&self, images: &Tensor, same: &Tensor) -> Result<Tensor> {
        let (a, b) = self.net.forward_pair(images)?;
        Ok(self.loss.forward(&a, &b, same)?)
    }

    /// One training step at the learning rate `rate`; see [`loss`](Self::loss) for the rest. Returns
    /// the loss before the step. It may not be finite: then the weights are not either.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn step(&mut self, images: &Tensor, same: &Tensor, rate: f64) -> Result<Tensor> {
        let mut step = || {
            let loss = self.loss(images, same)?;
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
