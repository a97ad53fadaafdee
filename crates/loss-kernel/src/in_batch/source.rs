//! A batch's embeddings as the tiles read them.

use candle_core::{CpuStorage, Layout, Result, WithDType};
use rayon::prelude::*;

use super::Real;
use super::classes::Classes;

/// A matrix of any float type and strides, its rows in the order of their classes, each of length 1
/// where asked.
pub(super) struct Source<'a, S> {
    values: &'a [S],
    row_stride: usize,
    column_stride: usize,
    pub(super) columns: usize,
    pub(super) classes: &'a Classes,
    /// One over the length of each row, or 0 where that is no number; in f64, which has it for the
    /// shortest of f32.
    inverse_norms: Option<Vec<f64>>,
}

impl<'a, S: WithDType> Source<'a, S> {
    pub(super) fn new(
        (storage, layout): (&'a CpuStorage, &'a Layout),
        classes: &'a Classes,
        normalise: bool,
    ) -> Result<Self> {
        let (rows, columns) = layout.shape().dims2()?;
        let mut source = Self {
            values: &storage.as_slice::<S>()?[layout.start_offset()..],
            row_stride: layout.stride()[0],
            column_stride: layout.stride()[1],
            columns,
            classes,
            inverse_norms: None,
        };
        if normalise {
            let inverse = |row| source.inverse_norm(row);
            source.inverse_norms = Some((0..rows).into_par_iter().map(inverse).collect());
        }
        Ok(source)
    }

    pub(super) fn rows(&self) -> usize {
        self.classes.order.len()
    }

    /// The row at this place of the order.
    #[inline(always)]
    pub(super) fn read<W: Real>(&self, place: usize, out: &mut [W]) {
        let row = self.classes.order[place] as usize;
        let values = &self.values[row * self.row_stride..];
        if self.column_stride == 1 {
            for (out, value) in out.iter_mut().zip(&values[..self.columns]) {
                *out = W::from_f64(value.to_f64());
            }
        } else {
            for (k, out) in out.iter_mut().enumerate() {
                *out = W::from_f64(values[k * self.column_stride].to_f64());
            }
        }
        if let Some(inverse) = &self.inverse_norms {
            for out in out {
                *out = W::from_f64((*out).to_f64() * inverse[row]);
            }
        }
    }

    /// Turns the gradient of the embeddings of length 1 into that of the embeddings themselves:
    /// `(g − (g·x̂)·x̂) / |x|`, by row. A zero embedding has no direction to turn to: 0.
    pub(super) fn pull_back<W: Real>(&self, gradient: &mut [W]) {
        let Some(inverse) = &self.inverse_norms else {
            return;
        };
        let rows = gradient.par_chunks_exact_mut(self.columns).zip(inverse);
        rows.enumerate().for_each(|(row, (gradient, &inverse))| {
            let unit = |k: usize| self.component(row, k) * inverse;
            let along: f64 = gradient
                .iter()
                .enumerate()
                .map(|(k, &g)| g.to_f64() * unit(k))
                .sum();
            for (k, g) in gradient.iter_mut().enumerate() {
                *g = W::from_f64(((*g).to_f64() - along * unit(k)) * inverse);
            }
        });
    }

    fn component(&self, row: usize, k: usize) -> f64 {
        self.values[row * self.row_stride + k * self.column_stride].to_f64()
    }

    /// Squares of what is at most 1 cannot overflow.
    fn inverse_norm(&self, row: usize) -> f64 {
        let components = || (0..self.columns).map(|k| self.component(row, k).abs());
        let largest = components().fold(0.0, f64::max);
        // `max` passes over a NaN, the sum does not.
        let sum: f64 = components().sum();
        if sum < f64::MIN_POSITIVE {
            return 0.0;
        }
        1.0 / (largest
            * components()
                .map(|x| (x / largest).powi(2))
                .sum::<f64>()
                .sqrt())
    }
}
