use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::Definition;
use super::halving::{Halving, Halvings};
use crate::layers::inference::Prepare;
use crate::onnx::{Export, Graph, Value};
use crate::{Activation, Norm};

/// The trunk of the networks that learn from few images (Vinyals et al. 2016, Snell et al. 2017): blocks
/// of a 3×3 convolution that keeps the size, a 2×2 max-pool, a normalisation and the activation. Images
/// (N, C, H, W) to features (N, O·h·w), where h and w are what is left of H and W after the last block.
#[derive(Clone, Debug)]
pub struct Conv4 {
    blocks: Vec<Halving>,
}

impl Conv4 {
    /// The parameters are `conv1`, `conv2`, …, a block for each of `filters`, each followed by that of
    /// its `norm`, such as `conv1_norm`.
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
        let mut blocks = Vec::new();
        for (number, &filters) in (1..).zip(filters) {
            let name = format!("conv{number}");
            let finish = (norm, activation);
            blocks.push(Halving::new(channels, filters, finish, &name, &vb)?);
            channels = filters;
        }
        Ok(Self { blocks })
    }
}

impl Prepare for Conv4 {
    fn prepare(&mut self) -> Result<()> {
        self.blocks.iter_mut().try_for_each(Prepare::prepare)
    }
}

impl Export for Conv4 {
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let mut blocks = self.blocks.iter();
        let x = blocks.try_fold(x, |x, block| block.export(graph, x))?;
        Ok(graph.flatten(&x))
    }
}

impl Module for Conv4 {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        // The layers want channels last.
        let mut x = images.permute((0, 2, 3, 1))?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        // Flattened as (C, H, W), so that PyTorch's `flatten(1)` fits the same weights.
        x.permute((0, 3, 1, 2))?.flatten_from(1)
    }
}

const BLOCKS: Halvings = Halvings {
    trunk: "conv4",
    layers: "blocks",
    most: 8,
};

pub(super) const DEFINITION: Definition = Definition {
    layer: "block",
    channels: &[64, 64, 64, 64],
    norm: Norm::Group,
    hidden: &[],
    build: |config, vb| {
        let places = BLOCKS.check(config)?;
        let (channels, filters) = (config.input[0], &config.channels[..]);
        let trunk = Conv4::new(channels, filters, config.norm, config.conv_activation, vb)?;
        Ok((Arc::new(trunk), places * filters[filters.len() - 1]))
    },
};
