//! What halves an image: the layer that trunks of 3×3 convolutions are made of.

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::norm::Normed;
use crate::layers::inference::Prepare;
use crate::layers::{ConvPool, ONE};
use crate::onnx::{Export, Graph, Value};
use crate::{Activation, ModelError, NetworkConfig, Norm};

/// Side of the kernels.
pub(super) const KERNEL: usize = 3;

/// A 3×3 convolution that keeps the size, a 2×2 max-pool, a normalisation and the activation:
/// (N, H, W, C) to (N, ⌊H/2⌋, ⌊W/2⌋, O).
#[derive(Clone, Debug)]
pub(super) struct Halving(Normed<ConvPool>);

impl Halving {
    /// The parameters are `name` and those of the normalisation.
    pub fn new(
        channels: usize,
        filters: usize,
        finish: (Norm, Activation),
        name: &str,
        vb: &VarBuilder,
    ) -> Result<Self> {
        Normed::new(finish, filters, ONE, name, vb, |activation, vb| {
            Ok(ConvPool::new(channels, filters, KERNEL, activation, vb)?.padded(KERNEL / 2))
        })
        .map(Self)
    }
}

impl Prepare for Halving {
    fn prepare(&mut self) -> Result<()> {
        self.0.prepare()
    }
}

impl Export for Halving {
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        self.0.export(graph, x)
    }
}

impl Module for Halving {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}

/// A trunk of such layers, as its errors call it.
pub(super) struct Halvings {
    /// `a residual network`.
    pub trunk: &'static str,
    /// `stages`.
    pub layers: &'static str,
    /// As many as it may have.
    pub most: usize,
}

impl Halvings {
    /// Checks that a configuration has a layer for each of its channels, and a pixel left after the
    /// last; and how many are left then.
    pub fn check(&self, config: &NetworkConfig) -> crate::Result<usize> {
        let Self {
            trunk,
            layers,
            most,
        } = self;
        let count = config.channels.len();
        if !(1..=*most).contains(&count) {
            let problem = format!("has {count} {layers}; {trunk} has 1 to {most}");
            return Err(ModelError::config("channels", problem));
        }
        let [_, height, width] = config.input;
        if height.min(width) >> count == 0 {
            let problem = format!(
                "is {height}×{width}: {count} {layers}, each with a 2×2 pool, need at least {0}×{0}",
                1 << count
            );
            return Err(ModelError::config("input", problem));
        }
        let places = |after: usize| (height >> after) * (width >> after);
        for (after, &filters) in (1..).zip(&config.channels) {
            config.norm.check(filters, places(after))?;
        }
        Ok(places(count))
    }
}
