use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::Definition;
use crate::layers::{Conv, ConvPool, ZERO, xavier};
use crate::{Activation, ModelError};

/// Side of the kernels.
const KERNEL: usize = 3;

/// Stages at most: an image of 65,536 pixels a side would be one pixel after as many.
const MOST_STAGES: usize = 16;

/// A small residual network: stages, then the mean over all places. Images (N, C, H, W) to features
/// (N, O), with O the filters of the last stage.
#[derive(Clone, Debug)]
pub struct SmallResnet {
    stages: Vec<Stage>,
}

/// A 3×3 convolution with a 2×2 max-pool, then a residual block, `activation(x +
/// conv(activation(conv(x))))`, with 3×3 convolutions that keep the size.
///
/// A block's last convolution begins at 0, so the block begins as the identity: that lets the network
/// train without batch normalisation, and an embedding never depends on the other images of its batch.
#[derive(Clone, Debug)]
struct Stage {
    conv: ConvPool,
    residual1: Conv,
    residual2: Conv,
    activation: Activation,
}

impl SmallResnet {
    /// The parameters are `stage1.conv`, `stage1.residual1`, `stage1.residual2`, `stage2.conv`, …; there
    /// is a stage for each of `filters`.
    ///
    /// # Errors
    /// Those of `vb`.
    pub fn new(
        mut channels: usize,
        filters: &[usize],
        activation: Activation,
        vb: VarBuilder,
    ) -> Result<Self> {
        let mut stages = Vec::new();
        for (number, &filters) in (1..).zip(filters) {
            let vb = vb.pp(format!("stage{number}"));
            let conv = ConvPool::new(channels, filters, KERNEL, activation, vb.pp("conv"))?;
            let residual = |name, activation, init| {
                Conv::new(filters, filters, KERNEL, activation, init, vb.pp(name))
            };
            let init = xavier(filters * KERNEL * KERNEL);
            stages.push(Stage {
                conv,
                residual1: residual("residual1", activation, init)?,
                residual2: residual("residual2", Activation::Linear, ZERO)?,
                activation,
            });
            channels = filters;
        }
        Ok(Self { stages })
    }
}

impl Module for Stage {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        const AROUND: usize = KERNEL / 2;
        let padded = x
            .pad_with_zeros(1, AROUND, AROUND)?
            .pad_with_zeros(2, AROUND, AROUND)?;
        let x = self.conv.forward(&padded)?;
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

pub(super) const DEFINITION: Definition = Definition {
    layer: "residual stage",
    channels: &[32, 64, 128],
    hidden: &[128],
    build: |config, vb| {
        let filters = &config.channels[..];
        let stages = filters.len();
        if !(1..=MOST_STAGES).contains(&stages) {
            let problem = format!("has {stages} stages; a residual network has 1 to {MOST_STAGES}");
            return Err(ModelError::config("channels", problem));
        }
        let [channels, height, width] = config.input;
        if height.min(width) >> stages == 0 {
            let problem = format!(
                "is {height}×{width}: {stages} stages, each with a 2×2 pool, need at least {0}×{0}",
                1 << stages
            );
            return Err(ModelError::config("input", problem));
        }
        let trunk = SmallResnet::new(channels, filters, config.conv_activation, vb)?;
        Ok((Arc::new(trunk), filters[stages - 1]))
    },
};
