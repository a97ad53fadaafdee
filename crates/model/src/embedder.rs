use candle_core::{Result as CandleResult, Tensor};
use candle_nn::Module;
use rayon::prelude::*;

use crate::network::check;
use crate::{EmbeddingNet, Result};

/// Images that go through the layers together, at most: more would leave the caches in between.
const MOST: usize = 32;

/// And at least: fewer are embedded in the time that it takes to wake another thread.
const LEAST: usize = 4;

/// A network's weights as they were when it was [made](crate::Network::embedder), laid out to embed images
/// and without gradients.
///
/// On the CPU an image's embedding has the same bits alone and in any batch, at any place in it and from any
/// number of rayon threads. It differs from that of [`Network::forward`](crate::Network::forward) by
/// rounding, since sums are taken in another order.
#[derive(Clone, Debug)]
pub struct Embedder {
    layers: EmbeddingNet,
    input: [usize; 3],
}

impl Embedder {
    pub(crate) fn new(layers: EmbeddingNet, input: [usize; 3]) -> Self {
        Self { layers, input }
    }

    /// Embeds `images` (N, C, H, W), of the network's element type and on its device: (N, D).
    ///
    /// # Errors
    /// As [`Network::forward`](crate::Network::forward).
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.in_groups(images, EmbeddingNet::forward)
    }

    /// The features of `images` (N, C, H, W) that the last layer makes embeddings of: (N, F).
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        self.in_groups(images, EmbeddingNet::features)
    }

    /// Takes groups of images through the layers, each on one thread.
    fn in_groups(
        &self,
        images: &Tensor,
        pass: fn(&EmbeddingNet, &Tensor) -> CandleResult<Tensor>,
    ) -> Result<Tensor> {
        check(images, self.input)?;
        let count = images.dim(0)?;
        let group = count.div_ceil(rayon::current_num_threads());
        let group = group.clamp(LEAST, MOST);
        if count <= group || !images.device().is_cpu() {
            return Ok(pass(&self.layers, images)?);
        }
        let groups: Vec<Tensor> = (0..count.div_ceil(group))
            .into_par_iter()
            .map(|number| {
                let first = number * group;
                let images = images.narrow(0, first, group.min(count - first))?;
                pass(&self.layers, &images)
            })
            .collect::<CandleResult<_>>()?;
        Ok(Tensor::cat(&groups, 0)?)
    }
}
