//! A k×k convolution by Winograd's F(2×2, k×k), as Lavin and Gray (2016) have it for k = 3.
//!
//! A tile d is N×N places of the image with its zeros around it, N = k + 1, two apart, and gives 2×2 of
//! the result:
//!
//! ```text
//! result = Aᵀ · ( Σ_c (G·w·Gᵀ) ∘ (Bᵀ·d·B) ) · A
//! ```
//!
//! with ∘ number by number. That is 16 products where the sum itself has 36 (k = 3), or 36 for 100 (k = 5).
//! Each of the N² places in a tile is a product of matrices, (tiles, C) by (C, O). For k = 3
//!
//! ```text
//! Bᵀ = 1  0 −1  0      G =  1   0   0      Aᵀ = 1  1  1  0
//!      0  1  1  0          1/2 1/2 1/2          0  1 −1  1
//!      0 −1  1  0          1/2−1/2 1/2
//!      0 −1  0  1           0   0   1
//! ```
//!
//! where the last row of Bᵀ and the last column of Aᵀ have the other sign than in the paper, which saves a
//! negation; [`Five`] has those for k = 5.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::layers::conv_pool::{Buffer, Buffered, Real};
use crate::layers::cpu_op::add_to;
use crate::layers::matrix::Matrix;

/// Places of a tile of F(2×2, 3×3).
const PLACES: usize = 16;

/// Tiles whose products are taken at once, at least: with fewer, loading the filters takes longer than
/// multiplying by them.
const TILES: usize = 64;

/// Images whose gradients of the filters are one sum, at least. These sums are added in order, so the
/// bits do not depend on the number of threads.
const GROUP: usize = 8;

/// The matrices of F(2×2, K×K), with N = K + 1. In each row of Bᵀ and Aᵀ there is a 1.
pub(crate) trait Matrices<const N: usize, const K: usize> {
    /// Bᵀ
    const IMAGE: [[f64; N]; N];
    /// G
    const FILTER: [[f64; K]; N];
    /// Aᵀ
    const RESULT: [[f64; N]; 2];
}

/// Those of F(2×2, 3×3).
pub(crate) struct Three;

impl Matrices<4, 3> for Three {
    const IMAGE: [[f64; 4]; 4] = [
        [1.0, 0.0, -1.0, 0.0],
        [0.0, 1.0, 1.0, 0.0],
        [0.0, -1.0, 1.0, 0.0],
        [0.0, -1.0, 0.0, 1.0],
    ];
    const FILTER: [[f64; 3]; 4] = [
        [1.0, 0.0, 0.0],
        [0.5, 0.5, 0.5],
        [0.5, -0.5, 0.5],
        [0.0, 0.0, 1.0],
    ];
    const RESULT: [[f64; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 1.0]];
}

/// Those of F(2×2, 5×5), which evaluates polynomials at 0, 1, −1, 1/2, −2 and ∞: with 2 in the place of
/// 1/2 the errors of rounding would be twice as large.
pub(crate) struct Five;

impl Matrices<6, 5> for Five {
    const IMAGE: [[f64; 6]; 6] = [
        [1.0, -1.5, -2.0, 1.5, 1.0, 0.0],
        [0.0, -1.0, 0.5, 2.5, 1.0, 0.0],
        [0.0, 1.0, -2.5, 0.5, 1.0, 0.0],
        [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
        [0.0, 0.5, -1.0, -0.5, 1.0, 0.0],
        [0.0, 1.0, -1.5, -2.0, 1.5, 1.0],
    ];
    const FILTER: [[f64; 5]; 6] = [
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0],
        [-1.0 / 3.0, 1.0 / 3.0, -1.0 / 3.0, 1.0 / 3.0, -1.0 / 3.0],
        [
            -16.0 / 15.0,
            -8.0 / 15.0,
            -4.0 / 15.0,
            -2.0 / 15.0,
            -1.0 / 15.0,
        ],
        [
            1.0 / 15.0,
            -2.0 / 15.0,
            4.0 / 15.0,
            -8.0 / 15.0,
            16.0 / 15.0,
        ],
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ];
    const RESULT: [[f64; 6]; 2] = [
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 1.0, -1.0, 0.5, -2.0, 1.0],
    ];
}

