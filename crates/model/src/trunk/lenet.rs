use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::Definition;
use super::norm::Normed;
use crate::layers::inference::Prepare;
use crate::layers::{ConvPool, ONE};
use crate::onnx::{Export, Graph, Value};
use crate::{Activation, ModelError, Norm};

/// Side of the kernels.
const KERNEL: usize = 5;

/// LeNet's two 5×5 convolutions, each with a 2×2 max-pool and perhaps a normalisation: images
/// (N, C, H, W) to features (N, O·h·w), where h and w are what is left of H and W.
#[derive(Clone, Debug)]
pub struct LeNet {
    conv1: Normed<ConvPool>,
    conv2: Normed<ConvPool>,
}

impl LeNet {
    /// The parameters are `conv1` and `conv2`, of `filters` filters each, over `channels` channels, each
    /// followed by that of its `norm`, such as `conv1_norm`.
    ///
    /// # Errors
    /// Those of `vb`.
    pub fn new(
        channels: usize,
        filters: [usize; 2],
        norm: Norm,
        activation: Activation,
        vb: VarBuilder,
    ) -> Result<Self> {
        let [first, second] = filters;
        let layer = |channels, filters, name| {
            let finish = (norm, activation);
            Normed::new(finish, filters, ONE, name, &vb, |activation, vb| {
                ConvPool::new(channels, filters, KERNEL, activation, vb)
            })
        };
        Ok(Self {
            conv1: layer(channels, first, "conv1")?,
            conv2: layer(first, second, "conv2")?,
        })
    }
}

impl Prepare for LeNet {
    fn prepare(&mut self) -> Result<()> {
        self.conv1.prepare()?;
        self.conv2.prepare()
    }
}

impl Export for LeNet {
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let x = self.conv1.export(graph, x)?;
        let x = self.conv2.export(graph, x)?;
        Ok(graph.flatten(&x))
    }
}

impl Module for LeNet {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        // The layers want channels last.
        let x = images.permute((0, 2, 3, 1))?;
        let x = self.conv2.forward(&self.conv1.forward(&x)?)?;
        // Flattened as (C, H, W), so that PyTorch's `flatten(1)` fits the same weights.
        x.permute((0, 3, 1, 2))?.flatten_from(1)
    }
}

pub(super) const DEFINITION: Definition = Definition {
    layer: "conv",
    channels: &[32, 64],
    norm: Norm::None,
    hidden: &[256, 256],
    build: |config, vb| {
        let [channels, height, width] = config.input;
        let filters: [usize; 2] = config.channels[..].try_into().map_err(|_| {
            let problem = format!("is {:?}: LeNet has two convolutions", config.channels);
            ModelError::config("channels", problem)
        })?;
        let after = |side: usize| (side + 1).saturating_sub(KERNEL) / 2;
        let places = after(after(height)) * after(after(width));
        if places == 0 {
            let problem = format!(
                "is {height}×{width}: two 5×5 convolutions, each followed by a 2×2 pool, need at \
                 least 16×16"
            );
            return Err(ModelError::config("input", problem));
        }
        config
            .norm
            .check(filters[0], after(height) * after(width))?;
        config.norm.check(filters[1], places)?;
        let trunk = LeNet::new(channels, filters, config.norm, config.conv_activation, vb)?;
        Ok((Arc::new(trunk), places * filters[1]))
    },
};
