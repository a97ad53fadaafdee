//! A matrix of embeddings as the CPU reads it.
//!
//! The formulas know two embeddings by their difference alone. A distance that takes another
//! property of them, as the cosine distance takes their lengths, is written here for both losses:
//! as a map of each embedding before the difference is taken, with its gradient in
//! [`Embeddings::pull_back`]. Normalised embeddings are that for the cosine: `|â − b̂|² = 2 − 2·cos`.

use std::ops::Range;

use candle_core::{CpuStorage, Layout, Result, WithDType};
use rayon::prelude::*;

use crate::element::Element;

/// A tensor as a CustomOp gets it.
pub(crate) type View<'a> = (&'a CpuStorage, &'a Layout);

/// (rows, columns), with any strides, each row of length 1 where asked.
pub(crate) struct Embeddings<'a, S> {
    values: &'a [S],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    row_stride: usize,
    column_stride: usize,
    /// Whether a row can be read where it lies.
    in_place: bool,
    /// One over the length of each row, or 0 for a row of zeros; in f64, which has it for the
    /// shortest of f32.
    inverse_lengths: Option<Vec<f64>>,
}

impl<'a, S: Element> Embeddings<'a, S> {
    pub(crate) fn new((storage, layout): View<'a>, normalised: bool) -> Result<Self> {
        let (rows, columns) = layout.shape().dims2()?;
        let mut embeddings = Self {
            values: &storage.as_slice::<S>()?[layout.start_offset()..],
            rows,
            columns,
            row_stride: layout.stride()[0],
            column_stride: layout.stride()[1],
            in_place: layout.stride()[1] == 1 && !normalised,
            inverse_lengths: None,
        };
        if normalised {
            let inverse = |row| embeddings.inverse_length(row);
            embeddings.inverse_lengths = Some((0..rows).into_par_iter().map(inverse).collect());
        }
        Ok(embeddings)
    }

    pub(crate) fn normalised(&self) -> bool {
        self.inverse_lengths.is_some()
    }

    /// Some columns of some rows, row by row: where they lie, if they lie so in the type of the
    /// sums, else copied to `room`.
    #[inline(always)]
    pub(crate) fn read<'r>(
        &'r self,
        rows: Range<usize>,
        columns: Range<usize>,
        room: &'r mut [S::Wide],
    ) -> &'r [S::Wide] {
        let len = rows.len() * columns.len();
        let whole =
            rows.len() == 1 || columns.len() == self.columns && self.row_stride == self.columns;
        if self.in_place && whole {
            let start = rows.start * self.row_stride + columns.start;
            return S::widen_all(&self.values[start..start + len], room);
        }
        let room = &mut room[..len];
        self.copy_rows(rows, columns, room);
        room
    }

    /// Kept out of the loops over rows that are read in place, which are slower around it.
    #[inline(never)]
    fn copy_rows(&self, rows: Range<usize>, columns: Range<usize>, room: &mut [S::Wide]) {
        for (row, room) in rows.zip(room.chunks_exact_mut(columns.len())) {
            self.copy(row, columns.clone(), room);
        }
    }

    /// Some columns of a row.
    #[inline(always)]
    pub(crate) fn copy(&self, row: usize, columns: Range<usize>, out: &mut [S::Wide]) {
        let values = &self.values[row * self.row_stride..];
        if self.column_stride == 1 {
            for (out, value) in out.iter_mut().zip(&values[columns]) {
                *out = value.widen();
            }
        } else {
            for (k, out) in columns.zip(&mut *out) {
                *out = values[k * self.column_stride].widen();
            }
        }
        if let Some(inverse) = &self.inverse_lengths {
            for out in out {
                *out = S::Wide::from_f64(WithDType::to_f64(*out) * inverse[row]);
            }
        }
    }

    /// Turns the gradient of a row as it is read into that of the row as it came: divided by its
    /// length, `(g − (g·x̂)·x̂) / |x|`. A row of zeros has no direction to turn to: 0.
    pub(crate) fn pull_back(&self, row: usize, gradient: &mut [S::Wide]) {
        let Some(inverse) = &self.inverse_lengths else {
            return;
        };
        let inverse = inverse[row];
        let unit = |k: usize| self.component(row, k) * inverse;
        let along: f64 = gradient
            .iter()
            .enumerate()
            .map(|(k, &g)| WithDType::to_f64(g) * unit(k))
            .sum();
        for (k, g) in gradient.iter_mut().enumerate() {
            *g = S::Wide::from_f64((WithDType::to_f64(*g) - along * unit(k)) * inverse);
        }
    }

    fn component(&self, row: usize, k: usize) -> f64 {
        WithDType::to_f64(self.values[row * self.row_stride + k * self.column_stride])
    }

    /// Squares of what is at most 1 cannot overflow.
    fn inverse_length(&self, row: usize) -> f64 {
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