/// The product of a matrix and a column of vectors, whose zeros and ones the compiler sees.
struct Times<'a, const N: usize, const R: usize>(&'a [[f64; N]; R]);

impl<S: Simd, T: Real, const N: usize, const R: usize> Step<S, T, N, R> for Times<'_, N, R> {
    #[inline(always)]
    fn step(&self, simd: S, column: [T::Vector<S>; N]) -> [T::Vector<S>; R] {
        let mut product = [T::splat(simd, T::zero()); R];
        for (product, row) in product.iter_mut().zip(self.0) {
            let mut one = 0;
            while row[one] != 1.0 {
                one += 1;
            }
            let mut sum = column[one];
            for n in 0..N {
                let factor = row[n];
                if n != one && factor == 1.0 {
                    sum = T::sum(simd, sum, column[n]);
                } else if factor == -1.0 {
                    sum = T::difference(simd, sum, column[n]);
                } else if n != one && factor != 0.0 {
                    let factor = T::splat(simd, T::from_f64(factor));
                    sum = T::mul_add(simd, factor, column[n], sum);
                }
            }
            *product = sum;
        }
        product
    }
}

/// The sizes of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct Winograd {
    /// Of the images.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Side of the filters.
    pub(crate) kernel: usize,
    /// Zeros on each side of the images.
    pub(crate) padding: usize,
}

impl Winograd {
    /// Tiles of an image, one below the other.
    fn down(self) -> usize {
        self.result()[0].div_ceil(2)
    }

    /// And side by side.
    fn across(self) -> usize {
        self.result()[1].div_ceil(2)
    }

    /// Height and width of the results.
    pub(crate) fn result(self) -> [usize; 2] {
        [self.height, self.width].map(|side| side + 2 * self.padding + 1 - self.kernel)
    }

    /// Tiles of an image.
    pub(crate) fn tiles(self) -> usize {
        self.down() * self.across()
    }

    fn image(self, channels: usize) -> usize {
        self.height * self.width * channels
    }

    /// The convolution of images (N, H, W, C) with filters (C, 3, 3, O): (N, H, W, O), each image's
    /// sums being `finish`ed.
    pub(super) fn convolve<T: Buffered>(
        self,
        images: &[T],
        filters: &[T],
        [channels, count]: [usize; 2],
        finish: impl Fn(&mut [T]) + Sync,
    ) -> Vec<T> {
        let arch = Arch::new();
        let filters = transformed(arch, filters, [channels, count]);
        let images_at_once = TILES.div_ceil(self.tiles());
        let (image, result) = (self.image(channels), self.image(count));
        let mut results = vec![T::zero(); images.len() / image * result];
        results
            .par_chunks_mut(images_at_once * result)
            .zip(images.par_chunks(images_at_once * image))
            .for_each_init(Room::default, |room, (results, images)| {
                arch.dispatch(Convolve {
                    size: self,
                    channels: [channels, count],
                    images,
                    filters: &filters,
                    results,
                    room,
                });
                finish(results);
            });
        results
    }

