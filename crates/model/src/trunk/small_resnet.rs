use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::Definition;
use super::halving::{Halving, Halvings, KERNEL};
use super::norm::Normed;
use crate::layers::{Conv, ONE, ZERO, xavier};
use crate::{Activation, Norm};

/// A small residual network: stages, then the mean over all places. Images (N, C, H, W) to features
/// (N, O), with O the filters of the last stage.
#[derive(Clone, Debug)]
pub struct SmallResnet {
    stages: Vec<Stage>,
}

/// A 3×3 convolution with a 2×2 max-pool, then a residual block, `activation(x +
/// conv(activation(conv(x))))`, with 3×3 convolutions that keep the size. Each convolution may have a
/// normalisation behind it, the first one's behind the pool.
///
/// A block's last convolution begins at 0, or the gain of its normalisation does, so the block begins as
/// the identity: that lets the network train without batch normalisation, and an embedding never depends
/// on the other images of its batch.
#[derive(Clone, Debug)]
struct Stage {
    conv: Halving,
    residual1: Normed<Conv>,
    residual2: Normed<Conv>,
    activation: Activation,
}

impl SmallResnet {
    /// The parameters are `stage1.conv`, `stage1.residual1`, `stage1.residual2`, `stage2.conv`, …, each
    /// followed by that of its `norm`, such as `stage1.conv_norm`; there is a stage for each of
    /// `filters`.
    ///
    /// # Errors
    /// Those of `vb`.
    pub fn new(
        mut channels: usize,
        filters: &[usize],
        norm: Norm,
        activation: Activation,
        vb: VarBuilder,
    ) -> Result<Self> {
        let mut stages = Vec::new();
        for (number, &filters) in (1..).zip(filters) {
            let vb = &vb.pp(format!("stage{number}"));
            let random = xavier(filters * KERNEL * KERNEL);
            let residual = |name, activation, [weight, gain]: [_; 2]| {
                let finish = (norm, activation);
                Normed::new(finish, filters, gain, name, vb, |activation, vb| {
                    Conv::new(filters, filters, KERNEL, activation, weight, vb)
                })
            };
            let last = match norm {
                Norm::None => [ZERO, ONE],
                Norm::Group => [random, ZERO],
            };
            stages.push(Stage {
                conv: Halving::new(channels, filters, (norm, activation), "conv", vb)?,
                residual1: residual("residual1", activation, [random, ONE])?,
                residual2: residual("residual2", Activation::Linear, last)?,
                activation,
            });
            channels = filters;
        }
        Ok(Self { stages })
    }
}

impl Module for Stage {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv.forward(x)?;
        let residual = self.residual2.forward(&self.residual1.forward(&x)?)?;
        self.activation.forward(&(x + residual)?)
    }
}

impl Module for SmallResnet {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        // The layers want channels last.
        let mut x = images.permute((0, 2, 3, 1))?;
        for stage in &self.stages {
            x = stage.forward(&x)?;
        }
        x.mean((1, 2))
    }
}

const STAGES: Halvings = Halvings {
    trunk: "a residual network",
    layers: "stages",
    // An image of 65,536 pixels a side would be one pixel after as many.
    most: 16,
};

pub(super) const DEFINITION: Definition = Definition {
    layer: "residual stage",
    channels: &[32, 64, 128],
    norm: Norm::None,
    hidden: &[128],
    build: |config, vb| {
        STAGES.check(config)?;
        let (channels, filters) = (config.input[0], &config.channels[..]);
        let trunk = SmallResnet::new(channels, filters, config.norm, config.conv_activation, vb)?;
        Ok((Arc::new(trunk), filters[filters.len() - 1]))
    },
};
