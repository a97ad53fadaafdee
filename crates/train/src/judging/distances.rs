use anyhow::Result;
use candle_core::{Device, Tensor};
use data::Pair;
use loss_kernel::ContrastiveLoss;
use metrics::{Embeddings, Roc, euclidean};

/// The Euclidean distance of each pair.
pub fn distances(embeddings: &Embeddings, pairs: &[Pair]) -> Vec<f32> {
    let row = |image: u32| embeddings.row(image as usize);
    let distance = |pair: &Pair| euclidean(row(pair.first), row(pair.second));
    pairs.iter().map(distance).collect()
}

/// The ROC of pairs at their distances.
///
/// # Errors
/// Without a similar or a dissimilar pair, or where a distance is NaN.
pub fn roc(distances: &[f32], pairs: &[Pair]) -> Result<Roc> {
    let same: Vec<bool> = pairs.iter().map(|pair| pair.similar).collect();
    Ok(Roc::new(distances, &same)?)
}

/// The mean loss of the pairs, on the CPU, where the embeddings are.
///
/// # Errors
/// Without a pair.
pub fn mean_loss(embeddings: &Embeddings, loss: ContrastiveLoss, pairs: &[Pair]) -> Result<f64> {
    let side = |image: fn(&Pair) -> u32| -> Result<Tensor> {
        let rows = pairs
            .iter()
            .flat_map(|pair| embeddings.row(image(pair) as usize));
        let shape = (pairs.len(), embeddings.dimension());
        Ok(Tensor::from_iter(rows.copied(), &Device::Cpu)?.reshape(shape)?)
    };
    let same = pairs.iter().map(|pair| u8::from(pair.similar));
    let same = Tensor::from_iter(same, &Device::Cpu)?;
    let loss = loss.forward(&side(|pair| pair.first)?, &side(|pair| pair.second)?, &same)?;
    Ok(loss.to_scalar::<f32>()?.into())
}
