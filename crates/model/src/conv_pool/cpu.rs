use std::cell::RefCell;

use candle_core::WithDType;
use rayon::prelude::*;

use super::Geometry;
use super::matrix::Matrix;
use super::patches;
use crate::Activation;

/// A batch is cut into this many parts at most, whatever the number of threads: each part has its
/// own sum for the weights' gradient, and the sums are added in the order of the parts.
const PARTS: usize = 16;

/// A part is worked through in blocks of as many images as keep the patch matrix near this many
/// elements: 1 MiB of f32, the size of a second-level cache.
const PATCH_ELEMENTS: usize = 1 << 18;

/// The index saved for a window whose maximum the ReLU cut; 0 to 3 are places in the window.
const CUT: u8 = 4;

/// The two element types of the layer.
pub(super) trait Real: WithDType {
    /// Lends this thread's buffers, which keep their size from call to call.
    fn with_scratch<R>(use_it: impl FnOnce(&mut Scratch<Self>) -> R) -> R;
}

/// Buffers of one thread.
pub(super) struct Scratch<T> {
    patches: Vec<T>,
    conv: Vec<T>,
}

macro_rules! real {
    ($($t:ty),*) => {$(
        impl Real for $t {
            fn with_scratch<R>(use_it: impl FnOnce(&mut Scratch<Self>) -> R) -> R {
                thread_local! {
                    static SCRATCH: RefCell<Scratch<$t>> = const {
                        RefCell::new(Scratch { patches: Vec::new(), conv: Vec::new() })
                    };
                }
                // Nothing inside hands work to rayon, so a thread never borrows it twice.
                SCRATCH.with_borrow_mut(use_it)
            }
        }
    )*};
}
real!(f32, f64);

fn at_least<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::zero());
    }
    &mut buffer[..len]
}

/// Images of a part, and of a block within it.
fn part_and_block(geometry: &Geometry) -> (usize, usize) {
    let part = geometry.images.div_ceil(PARTS);
    let block = PATCH_ELEMENTS / (geometry.positions() * geometry.patch_len());
    (part, block.clamp(1, part))
}

/// Returns the pooled values and, for each, which element of its window it is.
pub(super) fn forward<T: Real>(
    geometry: &Geometry,
    activation: Activation,
    x: &[T],
    filters: &[T],
    bias: &[T],
) -> (Vec<T>, Vec<u8>) {
    let (image_len, pooled_len) = (geometry.image_len(), geometry.pooled_len());
    let (part, block) = part_and_block(geometry);
    let mut pooled = vec![T::zero(); geometry.images * pooled_len];
    let mut winners = vec![0; pooled.len()];
    let filters = Matrix::by_row(filters, geometry.filters, geometry.patch_len()).transposed();
    (
        x.par_chunks(part * image_len),
        pooled.par_chunks_mut(part * pooled_len),
        winners.par_chunks_mut(part * pooled_len),
    )
        .into_par_iter()
        .for_each(|(x, pooled, winners)| {
            T::with_scratch(|scratch| {
                let blocks = x
                    .chunks(block * image_len)
                    .zip(pooled.chunks_mut(block * pooled_len))
                    .zip(winners.chunks_mut(block * pooled_len));
                for ((x, pooled), winners) in blocks {
                    let rows = x.len() / image_len * geometry.positions();
                    let patches = at_least(&mut scratch.patches, rows * geometry.patch_len());
                    let conv = at_least(&mut scratch.conv, rows * geometry.filters);
                    patches::gather(geometry, x, patches);
                    Matrix::by_row(patches, rows, geometry.patch_len())
                        .multiply(filters, conv, false);
                    pool(geometry, activation, conv, bias, pooled, winners);
                }
            });
        });
    (pooled, winners)
}

/// Which gradients to compute.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) x: bool,
    pub(super) filters: bool,
    pub(super) bias: bool,
}

/// The gradients that were wanted.
pub(super) struct Gradients<T> {
    pub(super) x: Option<Vec<T>>,
    pub(super) filters: Option<Vec<T>>,
    pub(super) bias: Option<Vec<T>>,
}

