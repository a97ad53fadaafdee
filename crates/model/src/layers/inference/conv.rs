//! A convolution, with or without a 2×2 max-pool, and its activation.

use candle_core::{Result, Shape, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};

use super::product::{Columns, Panel, Runs, load, store, sums};
use super::{Inference, values};
use crate::Activation;
use crate::layers::conv::{Five, Matrices, Side, Three, Winograd};
use crate::layers::conv_pool::{Buffer, Buffered, Real};
use crate::layers::cpu_op::finish;

/// Channels from which on Winograd's method takes less time: with fewer there is too little to multiply
/// for the transforms.
const CHANNELS: usize = 8;

/// Tiles whose products are taken at once, or those of one image: with fewer, loading the filters takes
/// longer than multiplying by them.
const TILES: usize = 16;

/// A convolution, the maximum of each 2×2 window if it is `pooled`, and the activation: (N, H, W, C) to
/// (N, H', W', O).
pub(crate) struct Convolution<T> {
    arch: Arch,
    channels: usize,
    kernel: usize,
    padding: usize,
    pooled: bool,
    filters: Filters<T>,
    bias: Vec<T>,
    activation: Activation,
}

/// What the filters are made into.
enum Filters<T> {
    /// Filters as columns, whose rows are the elements under the kernel, in (k, k, C) order.
    Direct(Columns<T>),
    /// For each place of a tile, (C, O).
    Winograd(Vec<Columns<T>>),
}

impl<T: Buffered> Convolution<T> {
    /// Of a weight (O, C, k, k), a bias (O,) and `padding` zeros on each side; `None` where there is no
    /// such code, without a pool for filters other than 3×3 and 5×5.
    pub(crate) fn new(
        arch: Arch,
        weight: &Tensor,
        bias: &Tensor,
        padding: usize,
        pooled: bool,
        activation: Activation,
    ) -> Result<Option<Self>> {
        let (count, channels, kernel, width) = weight.dims4()?;
        if kernel != width {
            return Ok(None);
        }
        let sizes = [count, channels];
        let weight = values::<T>(weight)?;
        let filters = match kernel {
            3 if !pooled || channels >= CHANNELS => {
                transformed::<T, Three, 4, 3>(arch, &weight, sizes)
            }
            5 if !pooled || channels >= CHANNELS => {
                transformed::<T, Five, 6, 5>(arch, &weight, sizes)
            }
            _ if pooled => {
                let value = |k: usize, o: usize| {
                    let (tap, c) = (k / channels, k % channels);
                    weight[(o * channels + c) * kernel * kernel + tap]
                };
                let terms = kernel * kernel * channels;
                Filters::Direct(Columns::new(arch, [terms, count], value))
            }
            _ => return Ok(None),
        };
        Ok(Some(Self {
            arch,
            channels,
            kernel,
            padding,
            pooled,
            filters,
            bias: values(bias)?,
            activation,
        }))
    }
}

/// G·w·Gᵀ of filters (O, C, K, K), in f64 until the end.
fn transformed<T: Real, P: Matrices<N, K>, const N: usize, const K: usize>(
    arch: Arch,
    weight: &[T],
    [count, channels]: [usize; 2],
) -> Filters<T> {
    let (filters, _) = weight.as_chunks::<K>();
    let (filters, _) = filters.as_chunks::<K>();
    let at = |[i, j]: [usize; 2], c: usize, o: usize| {
        let w = &filters[o * channels + c];
        let mut sum = 0.0;
        for (row, g) in w.iter().zip(&P::FILTER[i]) {
            for (w, h) in row.iter().zip(&P::FILTER[j]) {
                sum += g * w.to_f64() * h;
            }
        }
        T::from_f64(sum)
    };
    let place = |place: usize| {
        let value = |c, o| at([place / N, place % N], c, o);
        Columns::new(arch, [channels, count], value)
    };
    Filters::Winograd((0..N * N).map(place).collect())
}

