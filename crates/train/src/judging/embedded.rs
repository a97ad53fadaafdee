use anyhow::Result;
use candle_core::{Device, Tensor};
use data::{Compose, LabelledImages, Pair, batch_of};
use loss_kernel::ContrastiveLoss;
use metrics::{Roc, euclidean};
use model::Network;

/// Images embedded at once: a few MB of activations.
const BATCH: usize = 256;

/// Embeddings of a set of images.
pub struct Embedded {
    /// (N, D), row by row.
    pub values: Vec<f32>,
    /// D.
    pub dim: usize,
    /// (N,).
    pub labels: Vec<u32>,
}

impl Embedded {
    /// Embeds every image, in order.
    pub fn new(net: &Network, images: &LabelledImages, transform: &Compose) -> Result<Self> {
        let mut values = Vec::new();
        for from in (0..images.len()).step_by(BATCH) {
            let to = (from + BATCH).min(images.len());
            let pixels = batch_of(images, from..to, transform);
            values.extend(embed(net, pixels, to - from)?);
        }
        Ok(Self {
            values,
            dim: net.config().embedding,
            labels: images.labels().to_vec(),
        })
    }

    fn row(&self, image: u32) -> &[f32] {
        &self.values[image as usize * self.dim..][..self.dim]
    }

    /// The Euclidean distance of each pair.
    pub fn distances(&self, pairs: &[Pair]) -> Vec<f32> {
        let distance = |pair: &Pair| euclidean(self.row(pair.first), self.row(pair.second));
        pairs.iter().map(distance).collect()
    }

    /// The mean loss of the pairs, on the CPU, where the values are.
    pub fn loss(&self, loss: ContrastiveLoss, pairs: &[Pair]) -> Result<f64> {
        let side = |image: fn(&Pair) -> u32| -> Result<Tensor> {
            let rows = pairs.iter().flat_map(|pair| self.row(image(pair)));
            let rows: Vec<f32> = rows.copied().collect();
            Ok(Tensor::from_vec(
                rows,
                (pairs.len(), self.dim),
                &Device::Cpu,
            )?)
        };
        let same: Vec<u8> = pairs.iter().map(|pair| pair.same.into()).collect();
        let same = Tensor::from_vec(same, pairs.len(), &Device::Cpu)?;
        let loss = loss.forward(&side(|pair| pair.first)?, &side(|pair| pair.second)?, &same)?;
        Ok(loss.to_scalar::<f32>()?.into())
    }
}

/// Embeddings (N, D), row by row, of `images` images' network input.
pub fn embed(net: &Network, pixels: Vec<f32>, images: usize) -> Result<Vec<f32>> {
    let [c, h, w] = net.config().input;
    let pixels = Tensor::from_vec(pixels, (images, c, h, w), net.device())?;
    Ok(net.forward(&pixels)?.flatten_all()?.to_vec1()?)
}

/// The ROC of pairs at their distances.
pub fn roc(distances: &[f32], pairs: &[Pair]) -> Result<Roc> {
    let same: Vec<bool> = pairs.iter().map(|pair| pair.same).collect();
    Ok(Roc::new(distances, &same)?)
}
