use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::lanes::{Buffer, Real, Registers};
use super::{CUT, Geometry};
use crate::Activation;

/// Filters that are computed at once, four sums each, one for each element of a pooling window:
/// with 32 registers 24 sums, 4 elements of the image and 1 weight.
const WIDEST: usize = 6;

/// Rows of windows are computed in bands whose part of the images has at most this many elements:
/// 1 MiB of f32, the size of a second-level cache. LeNet's images are one band.
const BAND: usize = 1 << 18;

/// The filters in blocks of as many as are computed at once, the blocks as equal as can be; in
/// each block, for every element under the kernel, in (kh, kw, C) order, its filters' weights.
pub(super) struct FilterBlocks<T> {
    weights: Vec<T>,
    /// First filter and number of filters.
    blocks: Vec<(usize, usize)>,
}

impl<T: Real> FilterBlocks<T> {
    pub(super) fn new(arch: Arch, geometry: &Geometry, filters: &[T]) -> Self {
        let widest = match Registers::of::<T>(arch).count {
            32.. => WIDEST,
            _ => 2,
        };
        let count = geometry.filters.div_ceil(widest);
        let bound = |block: usize| block * geometry.filters / count;
        let blocks: Vec<_> = (0..count)
            .map(|block| (bound(block), bound(block + 1) - bound(block)))
            .collect();
        let mut weights = Vec::with_capacity(filters.len());
        for &(first, width) in &blocks {
            for k in 0..geometry.patch_len() {
                weights
                    .extend((first..first + width).map(|o| filters[o * geometry.patch_len() + k]));
            }
        }
        Self { weights, blocks }
    }

    /// Each block's first filter, number of filters, and weights.
    fn iter(&self, geometry: &Geometry) -> impl Iterator<Item = (usize, usize, &[T])> {
        let patch_len = geometry.patch_len();
        let weights = move |first, width| &self.weights[first * patch_len..][..width * patch_len];
        let blocks = self.blocks.iter();
        blocks.map(move |&(first, width)| (first, width, weights(first, width)))
    }
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Scratch<T> {
    images: Buffer<T>,
    pooled: Buffer<T>,
    winners: Buffer<T>,
}

/// Some images' convolution, activation and pooling.
pub(super) struct Forward<'a, T> {
    pub(super) geometry: &'a Geometry,
    pub(super) activation: Activation,
    pub(super) images: &'a [T],
    pub(super) filters: &'a FilterBlocks<T>,
    pub(super) bias: &'a [T],
    pub(super) pooled: &'a mut [T],
    pub(super) winners: &'a mut [u8],
    pub(super) scratch: &'a mut Scratch<T>,
}

impl<T: Real> WithSimd for Forward<'_, T> {
    type Output = ();

    /// Each lane of a vector has an image of its own: there is nothing left over, whatever the
    /// sizes of images, kernel and filters, and no vector is put together from others.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let g = self.geometry;
        let lanes = T::lanes::<S>();
        let windows = g.pooled_width() * g.filters;
        let values = self.scratch.pooled.first_mut(windows * lanes);
        let places = self.scratch.winners.first_mut(windows * lanes);
        let band_rows = (BAND / (2 * g.row_len() * lanes)).clamp(1, g.pooled_height());
        let groups = self
            .images
            .chunks(lanes * g.image_len())
            .zip(self.pooled.chunks_mut(lanes * g.pooled_len()))
            .zip(self.winners.chunks_mut(lanes * g.pooled_len()));
        for ((images, pooled), winners) in groups {
            for first in (0..g.pooled_height()).step_by(band_rows) {
                let rows = first..g.pooled_height().min(first + band_rows);
                let band = 2 * first * g.row_len()..(2 * rows.end + g.kernel[0] - 1) * g.row_len();
                let x = self.scratch.images.first_mut(band.len() * lanes);
                interleave(images, g.image_len(), band, lanes, x);
                for i in rows {
                    let mut row = Row {
                        geometry: g,
                        activation: self.activation,
                        x: T::vectors::<S>(&x[2 * (i - first) * g.row_len() * lanes..]),
                        pooled: T::vectors_mut::<S>(values),
                        winners: T::vectors_mut::<S>(places),
                    };
                    for (filter, width, weights) in self.filters.iter(g) {
                        match width {
                            1 => row.filters::<1>(simd, filter, weights, self.bias),
                            2 => row.filters::<2>(simd, filter, weights, self.bias),
                            3 => row.filters::<3>(simd, filter, weights, self.bias),
                            4 => row.filters::<4>(simd, filter, weights, self.bias),
                            5 => row.filters::<5>(simd, filter, weights, self.bias),
                            WIDEST => row.filters::<WIDEST>(simd, filter, weights, self.bias),
                            _ => unreachable!("a block has 1 to {WIDEST} filters"),
                        }
                    }
                    let images = pooled
                        .chunks_exact_mut(g.pooled_len())
                        .zip(winners.chunks_exact_mut(g.pooled_len()));
                    for (lane, (pooled, winners)) in images.enumerate() {
                        let pooled = &mut pooled[i * windows..][..windows];
                        for (pooled, values) in pooled.iter_mut().zip(values.chunks_exact(lanes)) {
                            *pooled = values[lane];
                        }
                        let winners = &mut winners[i * windows..][..windows];
                        for (winner, places) in winners.iter_mut().zip(places.chunks_exact(lanes)) {
                            *winner = places[lane].to_place();
                        }
                    }
                }
            }
        }
    }
}