impl<T: Buffered> Inference<T> for Convolution<T> {
    fn forward(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let &[images, height, width, channels] = dims else {
            bail!("convolution: images of {dims:?}");
        };
        let least = (self.kernel + usize::from(self.pooled)).saturating_sub(2 * self.padding);
        if channels != self.channels || height.min(width) < least {
            bail!(
                "convolution: images of {height}×{width} with {channels} channels; it takes {} \
                 channels and at least {least}×{least}",
                self.channels
            );
        }
        let size = Winograd {
            height,
            width,
            kernel: self.kernel,
            padding: self.padding,
        };
        let mut result = size.result();
        if self.pooled {
            result = result.map(|side| side / 2);
        }
        let shape = (images, result[0], result[1], self.bias.len());
        let mut results = vec![T::zero(); images * result[0] * result[1] * self.bias.len()];
        T::with_scratch(|scratch| {
            self.arch.dispatch(Run {
                layer: self,
                size,
                images: x,
                results: &mut results,
                room: &mut scratch.inference,
            });
        });
        Ok((results, shape.into()))
    }
}

/// Numbers in work.
#[derive(Default)]
pub(crate) struct Room<T> {
    /// An image with its zeros around it.
    padded: Buffer<T>,
    /// Rows of tiles' numbers, transformed along one side.
    band: Buffer<T>,
    /// By place in a tile, tile and channel: of the images,
    tiles: Buffer<T>,
    /// and of the results.
    products: Buffer<T>,
    /// An image's result before the pool.
    sums: Buffer<T>,
}

struct Run<'a, T> {
    layer: &'a Convolution<T>,
    size: Winograd,
    images: &'a [T],
    results: &'a mut [T],
    room: &'a mut Room<T>,
}

impl<T: Buffered> WithSimd for Run<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match &self.layer.filters {
            Filters::Direct(columns) => self.direct(simd, columns),
            Filters::Winograd(columns) if self.layer.kernel == 3 => {
                self.winograd::<S, Three, 4, 3>(simd, columns);
            }
            Filters::Winograd(columns) => self.winograd::<S, Five, 6, 5>(simd, columns),
        }
    }
}

impl<T: Buffered> Run<'_, T> {
    /// The four sums of each window, term by term, then their maximum.
    #[inline(always)]
    fn direct<S: Simd>(self, simd: S, columns: &Columns<T>) {
        let images = Side::of_images(self.size, self.layer.channels, 0);
        let [height, width] = self.size.result().map(|side| side / 2);
        let row = width * self.layer.bias.len();
        self.room.padded.first_mut(images.padded()).fill(T::zero());
        let results = self.results.chunks_exact_mut(height * row);
        for (image, result) in self.images.chunks_exact(images.image).zip(results) {
            let padded = images.pad(image, &mut self.room.padded);
            let windows = Windows {
                layer: self.layer,
                row: images.padded_row(),
            };
            for (i, result) in result.chunks_exact_mut(row).enumerate() {
                let x = &padded[2 * i * windows.row..];
                for panel in columns.panels::<S>() {
                    match panel.vectors {
                        1 => windows.pool::<S, 1>(simd, x, panel, result),
                        2 => windows.pool::<S, 2>(simd, x, panel, result),
                        3 => windows.pool::<S, 3>(simd, x, panel, result),
                        _ => windows.pool::<S, 4>(simd, x, panel, result),
                    }
                }
            }
        }
    }
}

impl<T: Buffered> Convolution<T> {
    /// A result of its sum.
    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, sum: T::Vector<S>, bias: T::Vector<S>) -> T::Vector<S> {
        let sum = T::sum(simd, sum, bias);
        match self.activation {
            Activation::Linear => sum,
            Activation::Relu => {
                let zero = T::splat(simd, T::zero());
                T::select(simd, T::greater_or_nan(simd, sum, zero), sum, zero)
            }
        }
    }

    /// The results of an image's sums, whose rows have `row` numbers: the last one of an odd number of
    /// rows or columns is in no window.
    #[inline(always)]
    fn pool<S: Simd>(&self, simd: S, sums: &[T], row: usize, results: &mut [T]) {
        let count = self.bias.len();
        let windows = row / count / 2;
        let results = results.chunks_exact_mut(windows * count);
        for (rows, results) in sums.chunks_exact(2 * row).zip(results) {
            let (above, below) = rows.split_at(row);
            let [above, below] = [above, below].map(|row| row.chunks_exact(2 * count));
            for ((above, below), result) in above.zip(below).zip(results.chunks_exact_mut(count)) {
                let ((a, b), (c, d)) = (above.split_at(count), below.split_at(count));
                for o in (0..count).step_by(T::lanes::<S>()) {
                    let load = |from: &[T]| load(simd, &from[o..]);
                    let sum = largest::<S, T>(simd, [load(a), load(b), load(c), load(d)]);
                    let pooled = self.finish(simd, sum, load(&self.bias));
                    store::<S, T, 1>(simd, &mut result[o..], [pooled]);
                }
            }
        }
    }
}

