use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::Module;

use super::Definition;
use crate::Norm;
use crate::layers::inference::Prepare;
use crate::onnx::{Export, Graph, Value};

/// Takes the features that a pretrained encoder has made, (N, F, 1, 1), as they are: (N, F).
#[derive(Clone, Copy, Debug)]
struct Features;

impl Prepare for Features {
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Export for Features {
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        Ok(graph.flatten(&x))
    }
}

impl Module for Features {
    fn forward(&self, features: &Tensor) -> Result<Tensor> {
        features.flatten_from(1)
    }
}

pub(super) const DEFINITION: Definition = Definition {
    layer: "layer",
    channels: &[],
    norm: Norm::None,
    hidden: &[],
    // Its layers are its own, whatever `channels` says.
    build: |config, _| Ok((Arc::new(Features), config.input.into_iter().product())),
};