    /// The gradient of the filters, (C, 3, 3, O), given that of the sums.
    pub(super) fn of_filters<T: Buffered>(
        self,
        images: &[T],
        gradient: &[T],
        [channels, count]: [usize; 2],
    ) -> Vec<T> {
        let arch = Arch::new();
        let group = GROUP.max(TILES.div_ceil(self.tiles()));
        let sums: Vec<Vec<T>> = images
            .par_chunks(group * self.image(channels))
            .zip(gradient.par_chunks(group * self.image(count)))
            .map_init(Room::default, |room, (images, gradient)| {
                let mut sum = vec![T::zero(); PLACES * channels * count];
                arch.dispatch(OfFilters {
                    size: self,
                    channels: [channels, count],
                    images,
                    gradient,
                    sum: &mut sum,
                    room,
                });
                sum
            })
            .collect();
        let sum = sums.into_iter().reduce(|mut total, sum| {
            add_to(&mut total, &sum);
            total
        });
        let sum = sum.unwrap_or_else(|| vec![T::zero(); PLACES * channels * count]);
        let mut filters = vec![T::zero(); channels * 9 * count];
        arch.dispatch(Filters::Back {
            sum: &sum,
            filters: &mut filters,
            count,
        });
        filters
    }
}

/// Filters (C, 3, 3, O) as (O, 3, 3, C), turned by half a circle: the convolution of the sums' gradient
/// with them is the gradient of the images.
pub(super) fn turned<T: Real>(filters: &[T], [channels, count]: [usize; 2]) -> Vec<T> {
    let mut turned = vec![T::zero(); filters.len()];
    for (o, turned) in turned.chunks_exact_mut(9 * channels).enumerate() {
        for (tap, turned) in turned.chunks_exact_mut(channels).enumerate() {
            let from = filters[(8 - tap) * count + o..].iter().step_by(9 * count);
            for (turned, &from) in turned.iter_mut().zip(from) {
                *turned = from;
            }
        }
    }
    turned
}

/// G·w·Gᵀ of filters (C, 3, 3, O): (16, C, O).
fn transformed<T: Real>(arch: Arch, filters: &[T], [channels, count]: [usize; 2]) -> Vec<T> {
    let mut transformed = vec![T::zero(); PLACES * channels * count];
    arch.dispatch(Filters::Forth {
        filters,
        transformed: &mut transformed,
        count,
    });
    transformed
}

/// Numbers in work.
#[derive(Default)]
struct Room<T> {
    /// An image with its zeros around it: at least one on each side. Nothing else is ever written there.
    padded: [Buffer<T>; 2],
    /// Four rows of tiles' numbers, transformed along one side.
    band: Buffer<T>,
    /// By place in a tile, tile and channel: of the images,
    tiles: Buffer<T>,
    /// and of the results.
    products: Buffer<T>,
}

struct Convolve<'a, T> {
    size: Winograd,
    channels: [usize; 2],
    images: &'a [T],
    filters: &'a [T],
    results: &'a mut [T],
    room: &'a mut Room<T>,
}

impl<T: Real> WithSimd for Convolve<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { size, room, .. } = self;
        let [channels, count] = self.channels;
        let tiles = self.images.len() / size.image(channels) * size.tiles();
        let taken = room.tiles.first_mut(PLACES * tiles * channels);
        let of_image = Side::of_images(size, channels, tiles * channels);
        for (n, image) in self.images.chunks_exact(of_image.image).enumerate() {
            let padded = of_image.pad(image, &mut room.padded[0]);
            let band = room.band.first_mut(of_image.band());
            of_image.take(simd, &Three::IMAGE, padded, band, n, taken);
        }
        let products = room.products.first_mut(PLACES * tiles * count);
        let places = taken
            .chunks_exact(tiles * channels)
            .zip(self.filters.chunks_exact(channels * count));
        for ((tile, filters), products) in places.zip(products.chunks_exact_mut(tiles * count)) {
            let filters = Matrix::by_row(filters, channels, count);
            Matrix::by_row(tile, tiles, channels).write_times(filters, products);
        }
        let of_result = Side::of_results(size, count, tiles * count);
        for (n, result) in self.results.chunks_exact_mut(of_result.image).enumerate() {
            let band = room.band.first_mut(of_result.band());
            of_result.give(simd, &Three::RESULT, products, band, n, result);
        }
    }
}

struct OfFilters<'a, T> {
    size: Winograd,
    channels: [usize; 2],
    images: &'a [T],
    gradient: &'a [T],
    sum: &'a mut [T],
    room: &'a mut Room<T>,
}

