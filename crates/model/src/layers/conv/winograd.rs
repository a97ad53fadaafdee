//! A 3×3 convolution by Winograd's F(2×2, 3×3), as Lavin and Gray (2016) have it.
//!
//! A tile d is 4×4 places of the image with its zeros around it, two apart, and gives 2×2 of the result:
//!
//! ```text
//! result = Aᵀ · ( Σ_c (G·w·Gᵀ) ∘ (Bᵀ·d·B) ) · A
//! ```
//!
//! with ∘ number by number. That is 16 products where the sum itself has 36. Each of the 16 places in a
//! tile is a product of matrices, (tiles, C) by (C, O). Here the last row of Bᵀ and the last column of Aᵀ
//! have the other sign than in the paper, which saves a negation.
//!
//! ```text
//! Bᵀ = 1  0 −1  0      G =  1   0   0      Aᵀ = 1  1  1  0
//!      0  1  1  0          1/2 1/2 1/2          0  1 −1  1
//!      0 −1  1  0          1/2−1/2 1/2
//!      0 −1  0  1           0   0   1
//! ```

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::layers::conv_pool::{Buffer, Buffered, Real};
use crate::layers::cpu_op::add_to;
use crate::layers::matrix::Matrix;

/// Places of a tile.
const PLACES: usize = 16;

/// Tiles whose products are taken at once, at least: with fewer, loading the filters takes longer than
/// multiplying by them.
const TILES: usize = 64;

/// Images whose gradients of the filters are one sum, at least. These sums are added in order, so the
/// bits do not depend on the number of threads.
const GROUP: usize = 8;

