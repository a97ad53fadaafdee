//! Nearest neighbours among embeddings of many dimensions.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::Embeddings;
use crate::nearest::Candidate;

/// The nearest other embedding of each of N, of equally near ones the first: the same as from all
/// distances in f64, in a fraction of the time.
///
/// |x − y|² = |x|² + |y|² − 2 x·y, where a matrix product in f32 gives the last term. Its rounding is
/// bounded, so those that may be the nearest are known, mostly one or two, and their distances in f64
/// decide. Embeddings that are nearer to each other than the rounding, of about 10⁻⁴ of their
/// distance from the mean, all have to be compared.
///
/// N is at least 2, and the numbers are finite. Takes O(N) memory on each thread.
pub fn nearest_others(embeddings: &Embeddings) -> Vec<usize> {
    // Enough for the product to run at full speed.
    const ROWS: usize = 256;
    let (centred, count) = (Centred::new(embeddings), embeddings.len());
    let probes: Vec<usize> = (0..count).collect();
    probes
        .par_chunks(ROWS)
        .map_init(Vec::new, |products, probes| {
            centred.multiply(probes, products);
            let rows = probes.iter().zip(products.chunks_exact(count));
            rows.map(|(&probe, products)| centred.nearest(embeddings, probe, products))
                .collect::<Vec<_>>()
        })
        .flatten_iter()
        .collect()
}

/// Embeddings less their mean, since long vectors lose digits in |x|² + |y|² − 2 x·y.
struct Centred {
    /// (N, D), row by row.
    values: Vec<f32>,
    dimension: usize,
    /// (N,).
    lengths: Vec<f64>,
    /// What the rounding of a squared distance is at most, as a share of (|x| + |y|)².
    relative: f64,
    /// And what it is at most beside that, from products too small for f32.
    absolute: f64,
}

impl Centred {
    fn new(embeddings: &Embeddings) -> Self {
        let dimension = embeddings.dimension();
        let mean: Vec<f32> = mean(embeddings).into_iter().map(|v| v as f32).collect();
        let centred = |row: &[f32]| -> Vec<f32> {
            let values = row.iter().zip(&mean);
            values.map(|(value, mean)| value - mean).collect()
        };
        let values: Vec<f32> = embeddings.rows().flat_map(centred).collect();
        let length = |row: &[f32]| {
            let squares = row.iter().map(|value| f64::from(*value).powi(2));
            squares.sum::<f64>().sqrt()
        };
        // The classical bound of a sum of D products, γ = Du/(1 − Du) times |x||y|, with a few more
        // roundings; |x||y| ≤ (|x| + |y|)²/4. Centring moves each end by at most u times its length,
        // and so the squared distance by 2u(|x| + |y|)².
        let unit = f64::from(f32::EPSILON) / 2.0;
        let sum = (dimension + 8) as f64 * unit;
        Self {
            lengths: values.chunks_exact(dimension).map(length).collect(),
            values,
            dimension,
            relative: sum / (1.0 - sum).max(0.0) / 2.0 + 4.0 * unit,
            absolute: 2.0 * dimension as f64 * f64::from(f32::MIN_POSITIVE),
        }
    }

    /// The products of consecutive rows with all rows, (rows, N).
    fn multiply(&self, rows: &[usize], products: &mut Vec<f32>) {
        let (count, first) = (self.lengths.len(), rows[0] * self.dimension);
        products.resize(rows.len() * count, 0.0);
        let left = &self.values[first..][..rows.len() * self.dimension];
        let left = MatRef::from_row_major_slice(left, rows.len(), self.dimension);
        let right = MatRef::from_row_major_slice(&self.values, count, self.dimension);
        let products = MatMut::from_row_major_slice_mut(products, rows.len(), count);
        matmul(
            products,
            Accum::Replace,
            left,
            right.transpose(),
            1.0,
            Par::Seq,
        );
    }

    fn nearest(&self, embeddings: &Embeddings, probe: usize, products: &[f32]) -> usize {
        let others = || (0..products.len()).filter(|&other| other != probe);
        let bounds = |other: usize| self.bounds(probe, other, products[other]);
        let most = others().fold(f64::INFINITY, |most, other| most.min(bounds(other)[1]));
        let exact = |other| {
            let (a, b) = (embeddings.row(probe), embeddings.row(other));
            let square = |(a, b): (&f32, &f32)| (f64::from(*b) - f64::from(*a)).powi(2);
            Candidate::new(a.iter().zip(b).map(square).sum(), other)
        };
        others()
            .filter(|&other| bounds(other)[0] <= most)
            .map(exact)
            .min()
            .map_or(probe, Candidate::index)
    }

    /// What the squared distance of two embeddings is at least and at most.
    fn bounds(&self, a: usize, b: usize, product: f32) -> [f64; 2] {
        if !product.is_finite() {
            return [f64::NEG_INFINITY, f64::INFINITY];
        }
        let (a, b) = (self.lengths[a], self.lengths[b]);
        let square = a * a + b * b - 2.0 * f64::from(product);
        let error = self.relative * (a + b).powi(2) + self.absolute;
        [square - error, square + error]
    }
}

/// The mean embedding, (D,); there is at least one.
pub fn mean(embeddings: &Embeddings) -> Vec<f64> {
    let mut mean = vec![0.0; embeddings.dimension()];
    for row in embeddings.rows() {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    for sum in &mut mean {
        *sum /= embeddings.len() as f64;
    }
    mean
}