impl<T: Real> WithSimd for OfFilters<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { size, room, .. } = self;
        let [channels, count] = self.channels;
        let at_once = TILES.div_ceil(size.tiles());
        let parts = self
            .images
            .chunks(at_once * size.image(channels))
            .zip(self.gradient.chunks(at_once * size.image(count)));
        for (images, gradient) in parts {
            let tiles = images.len() / size.image(channels) * size.tiles();
            let of_image = Side::of_images(size, channels, tiles * channels);
            let of_result = Side::of_results(size, count, tiles * count);
            let taken = room.tiles.first_mut(PLACES * tiles * channels);
            let spread = room.products.first_mut(PLACES * tiles * count);
            let pairs = images
                .chunks_exact(of_image.image)
                .zip(gradient.chunks_exact(of_result.image));
            for (n, (image, gradient)) in pairs.enumerate() {
                let band = room.band.first_mut(of_image.band().max(of_result.band()));
                let padded = of_image.pad(image, &mut room.padded[0]);
                of_image.take(simd, &Three::IMAGE, padded, band, n, taken);
                let padded = of_result.pad(gradient, &mut room.padded[1]);
                of_result.spread(simd, padded, band, n, spread);
            }
            let places = taken
                .chunks_exact(tiles * channels)
                .zip(spread.chunks_exact(tiles * count));
            for ((tile, gradient), sum) in places.zip(self.sum.chunks_exact_mut(channels * count)) {
                let gradient = Matrix::by_row(gradient, tiles, count);
                let tile = Matrix::by_row(tile, tiles, channels);
                tile.transposed().add_times(gradient, sum);
            }
        }
    }
}

/// The images, or the results, of some images in work.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    size: Winograd,
    width: usize,
    channels: usize,
    /// Numbers of an image.
    pub(crate) image: usize,
    /// From the numbers of one place in all tiles to those of the next.
    plane: usize,
}

impl Side {
    pub(crate) fn of_images(size: Winograd, channels: usize, plane: usize) -> Self {
        Self::new(size, [size.height, size.width], channels, plane)
    }

    pub(crate) fn of_results(size: Winograd, channels: usize, plane: usize) -> Self {
        Self::new(size, size.result(), channels, plane)
    }

    fn new(size: Winograd, [height, width]: [usize; 2], channels: usize, plane: usize) -> Self {
        Self {
            size,
            width,
            channels,
            image: height * width * channels,
            plane,
        }
    }

    /// Numbers of a row with the zeros around it.
    pub(crate) fn padded_row(self) -> usize {
        (2 * self.size.across() + self.size.kernel - 1) * self.channels
    }

    /// Numbers of an image with the zeros around it, and more on the right and below as tiles need.
    pub(crate) fn padded(self) -> usize {
        (2 * self.size.down() + self.size.kernel - 1) * self.padded_row()
    }

    /// Numbers of as many rows as a tile has.
    pub(crate) fn band(self) -> usize {
        (self.size.kernel + 1) * self.padded_row()
    }