/// The images' size.
#[derive(Clone, Copy)]
pub(super) struct Winograd {
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Winograd {
    fn down(self) -> usize {
        self.height.div_ceil(2)
    }

    fn across(self) -> usize {
        self.width.div_ceil(2)
    }

    /// Tiles of an image.
    fn tiles(self) -> usize {
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
        let of_image = Side::new(size, channels, tiles);
        for (n, image) in self.images.chunks_exact(of_image.image).enumerate() {
            let padded = of_image.pad(image, &mut room.padded[0]);
            let band = room.band.first_mut(of_image.band());
            of_image.take(simd, padded, band, n, taken);
        }
        let products = room.products.first_mut(PLACES * tiles * count);
        let places = taken
            .chunks_exact(tiles * channels)
            .zip(self.filters.chunks_exact(channels * count));
        for ((tile, filters), products) in places.zip(products.chunks_exact_mut(tiles * count)) {
            let filters = Matrix::by_row(filters, channels, count);
            Matrix::by_row(tile, tiles, channels).write_times(filters, products);
        }
        let of_result = Side::new(size, count, tiles);
        for (n, result) in self.results.chunks_exact_mut(of_result.image).enumerate() {
            let band = room.band.first_mut(of_result.band());
            of_result.give(simd, products, band, n, result);
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
            let of_image = Side::new(size, channels, tiles);
            let of_result = Side::new(size, count, tiles);
            let taken = room.tiles.first_mut(PLACES * tiles * channels);
            let spread = room.products.first_mut(PLACES * tiles * count);
            let pairs = images
                .chunks_exact(of_image.image)
                .zip(gradient.chunks_exact(of_result.image));
            for (n, (image, gradient)) in pairs.enumerate() {
                let band = room.band.first_mut(of_image.band().max(of_result.band()));
                let padded = of_image.pad(image, &mut room.padded[0]);
                of_image.take(simd, padded, band, n, taken);
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
struct Side {
    size: Winograd,
    channels: usize,
    /// Numbers of an image.
    image: usize,
    /// Numbers of one place in all tiles.
    plane: usize,
}

impl Side {
    fn new(size: Winograd, channels: usize, tiles: usize) -> Self {
        Self {
            size,
            channels,
            image: size.image(channels),
            plane: tiles * channels,
        }
    }

    fn padded_row(self) -> usize {
        (2 * self.size.across() + 2) * self.channels
    }

    /// Numbers of four rows.
    fn band(self) -> usize {
        4 * self.padded_row()
    }

    /// Copies an image to where the zeros are already.
    fn pad<'r, T: Real>(self, image: &[T], padded: &'r mut Buffer<T>) -> &'r [T] {
        let (row, padded_row) = (self.size.width * self.channels, self.padded_row());
        let padded = padded.first_mut((2 * self.size.down() + 2) * padded_row);
        let rows = padded.chunks_exact_mut(padded_row).skip(1);
        for (from, to) in image.chunks_exact(row).zip(rows) {
            to[self.channels..][..row].copy_from_slice(from);
        }
        padded
    }

    /// Bᵀ·d·B of each tile of image `n`.
    #[inline(always)]
    fn take<S: Simd, T: Real>(
        self,
        simd: S,
        padded: &[T],
        band: &mut [T],
        n: usize,
        taken: &mut [T],
    ) {
        let (row, c) = (self.padded_row(), self.channels);
        let f = |[d0, d1, d2, d3]: [T::Vector<S>; 4]| {
            [
                T::difference(simd, d0, d2),
                T::sum(simd, d1, d2),
                T::difference(simd, d2, d1),
                T::difference(simd, d3, d1),
            ]
        };
        for y in 0..self.size.down() {
            let rows = cut(&padded[2 * y * row..], row);
            map::<S, T, 4, 4>(simd, rows, cut_mut(band, row, 0, row), f);
            let first = (n * self.size.tiles() + y * self.size.across()) * c;
            for (band, planes) in band
                .chunks_exact(row)
                .zip(taken.chunks_exact_mut(4 * self.plane))
            {
                for x in 0..self.size.across() {
                    let to = cut_mut(planes, self.plane, first + x * c, c);
                    map::<S, T, 4, 4>(simd, cut(&band[2 * x * c..], c), to, f);
                }
            }
        }
    }

    /// Aᵀ·m·A of each tile of image `n`.
    #[inline(always)]
    fn give<S: Simd, T: Real>(
        self,
        simd: S,
        products: &[T],
        band: &mut [T],
        n: usize,
        result: &mut [T],
    ) {
        let (row, c) = (self.padded_row(), self.channels);
        let first = |[m0, m1, m2, _]: [T::Vector<S>; 4]| T::sum(simd, T::sum(simd, m0, m1), m2);
        let f = |m: [T::Vector<S>; 4]| {
            let [_, m1, m2, m3] = m;
            [first(m), T::sum(simd, T::difference(simd, m1, m2), m3)]
        };
        for (y, result) in result.chunks_mut(2 * self.size.width * c).enumerate() {
            let tile = (n * self.size.tiles() + y * self.size.across()) * c;
            for (band, planes) in band
                .chunks_exact_mut(row)
                .zip(products.chunks_exact(4 * self.plane))
            {
                for x in 0..self.size.across() {
                    let from =
                        std::array::from_fn(|j| &planes[j * self.plane + tile + x * c..][..c]);
                    map::<S, T, 4, 2>(simd, from, cut_mut(&mut band[2 * x * c..], c, 0, c), f);
                }
            }
            let width = self.size.width * c;
            let from = std::array::from_fn(|i| &band[i * row..][..width]);
            if result.len() == 2 * width {
                map::<S, T, 4, 2>(simd, from, cut_mut(result, width, 0, width), f);
            } else {
                map::<S, T, 4, 1>(simd, from, [result], |m| [first(m)]);
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
            let rows = cut(&padded[(2 * y + 1) * row..], row);
            map::<S, T, 2, 4>(simd, rows, cut_mut(band, row, 0, row), f);
            let first = (n * self.size.tiles() + y * self.size.across()) * c;
            for (band, planes) in band
                .chunks_exact(row)
                .zip(spread.chunks_exact_mut(4 * self.plane))
            {
                for x in 0..self.size.across() {
                    let to = cut_mut(planes, self.plane, first + x * c, c);
                    map::<S, T, 2, 4>(simd, cut(&band[(2 * x + 1) * c..], c), to, f);
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
                    let to = cut_mut(&mut band, 3 * count, 0, 3 * count);
                    map::<S, T, 3, 4>(simd, cut(filters, 3 * count), to, f);
                    let planes = transformed.chunks_exact_mut(4 * plane);
                    for (band, planes) in band.chunks_exact(3 * count).zip(planes) {
                        let to = cut_mut(planes, plane, c * count, count);
                        map::<S, T, 3, 4>(simd, cut(band, count), to, f);
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
                        let from =
                            std::array::from_fn(|j| &planes[j * plane + c * count..][..count]);
                        map::<S, T, 4, 3>(simd, from, cut_mut(band, count, 0, count), f);
                    }
                    let to = cut_mut(filters, 3 * count, 0, 3 * count);
                    map::<S, T, 4, 3>(simd, cut(&band, 3 * count), to, f);
                }
            }
        }
    }
}

/// Slices of `len` numbers, one after the other.
#[inline(always)]
fn cut<T, const A: usize>(from: &[T], len: usize) -> [&[T]; A] {
    std::array::from_fn(|a| &from[a * len..][..len])
}

/// Slices of `len` numbers, each from `at` on in its own run of `stride`.
#[inline(always)]
fn cut_mut<T, const B: usize>(to: &mut [T], stride: usize, at: usize, len: usize) -> [&mut [T]; B] {
    let mut runs = to.chunks_exact_mut(stride);
    std::array::from_fn(|_| &mut runs.next().expect("a run for each")[at..][..len])
}

/// `f` of the slices' numbers, place by place.
#[inline(always)]
fn map<S: Simd, T: Real, const A: usize, const B: usize>(
    simd: S,
    from: [&[T]; A],
    to: [&mut [T]; B],
    f: impl Fn([T::Vector<S>; A]) -> [T::Vector<S>; B],
) {
    let (len, lanes) = (from[0].len(), T::lanes::<S>());
    let whole = len / lanes;
    for i in 0..whole {
        let found = f(std::array::from_fn(|a| T::vectors::<S>(&from[a][..len])[i]));
        for b in 0..B {
            T::vectors_mut::<S>(&mut to[b][..len])[i] = found[b];
        }
    }
    let rest = whole * lanes;
    if rest < len {
        let found = f(std::array::from_fn(|a| {
            T::load_part(simd, &from[a][rest..])
        }));
        for b in 0..B {
            T::store_part(simd, &mut to[b][rest..], found[b]);
        }
    }
}
