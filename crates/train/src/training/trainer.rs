use std::num::NonZeroUsize;

use anyhow::Result;
use candle_core::{DType, Tensor};
use loss_kernel::XbmMemory;
use model::Network;

use super::{NotFinite, Objective, Optimiser};
use crate::settings::OptimiserConfig;

/// A network in training: with the loss that is minimised and the optimiser of its weights.
pub struct Trainer {
    net: Network,
    objective: Objective,
    pub(super) optimiser: Optimiser,
    pub(super) memory: Option<Memory>,
}

/// Embeddings of earlier batches, see [`Trainer::with_memory`].
pub(super) struct Memory {
    pub(super) embeddings: XbmMemory,
    capacity: NonZeroUsize,
    /// Steps before it begins to fill.
    after: u64,
}

impl Memory {
    pub(super) fn clear(&mut self) {
        self.embeddings = XbmMemory::new(self.capacity);
    }
}

impl Trainer {
    /// With no steps taken. A [frozen trunk](Network::with_frozen_trunk) stays as it is.
    ///
    /// # Errors
    /// Whatever candle reports for the device, where the optimiser's memory is made.
    pub fn new(
        net: Network,
        objective: impl Into<Objective>,
        optimiser: OptimiserConfig,
    ) -> Result<Self> {
        let optimiser = Optimiser::new(optimiser, net.trained_parameters())?;
        Ok(Self {
            net,
            objective: objective.into(),
            optimiser,
            memory: None,
        })
    }

    /// Adds to the loss over all pairs of a batch that of its pairs with the `capacity` embeddings before
    /// it, which take no gradient (Wang, Zhang, Huang and Scott 2020). The memory begins to fill after
    /// `after` steps. A loss of given pairs has no use for it.
    #[must_use]
    pub fn with_memory(self, capacity: NonZeroUsize, after: u64) -> Self {
        let embeddings = XbmMemory::new(capacity);
        let memory = Memory {
            embeddings,
            capacity,
            after,
        };
        Self {
            memory: Some(memory),
            ..self
        }
    }

    /// The network as the steps so far have left it.
    pub fn net(&self) -> &Network {
        &self.net
    }

    /// Empties the memory of earlier batches.
    pub fn forget(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.clear();
        }
    }

    /// The loss of a batch, as [`Objective::loss`] takes it; a memory has no part in it.
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
        let steps = self.optimiser.steps();
        let memory = self.memory.as_mut().filter(|memory| steps >= memory.after);
        let memory = memory.map(|memory| &mut memory.embeddings);
        let (net, objective, optimiser) = (&self.net, self.objective, &mut self.optimiser);
        let step = || {
            let loss = objective.remembering(net, images, labels, memory)?;
            if loss.device().is_cpu() {
                let value = loss.to_dtype(DType::F64)?.to_scalar()?;
                NotFinite::check(value, "the loss", "")?;
            }
            optimiser.step(&loss.backward()?, rate)?;
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

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use loss_kernel::{InBatchContrastiveLoss, Margin};
    use model::NetworkConfig;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::super::Snapshot;
    use super::*;

    const AFTER: u64 = 2;

    fn trainer(capacity: usize) -> Trainer {
        let config = NetworkConfig {
            channels: vec![2, 3],
            hidden: Vec::new(),
            ..NetworkConfig::relu(2)
        };
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let net = Network::new(config, DType::F32, &Device::Cpu, rng).unwrap();
        let loss = InBatchContrastiveLoss::new(Margin::default());
        let trainer = Trainer::new(net, loss, OptimiserConfig::caffe()).unwrap();
        match NonZeroUsize::new(capacity) {
            Some(capacity) => trainer.with_memory(capacity, AFTER),
            None => trainer,
        }
    }

    /// The batch of a step: six images of three classes.
    fn batch(step: u64) -> (Tensor, Tensor) {
        let pixels =
            (0..6 * 28 * 28).map(|i| ((i as u64 * 7919 + step * 104_729) % 256) as f32 / 255.0);
        let images = Tensor::from_iter(pixels, &Device::Cpu).unwrap();
        let labels = Tensor::new(&[0u32, 0, 1, 1, 2, 2], &Device::Cpu).unwrap();
        (images.reshape((6, 1, 28, 28)).unwrap(), labels)
    }

    /// The losses of the steps `from` to `to`, the last excluded.
    fn train(trainer: &mut Trainer, from: u64, to: u64) -> Vec<f32> {
        let step = |step| {
            let (images, labels) = batch(step);
            let loss = trainer.step(&images, &labels, 0.01).unwrap();
            loss.to_scalar().unwrap()
        };
        (from..to).map(step).collect()
    }

    #[test]
    fn a_memory_adds_the_loss_against_earlier_batches_once_it_has_any() {
        let (mut plain, mut remembering) = (trainer(0), trainer(9));
        let filled = AFTER + 1;
        assert_eq!(
            train(&mut plain, 0, filled),
            train(&mut remembering, 0, filled)
        );
        // Of the step that filled it, before its weights changed.
        let (images, labels) = batch(AFTER);
        let mut before = trainer(0);
        train(&mut before, 0, AFTER);
        let earlier = before.net().forward(&images).unwrap();
        let (images, labels_now) = batch(filled);
        let now = plain.net().forward(&images).unwrap();
        let loss = InBatchContrastiveLoss::new(Margin::default());
        let alone = loss.forward(&now, &labels_now).unwrap();
        let against = loss
            .forward_against(&now, &labels_now, &earlier, &labels)
            .unwrap();
        let expected = (alone + against).unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(train(&mut remembering, filled, filled + 1), [expected]);
    }

    #[test]
    fn a_memory_that_was_saved_goes_on_to_the_same_bits() {
        // Nine embeddings are a batch and a half.
        let (mut whole, mut first, mut second) = (trainer(9), trainer(9), trainer(9));
        train(&mut whole, 0, 5);
        train(&mut first, 0, 5);
        let snapshot = Snapshot::read(first.snapshot("{}").unwrap()).unwrap();
        // What it remembers by itself has to go.
        train(&mut second, 0, 4);
        second.restore(&snapshot, 5).unwrap();
        assert_eq!(train(&mut whole, 5, 9), train(&mut second, 5, 9));
        for (one, other) in whole
            .net()
            .parameters()
            .iter()
            .zip(second.net().parameters())
        {
            let bits = |parameter: &model::Parameter| {
                let values = parameter.var.flatten_all().unwrap();
                values.to_vec1::<f32>().unwrap()
            };
            assert_eq!(bits(one), bits(other), "{}", one.name);
        }
    }
}