    /// Copies an image to where the zeros are already.
    pub(crate) fn pad<'r, T: Real>(self, image: &[T], padded: &'r mut Buffer<T>) -> &'r [T] {
        let (row, padded_row) = (self.width * self.channels, self.padded_row());
        let padded = padded.first_mut(self.padded());
        let rows = padded.chunks_exact_mut(padded_row).skip(self.size.padding);
        for (from, to) in image.chunks_exact(row).zip(rows) {
            to[self.size.padding * self.channels..][..row].copy_from_slice(from);
        }
        padded
    }

    /// Bᵀ·d·B of each tile of image `n`.
    #[inline(always)]
    pub(crate) fn take<S: Simd, T: Real, const N: usize>(
        self,
        simd: S,
        matrix: &[[f64; N]; N],
        padded: &[T],
        band: &mut [T],
        n: usize,
        taken: &mut [T],
    ) {
        let (row, c) = (self.padded_row(), self.channels);
        for y in 0..self.size.down() {
            let rows = (&padded[2 * y * row..], row);
            map::<S, T, N, N>(simd, row, rows, (band, row), Times(matrix));
            let first = (n * self.size.tiles() + y * self.size.across()) * c;
            for (band, planes) in band
                .chunks_exact(row)
                .zip(taken.chunks_exact_mut(N * self.plane))
            {
                for x in 0..self.size.across() {
                    let places = (&band[2 * x * c..], c);
                    let to = (&mut planes[first + x * c..], self.plane);
                    map::<S, T, N, N>(simd, c, places, to, Times(matrix));
                }
            }
        }
    }

    /// Aᵀ·m·A of each tile of image `n`.
    #[inline(always)]
    pub(crate) fn give<S: Simd, T: Real, const N: usize>(
        self,
        simd: S,
        matrix: &[[f64; N]; 2],
        products: &[T],
        band: &mut [T],
        n: usize,
        result: &mut [T],
    ) {
        let (row, c) = (self.padded_row(), self.channels);
        for (y, result) in result.chunks_mut(2 * self.width * c).enumerate() {
            let tile = (n * self.size.tiles() + y * self.size.across()) * c;
            for (band, planes) in band
                .chunks_exact_mut(row)
                .zip(products.chunks_exact(N * self.plane))
            {
                for x in 0..self.size.across() {
                    let places = (&planes[tile + x * c..], self.plane);
                    let to = (&mut band[2 * x * c..], c);
                    map::<S, T, N, 2>(simd, c, places, to, Times(matrix));
                }
            }
            let width = self.width * c;
            let rows = (&*band, row);
            if result.len() == 2 * width {
                map::<S, T, N, 2>(simd, width, rows, (result, width), Times(matrix));
            } else {
                map::<S, T, N, 1>(simd, width, rows, (result, width), Times(&[matrix[0]]));
            }
        }
    }

    /// A·g·Aᵀ of each tile of image `n`, whose gradient is g.
    #[inline(always)]
    fn spread<S: Simd, T: Real>(
        self,
        simd: S,
        padded: &[T],
        band: &mut [T],
        n: usize,
        spread: &mut [T],
    ) {
        let (row, c) = (self.padded_row(), self.channels);
        let f = |[g0, g1]: [T::Vector<S>; 2]| {
            [g0, T::sum(simd, g0, g1), T::difference(simd, g0, g1), g1]
        };
        for y in 0..self.size.down() {
            let rows = (&padded[(2 * y + 1) * row..], row);
            map::<S, T, 2, 4>(simd, row, rows, (band, row), f);
            let first = (n * self.size.tiles() + y * self.size.across()) * c;
            for (band, planes) in band
                .chunks_exact(row)
                .zip(spread.chunks_exact_mut(4 * self.plane))
            {
                for x in 0..self.size.across() {
                    let places = (&band[(2 * x + 1) * c..], c);
                    let to = (&mut planes[first + x * c..], self.plane);
                    map::<S, T, 2, 4>(simd, c, places, to, f);
                }
            }
        }
    }
}

/// The transform of filters (C, 3, 3, O) to (16, C, O), and the way back of its gradient.
enum Filters<'a, T> {
    Forth {
        filters: &'a [T],
        transformed: &'a mut [T],
        count: usize,
    },
    Back {
        sum: &'a [T],
        filters: &'a mut [T],
        count: usize,
    },
}