/// Element k of the band of image l goes to lane l of vector k. Lanes without an image keep what
/// they had, and what comes of it is not looked at.
#[inline(always)]
fn interleave<T: Real>(
    images: &[T],
    image_len: usize,
    band: Range<usize>,
    lanes: usize,
    vectors: &mut [T],
) {
    /// Vectors that stay in the first-level cache until all lanes are written.
    const BLOCK: usize = 64;
    for (block, vectors) in vectors.chunks_mut(BLOCK * lanes).enumerate() {
        for (lane, image) in images.chunks_exact(image_len).enumerate() {
            let elements = &image[band.clone()][block * BLOCK..];
            for (vector, &element) in vectors.chunks_exact_mut(lanes).zip(elements) {
                vector[lane] = element;
            }
        }
    }
}

/// A row of pooling windows, in as many images as a vector has lanes.
struct Row<'a, T: Real, S: Simd> {
    geometry: &'a Geometry,
    activation: Activation,
    /// From the row's first element on.
    x: &'a [T::Vector<S>],
    pooled: &'a mut [T::Vector<S>],
    winners: &'a mut [T::Vector<S>],
}

impl<T: Real, S: Simd> Row<'_, T, S> {
    /// O filters of all windows.
    #[inline(always)]
    fn filters<const O: usize>(&mut self, simd: S, first: usize, weights: &[T], bias: &[T]) {
        let (weights, _) = weights.as_chunks::<O>();
        let bias = std::array::from_fn(|o| T::splat(simd, bias[first + o]));
        for j in 0..self.geometry.pooled_width() {
            let window = self.convolve(simd, j, weights, bias);
            let [values, places] = self.pool(simd, window);
            let to = j * self.geometry.filters + first;
            self.pooled[to..][..O].copy_from_slice(&values);
            self.winners[to..][..O].copy_from_slice(&places);
        }
    }

    /// The four elements of window j under O filters.
    #[inline(always)]
    fn convolve<const O: usize>(
        &self,
        simd: S,
        j: usize,
        weights: &[[T; O]],
        bias: [T::Vector<S>; O],
    ) -> [[T::Vector<S>; O]; 4] {
        let g = self.geometry;
        let (run, row) = (g.run(), g.row_len());
        // Not one array of four, which the compiler would keep in memory.
        let (mut s0, mut s1, mut s2, mut s3) = (bias, bias, bias, bias);
        for (a, weights) in weights.chunks_exact(run).enumerate() {
            let start = a * row + 2 * j * g.channels;
            let [x0, x1, x2, x3] =
                [0, g.channels, row, row + g.channels].map(|place| &self.x[start + place..][..run]);
            for ((((w, &x0), &x1), &x2), &x3) in weights.iter().zip(x0).zip(x1).zip(x2).zip(x3) {
                for o in 0..O {
                    let w = T::splat(simd, w[o]);
                    s0[o] = T::mul_add(simd, w, x0, s0[o]);
                    s1[o] = T::mul_add(simd, w, x1, s1[o]);
                    s2[o] = T::mul_add(simd, w, x2, s2[o]);
                    s3[o] = T::mul_add(simd, w, x3, s3[o]);
                }
            }
        }
        [s0, s1, s2, s3]
    }

    /// The maxima, and which element of its window each is.
    #[inline(always)]
    fn pool<const O: usize>(
        &self,
        simd: S,
        [first, others @ ..]: [[T::Vector<S>; O]; 4],
    ) -> [[T::Vector<S>; O]; 2] {
        let zero = T::splat(simd, T::zero());
        let mut best = first;
        let mut winners = [zero; O];
        for (place, values) in (1..).zip(others) {
            let place = T::splat(simd, T::from_place(place));
            for o in 0..O {
                let wins = T::greater_or_nan(simd, values[o], best[o]);
                best[o] = T::select(simd, wins, values[o], best[o]);
                winners[o] = T::select(simd, wins, place, winners[o]);
            }
        }
        if self.activation == Activation::Relu {
            let cut = T::splat(simd, T::from_place(CUT));
            for o in 0..O {
                let kept = T::greater_or_nan(simd, best[o], zero);
                best[o] = T::select(simd, kept, best[o], zero);
                winners[o] = T::select(simd, kept, winners[o], cut);
            }
        }
        [best, winners]
    }
}
