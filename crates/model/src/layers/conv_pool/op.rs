use std::sync::OnceLock;

use candle_core::Shape;
use pulp::Arch;

use super::Geometry;
use super::cpu::{self, Buffered};
use crate::Activation;
use crate::layers::cpu_op::Layer;

/// One forward of the layer. It keeps which element won each window for the backward of that
/// forward, so every call of the layer makes its own.
pub(super) struct ConvPoolOp {
    pub(super) geometry: Geometry,
    pub(super) activation: Activation,
    pub(super) winners: OnceLock<Vec<u8>>,
}

impl Layer for ConvPoolOp {
    const NAME: &str = "conv-pool";

    fn forward<T: Buffered>(&self, [x, filters, bias]: [&[T]; 3]) -> (Vec<T>, Shape) {
        let g = &self.geometry;
        let (pooled, winners) = cpu::forward(Arch::new(), g, self.activation, x, filters, bias);
        let first = self.winners.set(winners).is_ok();
        assert!(first, "conv_pool: one op instance ran forward twice");
        let shape = (g.images, g.pooled_height(), g.pooled_width(), g.filters);
        (pooled, shape.into())
    }

    fn backward<T: Buffered>(
        &self,
        wanted: [bool; 3],
        [x, filters, _, gradient]: [&[T]; 4],
    ) -> [Option<Vec<T>>; 3] {
        let (g, winners) = (&self.geometry, self.winners.get());
        let winners = winners.expect("a backward pass follows the forward pass");
        cpu::backward(Arch::new(), g, wanted, x, filters, gradient, winners)
    }
}