impl<T: Real> WithSimd for Filters<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let half = T::splat(simd, T::from_f64(0.5));
        let halved = |v| T::mul_add(simd, half, v, T::splat(simd, T::zero()));
        match self {
            Self::Forth {
                filters,
                transformed,
                count,
            } => {
                let f = |[w0, w1, w2]: [T::Vector<S>; 3]| {
                    let (ends, middle) = (halved(T::sum(simd, w0, w2)), halved(w1));
                    let [sum, difference] = [
                        T::sum(simd, ends, middle),
                        T::difference(simd, ends, middle),
                    ];
                    [w0, sum, difference, w2]
                };
                let plane = transformed.len() / PLACES;
                let mut band = vec![T::zero(); 4 * 3 * count];
                for (c, filters) in filters.chunks_exact(9 * count).enumerate() {
                    let row = 3 * count;
                    map::<S, T, 3, 4>(simd, row, (filters, row), (&mut band, row), f);
                    let planes = transformed.chunks_exact_mut(4 * plane);
                    for (band, planes) in band.chunks_exact(3 * count).zip(planes) {
                        let to = (&mut planes[c * count..], plane);
                        map::<S, T, 3, 4>(simd, count, (band, count), to, f);
                    }
                }
            }
            Self::Back {
                sum,
                filters,
                count,
            } => {
                let f = |[u0, u1, u2, u3]: [T::Vector<S>; 4]| {
                    let ends = halved(T::sum(simd, u1, u2));
                    let middle = halved(T::difference(simd, u1, u2));
                    [T::sum(simd, u0, ends), middle, T::sum(simd, ends, u3)]
                };
                let plane = sum.len() / PLACES;
                let mut band = vec![T::zero(); 4 * 3 * count];
                for (c, filters) in filters.chunks_exact_mut(9 * count).enumerate() {
                    let planes = sum.chunks_exact(4 * plane);
                    for (band, planes) in band.chunks_exact_mut(3 * count).zip(planes) {
                        let places = (&planes[c * count..], plane);
                        map::<S, T, 4, 3>(simd, count, places, (band, count), f);
                    }
                    let row = 3 * count;
                    map::<S, T, 4, 3>(simd, row, (&band, row), (filters, row), f);
                }
            }
        }
    }
}

/// Vectors made of vectors. A closure may do; a longer function has to be told to be inlined, and so to be
/// compiled for the processor's vectors.
trait Step<S: Simd, T: Real, const A: usize, const B: usize> {
    fn step(&self, simd: S, from: [T::Vector<S>; A]) -> [T::Vector<S>; B];
}

impl<S: Simd, T: Real, F, const A: usize, const B: usize> Step<S, T, A, B> for F
where
    F: Fn([T::Vector<S>; A]) -> [T::Vector<S>; B],
{
    #[inline(always)]
    fn step(&self, _: S, from: [T::Vector<S>; A]) -> [T::Vector<S>; B] {
        self(from)
    }
}

/// A step of A runs of `len` numbers to B runs, place by place. Runs are a slice and the numbers from where
/// each begins to where the next does.
///
/// Plain loops: `array::from_fn` would be a function of its own, compiled for other vectors.
#[inline(always)]
fn map<S: Simd, T: Real, const A: usize, const B: usize>(
    simd: S,
    len: usize,
    (from, from_stride): (&[T], usize),
    (to, to_stride): (&mut [T], usize),
    step: impl Step<S, T, A, B>,
) {
    let lanes = T::lanes::<S>();
    let whole = len / lanes * lanes;
    let mut column = [T::splat(simd, T::zero()); A];
    for i in (0..whole).step_by(lanes) {
        for a in 0..A {
            column[a] = T::vectors::<S>(&from[a * from_stride + i..][..lanes])[0];
        }
        let found = step.step(simd, column);
        for b in 0..B {
            T::vectors_mut::<S>(&mut to[b * to_stride + i..][..lanes])[0] = found[b];
        }
    }
    if whole < len {
        for a in 0..A {
            column[a] = T::load_part(simd, &from[a * from_stride + whole..][..len - whole]);
        }
        let found = step.step(simd, column);
        for b in 0..B {
            let to = &mut to[b * to_stride + whole..][..len - whole];
            T::store_part(simd, to, found[b]);
        }
    }
}