pub(super) fn backward<T: Real>(
    geometry: &Geometry,
    wanted: Wanted,
    x: &[T],
    filters: &[T],
    gradient: &[T],
    winners: &[u8],
) -> Gradients<T> {
    let (image_len, pooled_len) = (geometry.image_len(), geometry.pooled_len());
    let (part, block) = part_and_block(geometry);
    let mut x_gradient = wanted.x.then(|| vec![T::zero(); x.len()]);
    let x_gradients: Vec<Option<&mut [T]>> = match &mut x_gradient {
        Some(all) => all.chunks_mut(part * image_len).map(Some).collect(),
        None => x.chunks(part * image_len).map(|_| None).collect(),
    };
    let filters_matrix = Matrix::by_row(filters, geometry.filters, geometry.patch_len());
    let sums: Vec<_> = (
        x.par_chunks(part * image_len),
        x_gradients,
        gradient.par_chunks(part * pooled_len),
        winners.par_chunks(part * pooled_len),
    )
        .into_par_iter()
        .map(|(x, mut x_gradient, gradient, winners)| {
            let mut filters_sum = wanted.filters.then(|| vec![T::zero(); filters.len()]);
            let mut bias_sum = vec![T::zero(); geometry.filters];
            T::with_scratch(|scratch| {
                let blocks = x
                    .chunks(block * image_len)
                    .zip(gradient.chunks(block * pooled_len))
                    .zip(winners.chunks(block * pooled_len));
                for (i, ((x, gradient), winners)) in blocks.enumerate() {
                    let rows = x.len() / image_len * geometry.positions();
                    let patches = at_least(&mut scratch.patches, rows * geometry.patch_len());
                    let conv = at_least(&mut scratch.conv, rows * geometry.filters);
                    unpool(geometry, gradient, winners, conv, &mut bias_sum);
                    let conv = Matrix::by_row(conv, rows, geometry.filters);
                    if let Some(sum) = &mut filters_sum {
                        patches::gather(geometry, x, patches);
                        let patches = Matrix::by_row(patches, rows, geometry.patch_len());
                        conv.transposed().multiply(patches, sum, true);
                    }
                    if let Some(x_gradient) = &mut x_gradient {
                        conv.multiply(filters_matrix, patches, false);
                        let images = &mut x_gradient[i * block * image_len..][..x.len()];
                        patches::scatter_add(geometry, patches, images);
                    }
                }
            });
            (filters_sum, wanted.bias.then_some(bias_sum))
        })
        .collect();
    let (filters_sums, bias_sums): (Vec<_>, Vec<_>) = sums.into_iter().unzip();
    Gradients {
        x: x_gradient,
        filters: add_in_order(filters_sums),
        bias: add_in_order(bias_sums),
    }
}

/// Adds the parts' sums in the order of the parts; `None` where no part has one.
fn add_in_order<T: Real>(sums: Vec<Option<Vec<T>>>) -> Option<Vec<T>> {
    sums.into_iter().flatten().reduce(|mut total, sum| {
        for (total, sum) in total.iter_mut().zip(sum) {
            *total += sum;
        }
        total
    })
}

/// Calls `visit` for every pooling window with the places in a convolution's result where its four
/// elements start, in row-major order, and the place in the pooled result.
fn for_each_window(geometry: &Geometry, images: usize, mut visit: impl FnMut([usize; 4], usize)) {
    let filters = geometry.filters;
    let row = geometry.conv_width() * filters;
    let mut pooled = 0;
    for image in 0..images {
        for y in 0..geometry.pooled_height() {
            let rows = image * geometry.positions() * filters + 2 * y * row;
            for x in 0..geometry.pooled_width() {
                let first = rows + 2 * x * filters;
                let below = first + row;
                visit([first, first + filters, below, below + filters], pooled);
                pooled += filters;
            }
        }
    }
}

/// Adds the bias and takes each window's maximum.
fn pool<T: Real>(
    geometry: &Geometry,
    activation: Activation,
    conv: &[T],
    bias: &[T],
    pooled: &mut [T],
    winners: &mut [u8],
) {
    let filters = geometry.filters;
    let images = pooled.len() / geometry.pooled_len();
    let relu = activation == Activation::Relu;
    for_each_window(geometry, images, |window, place| {
        let [a, b, c, d] = window.map(|start| &conv[start..][..filters]);
        let bias = &bias[..filters];
        let pooled = &mut pooled[place..][..filters];
        let winners = &mut winners[place..][..filters];
        for o in 0..filters {
            let mut best = a[o] + bias[o];
            let mut winner = 0;
            for (place, value) in [(1, b[o]), (2, c[o]), (3, d[o])] {
                let value = value + bias[o];
                #[expect(clippy::eq_op, reason = "true of NaN alone, which must win")]
                if (value > best) | (value != value) {
                    best = value;
                    winner = place;
                }
            }
            if relu & (best <= T::zero()) {
                best = T::zero();
                winner = CUT;
            }
            pooled[o] = best;
            winners[o] = winner;
        }
    });
}

/// Hands each window's gradient to its winner, 0 to the rest, and adds it to its filter's bias.
fn unpool<T: Real>(
    geometry: &Geometry,
    gradient: &[T],
    winners: &[u8],
    conv: &mut [T],
    bias_sum: &mut [T],
) {
    let images = gradient.len() / geometry.pooled_len();
    conv.fill(T::zero());
    for_each_window(geometry, images, |[a, b, c, d], place| {
        // A window that the ReLU cut writes a 0 to its first place, which saves a branch.
        let starts = [a, b, c, d, a];
        let gradient = &gradient[place..][..geometry.filters];
        let winners = &winners[place..][..geometry.filters];
        for (o, bias_sum) in bias_sum.iter_mut().enumerate() {
            let winner = winners[o];
            let value = if winner == CUT {
                T::zero()
            } else {
                gradient[o]
            };
            conv[starts[usize::from(winner)] + o] = value;
            *bias_sum += value;
        }
    });
}