/// The largest; a NaN where there is one.
#[inline(always)]
fn largest<S: Simd, T: Real>(simd: S, [first, others @ ..]: [T::Vector<S>; 4]) -> T::Vector<S> {
    let mut best = first;
    for value in others {
        best = T::select(simd, T::greater_or_nan(simd, value, best), value, best);
    }
    best
}

/// A row of windows.
struct Windows<'a, T> {
    layer: &'a Convolution<T>,
    /// Numbers of a row of an image.
    row: usize,
}

impl<T: Buffered> Windows<'_, T> {
    /// A panel's filters of all windows, whose images begin with `x`.
    #[inline(always)]
    fn pool<S: Simd, const V: usize>(
        &self,
        simd: S,
        x: &[T],
        panel: Panel<'_, T::Vector<S>>,
        result: &mut [T],
    ) {
        let (weights, _) = panel.weights.as_chunks::<V>();
        let (channels, filters) = (self.layer.channels, self.layer.bias.len());
        let runs = Runs {
            len: self.layer.kernel * channels,
            stride: self.row,
        };
        let mut bias = [T::splat(simd, T::zero()); V];
        for (v, bias) in bias.iter_mut().enumerate() {
            *bias = load(simd, &self.layer.bias[panel.column + v * T::lanes::<S>()..]);
        }
        for (j, result) in result.chunks_exact_mut(filters).enumerate() {
            let (above, below) = (&x[2 * j * channels..], &x[2 * j * channels + self.row..]);
            let window = [above, &above[channels..], below, &below[channels..]];
            let sums = sums::<S, T, 4, V>(simd, window, runs, weights);
            let [mut pooled, b, c, d] = sums;
            for v in 0..V {
                let sum = largest::<S, T>(simd, [pooled[v], b[v], c[v], d[v]]);
                pooled[v] = self.layer.finish(simd, sum, bias[v]);
            }
            store::<S, T, V>(simd, &mut result[panel.column..], pooled);
        }
    }
}

impl<T: Buffered> Run<'_, T> {
    #[inline(always)]
    fn winograd<S: Simd, P: Matrices<N, K>, const N: usize, const K: usize>(
        self,
        simd: S,
        filters: &[Columns<T>],
    ) {
        let Self {
            layer, size, room, ..
        } = self;
        let (channels, count) = (layer.channels, layer.bias.len());
        let at_once = TILES.div_ceil(size.tiles());
        let tiles = at_once * size.tiles();
        // A vector more, lest the planes lie at multiples of a page, which a cache has few places for.
        let planes = [channels, count].map(|c| tiles * c + T::lanes::<S>());
        let of_image = Side::of_images(size, channels, planes[0]);
        let of_result = Side::of_results(size, count, planes[1]);
        let pooled_len = self.results.len() / (self.images.len() / of_image.image);
        let band = of_image.band().max(of_result.band());
        room.padded.first_mut(of_image.padded()).fill(T::zero());
        let parts = self
            .images
            .chunks(at_once * of_image.image)
            .zip(self.results.chunks_mut(at_once * pooled_len));
        for (images, results) in parts {
            let taken = room.tiles.first_mut(N * N * planes[0]);
            let band = room.band.first_mut(band);
            for (n, image) in images.chunks_exact(of_image.image).enumerate() {
                let padded = of_image.pad(image, &mut room.padded);
                of_image.take(simd, &P::IMAGE, padded, band, n, taken);
            }
            let tiles = images.len() / of_image.image * size.tiles();
            let products = room.products.first_mut(N * N * planes[1]);
            let places = taken
                .chunks_exact(planes[0])
                .zip(products.chunks_exact_mut(planes[1]));
            for ((tile, products), filters) in places.zip(filters) {
                filters.product(&tile[..tiles * channels], &mut products[..tiles * count]);
            }
            for (n, result) in results.chunks_exact_mut(pooled_len).enumerate() {
                if layer.pooled {
                    let sums = room.sums.first_mut(of_result.image);
                    of_result.give(simd, &P::RESULT, products, band, n, sums);
                    layer.pool(simd, sums, size.result()[1] * count, result);
                } else {
                    of_result.give(simd, &P::RESULT, products, band, n, result);
                    finish(result, &layer.bias, layer.activation);
                }
            }
        }
    }
}
