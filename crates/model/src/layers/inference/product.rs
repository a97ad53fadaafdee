//! Sums of products, each with its terms in their own order.

use pulp::{Arch, Simd, WithSimd};

use crate::layers::conv_pool::{Buffer, Real, Registers};

/// Vectors of columns that are summed at once, of 32 registers: with 4 rows 16 sums, 4 vectors of weights
/// and an element of the rows. Of 16 registers it is half as many.
const WIDEST: usize = 4;

/// A matrix (K, N) to multiply by, in panels of as many columns as are summed at once, each by row. The
/// columns are filled up with zeros to whole vectors.
pub(super) struct Columns<T> {
    arch: Arch,
    values: Buffer<T>,
    terms: usize,
    count: usize,
    /// Vectors of a panel, but for the last.
    widest: usize,
}

/// Some columns.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a, V> {
    /// The first one.
    pub(super) column: usize,
    /// As many vectors, 1 to `WIDEST`.
    pub(super) vectors: usize,
    /// Their weights, row by row.
    pub(super) weights: &'a [V],
}

/// Where the elements of a row lie: in runs of `len`, from each to the next `stride` elements.
#[derive(Clone, Copy)]
pub(super) struct Runs {
    pub(super) len: usize,
    pub(super) stride: usize,
}

/// Of M rows under V vectors of columns:
///
/// ```text
/// sum[m, n] = Σ_k x[m, k] · w[k, n]
/// ```
///
/// term by term, whatever M and V.
#[inline(always)]
pub(super) fn sums<S: Simd, T: Real, const M: usize, const V: usize>(
    simd: S,
    x: [&[T]; M],
    runs: Runs,
    weights: &[[T::Vector<S>; V]],
) -> [[T::Vector<S>; V]; M] {
    let mut sums = [[T::splat(simd, T::zero()); V]; M];
    for (run, weights) in weights.chunks_exact(runs.len).enumerate() {
        let mut x = x;
        for row in &mut x {
            *row = &row[run * runs.stride..][..weights.len()];
        }
        for (k, weights) in weights.iter().enumerate() {
            for m in 0..M {
                let x = T::splat(simd, x[m][k]);
                for v in 0..V {
                    sums[m][v] = T::mul_add(simd, x, weights[v], sums[m][v]);
                }
            }
        }
    }
    sums
}

impl<T: Real> Columns<T> {
    /// The matrix of `terms` rows and `count` columns with `value(row, column)`.
    pub(super) fn new(
        arch: Arch,
        [terms, count]: [usize; 2],
        value: impl Fn(usize, usize) -> T,
    ) -> Self {
        let registers = Registers::of::<T>(arch);
        let widest = if registers.count < 32 {
            WIDEST / 2
        } else {
            WIDEST
        };
        let mut values = Buffer::default();
        let mut rest = values.first_mut(terms * count.next_multiple_of(registers.lanes));
        for first in (0..count).step_by(widest * registers.lanes) {
            let columns = first..count.min(first + widest * registers.lanes);
            let width = columns.len().next_multiple_of(registers.lanes);
            let (panel, behind) = rest.split_at_mut(terms * width);
            for (k, row) in panel.chunks_exact_mut(width).enumerate() {
                for (to, n) in row.iter_mut().zip(columns.clone()) {
                    *to = value(k, n);
                }
            }
            rest = behind;
        }
        Self {
            arch,
            values,
            terms,
            count,
            widest,
        }
    }

    #[inline(always)]
    pub(super) fn panels<S: Simd>(&self) -> impl Iterator<Item = Panel<'_, T::Vector<S>>> {
        let lanes = T::lanes::<S>();
        let vectors = self.count.div_ceil(lanes);
        let weights = T::vectors::<S>(self.values.first(self.terms * vectors * lanes));
        (0..vectors).step_by(self.widest).map(move |first| {
            let vectors = self.widest.min(vectors - first);
            Panel {
                column: first * lanes,
                vectors,
                weights: &weights[first * self.terms..][..vectors * self.terms],
            }
        })
    }

    /// The product of `x` (M, K) and the matrix, (M, N), by row.
    pub(super) fn product(&self, x: &[T], product: &mut [T]) {
        self.arch.dispatch(Product {
            x,
            columns: self,
            product,
        });
    }
}

struct Product<'a, T> {
    x: &'a [T],
    columns: &'a Columns<T>,
    product: &'a mut [T],
}

impl<T: Real> WithSimd for Product<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for panel in self.columns.panels::<S>() {
            match panel.vectors {
                1 => self.panel::<S, 1>(simd, panel),
                2 => self.panel::<S, 2>(simd, panel),
                3 => self.panel::<S, 3>(simd, panel),
                WIDEST => self.panel::<S, WIDEST>(simd, panel),
                _ => unreachable!("a panel has 1 to {WIDEST} vectors"),
            }
        }
    }
}

impl<T: Real> Product<'_, T> {
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, panel: Panel<'_, T::Vector<S>>) {
        let (weights, _) = panel.weights.as_chunks::<V>();
        let rows = self.product.len() / self.columns.count;
        let mut row = 0;
        while row < rows {
            row += match rows - row {
                4.. => self.rows::<S, 4, V>(simd, [row, panel.column], weights),
                2.. => self.rows::<S, 2, V>(simd, [row, panel.column], weights),
                _ => self.rows::<S, 1, V>(simd, [row, panel.column], weights),
            };
        }
    }

    /// Writes M rows from `row` on, V vectors from `column` on, and says how many rows.
    #[inline(always)]
    fn rows<S: Simd, const M: usize, const V: usize>(
        &mut self,
        simd: S,
        [row, column]: [usize; 2],
        weights: &[[T::Vector<S>; V]],
    ) -> usize {
        let Columns { terms, count, .. } = *self.columns;
        let whole = Runs {
            len: terms,
            stride: 0,
        };
        let mut x = [self.x; M];
        for (m, x) in x.iter_mut().enumerate() {
            *x = &self.x[(row + m) * terms..][..terms];
        }
        let sums = sums::<S, T, M, V>(simd, x, whole, weights);
        for (m, &sums) in sums.iter().enumerate() {
            let to = &mut self.product[(row + m) * count..][..count][column..];
            store::<S, T, V>(simd, to, sums);
        }
        M
    }
}

/// The first numbers of a slice, with zeros behind its end.
#[inline(always)]
pub(super) fn load<S: Simd, T: Real>(simd: S, from: &[T]) -> T::Vector<S> {
    match T::vectors::<S>(from) {
        [whole, ..] => *whole,
        [] => T::load_part(simd, from),
    }
}

/// Writes vectors one after the other, as far as there is room.
#[inline(always)]
pub(super) fn store<S: Simd, T: Real, const V: usize>(
    simd: S,
    to: &mut [T],
    vectors: [T::Vector<S>; V],
) {
    let lanes = T::lanes::<S>();
    if to.len() >= V * lanes {
        T::vectors_mut::<S>(&mut to[..V * lanes]).copy_from_slice(&vectors);
        return;
    }
    for (v, &vector) in vectors.iter().enumerate() {
        let here = &mut to[v * lanes..];
        match T::vectors_mut::<S>(here) {
            [whole, ..] => *whole = vector,
            [] => T::store_part(simd, here, vector),
        }
    }
}
