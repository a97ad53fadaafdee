//! Batches of pairs whose distances are known.

use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The generator of a test.
pub fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// N pairs of D-dimensional embeddings in f64.
pub struct Batch {
    /// First sides, (N, D).
    pub a: Tensor,
    /// Second sides, (N, D).
    pub b: Tensor,
    /// Labels, (N,) u8, 1 for similar.
    pub same: Tensor,
    /// For each entry of a side, the smallest |a_k − b_k| of its pair.
    pub nearest: Vec<f64>,
}

/// Pairs at the given distances, in the norm of order `norm` (1 or 2), with the given labels.
///
/// No component of `a − b` is small beside the others, so that a step of a fraction of
/// [`Batch::nearest`] crosses no kink of the L1 norm.
pub fn at_distances(pairs: &[(f64, bool)], dim: usize, norm: u32, seed: u64) -> Result<Batch> {
    let mut rng = generator(seed);
    let (mut a, mut b, mut nearest) = (Vec::new(), Vec::new(), Vec::new());
    for &(distance, _) in pairs {
        let direction: Vec<f64> = (0..dim)
            .map(|_| rng.random_range(0.5..1.0) * if rng.random() { 1.0 } else { -1.0 })
            .collect();
        let length = match norm {
            1 => direction.iter().map(|x| x.abs()).sum::<f64>(),
            _ => direction.iter().map(|x| x * x).sum::<f64>().sqrt(),
        };
        let origin: Vec<f64> = (0..dim).map(|_| rng.random_range(-0.1..0.1)).collect();
        let offset: Vec<f64> = direction.iter().map(|x| distance * x / length).collect();
        let smallest = offset.iter().fold(f64::INFINITY, |s, x| s.min(x.abs()));
        nearest.extend(std::iter::repeat_n(smallest, dim));
        b.extend(origin.iter().zip(&offset).map(|(x, by)| x + by));
        a.extend(origin);
    }
    let same: Vec<u8> = pairs.iter().map(|&(_, same)| same.into()).collect();
    let shape = (pairs.len(), dim);
    Ok(Batch {
        a: Tensor::from_vec(a, shape, &Device::Cpu)?,
        b: Tensor::from_vec(b, shape, &Device::Cpu)?,
        same: Tensor::from_vec(same, pairs.len(), &Device::Cpu)?,
        nearest,
    })
}

/// N pairs with both sides uniform in ±1 and labels a fair coin, as in Caffe's own tests.
pub fn uniform(pairs: usize, dim: usize, seed: u64) -> Result<Batch> {
    let mut rng = generator(seed);
    let mut side = || -> Result<Tensor> {
        let values: Vec<f64> = (0..pairs * dim)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        Tensor::from_vec(values, (pairs, dim), &Device::Cpu)
    };
    let (a, b) = (side()?, side()?);
    let same: Vec<u8> = (0..pairs).map(|_| rng.random::<bool>().into()).collect();
    let nearest = (&a - &b)?
        .abs()?
        .min_keepdim(1)?
        .broadcast_as((pairs, dim))?;
    Ok(Batch {
        nearest: crate::compare::values(&nearest)?,
        same: Tensor::from_vec(same, pairs, &Device::Cpu)?,
        a,
        b,
    })
}
