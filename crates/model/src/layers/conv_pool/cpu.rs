use std::cell::RefCell;

use pulp::Arch;
use rayon::prelude::*;

use super::Geometry;
use super::backward::{self, Backward, Plan};
use super::forward::{self, FilterBlocks, Forward};
use super::lanes::Real;
use crate::Activation;
use crate::layers::cpu_op::add_to;
use crate::layers::inference::Room;

/// A batch is cut into this many parts at most, whatever the number of threads: each part has its
/// own sum for the weights' gradient, and the sums are added in the order of the parts.
const PARTS: usize = 16;

/// Images that go forward on one thread: as many as the widest vector has lanes.
const GROUP: usize = 16;

/// Buffers of one thread, which keep their size from call to call.
#[derive(Default)]
pub(crate) struct Scratch<T> {
    forward: forward::Scratch<T>,
    backward: backward::Scratch<T>,
    pub(crate) inference: Room<T>,
    /// Images with the zeros around them, and their gradients.
    padded: Vec<T>,
    of_padded: Vec<T>,
}

/// An element type with its buffers.
pub(crate) trait Buffered: Real {
    /// Lends this thread's buffers.
    fn with_scratch<R>(use_it: impl FnOnce(&mut Scratch<Self>) -> R) -> R;
}

macro_rules! buffered {
    ($($type:ty),*) => {$(
        impl Buffered for $type {
            fn with_scratch<R>(use_it: impl FnOnce(&mut Scratch<Self>) -> R) -> R {
                thread_local! {
                    static SCRATCH: RefCell<Scratch<$type>> = RefCell::default();
                }
                // Nothing inside hands work to rayon, so a thread never borrows it twice.
                SCRATCH.with_borrow_mut(use_it)
            }
        }
    )*};
}
buffered!(f32, f64);

/// Returns the pooled values and, for each, which element of its window it is.
pub(super) fn forward<T: Buffered>(
    arch: Arch,
    geometry: &Geometry,
    activation: Activation,
    x: &[T],
    filters: &[T],
    bias: &[T],
) -> (Vec<T>, Vec<u8>) {
    let (given_len, pooled_len) = (geometry.given_len(), geometry.pooled_len());
    let filters = FilterBlocks::new(arch, geometry, filters);
    let mut pooled = vec![T::zero(); geometry.images * pooled_len];
    let mut winners = vec![0; pooled.len()];
    (
        x.par_chunks(GROUP * given_len),
        pooled.par_chunks_mut(GROUP * pooled_len),
        winners.par_chunks_mut(GROUP * pooled_len),
    )
        .into_par_iter()
        .for_each(|(images, pooled, winners)| {
            T::with_scratch(|scratch| {
                arch.dispatch(Forward {
                    geometry,
                    activation,
                    images: geometry.pad(images, &mut scratch.padded),
                    filters: &filters,
                    bias,
                    pooled,
                    winners,
                    scratch: &mut scratch.forward,
                });
            });
        });
    (pooled, winners)
}

/// Which of the gradients of images, filters and bias are wanted.
pub(super) fn backward<T: Buffered>(
    arch: Arch,
    geometry: &Geometry,
    [x_wanted, filters_wanted, bias_wanted]: [bool; 3],
    x: &[T],
    filters: &[T],
    gradient: &[T],
    winners: &[u8],
) -> [Option<Vec<T>>; 3] {
    let part = geometry.images.div_ceil(PARTS);
    let (given_len, pooled_len) = (part * geometry.given_len(), part * geometry.pooled_len());
    let mut x_gradient = x_wanted.then(|| vec![T::zero(); x.len()]);
    let x_gradients: Vec<Option<&mut [T]>> = match &mut x_gradient {
        Some(all) => all.chunks_mut(given_len).map(Some).collect(),
        None => x.chunks(given_len).map(|_| None).collect(),
    };
    let plan = Plan::new(arch, geometry, filters);
    let sums: Vec<_> = (
        x.par_chunks(given_len),
        x_gradients,
        gradient.par_chunks(pooled_len),
        winners.par_chunks(pooled_len),
    )
        .into_par_iter()
        .map(|(images, of_images, gradient, winners)| {
            let mut of_filters = filters_wanted.then(|| vec![T::zero(); plan.filters_len()]);
            let mut of_bias = bias_wanted.then(|| vec![T::zero(); geometry.filters]);
            T::with_scratch(|scratch| {
                let images = geometry.pad(images, &mut scratch.padded);
                let mut backward = |of_images| {
                    arch.dispatch(Backward {
                        plan: &plan,
                        images,
                        gradient,
                        winners,
                        of_images,
                        of_filters: of_filters.as_deref_mut(),
                        of_bias: of_bias.as_deref_mut(),
                        scratch: &mut scratch.backward,
                    });
                };
                match of_images {
                    Some(of_images) if geometry.padding > 0 => {
                        scratch.of_padded.clear();
                        scratch.of_padded.resize(images.len(), T::zero());
                        backward(Some(&mut scratch.of_padded));
                        geometry.crop(&scratch.of_padded, of_images);
                    }
                    of_images => backward(of_images),
                }
            });
            (of_filters, of_bias)
        })
        .collect();
    let (of_filters, of_bias): (Vec<_>, Vec<_>) = sums.into_iter().unzip();
    let of_filters = add_in_order(of_filters).map(|sum| plan.filters_gradient(&sum));
    [x_gradient, of_filters, add_in_order(of_bias)]
}

/// Adds the parts' sums in the order of the parts; `None` where no part has one.
fn add_in_order<T: Real>(sums: Vec<Option<Vec<T>>>) -> Option<Vec<T>> {
    sums.into_iter().flatten().reduce(|mut total, sum| {
        add_to(&mut total, &sum);
        total
    })
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::layers::cpu_op::checks::levels;

    /// Sizes that leave rests of every kind: images, filters, runs of one vector and of several,
    /// patches that are gathered and not.
    const SIZES: [(usize, [usize; 3], [usize; 2], usize); 4] = [
        (17, [9, 8, 1], [5, 5], 20),
        (3, [8, 7, 20], [5, 5], 13),
        (33, [4, 5, 3], [3, 2], 7),
        (2, [6, 6, 64], [3, 3], 1),
    ];

    struct Case {
        geometry: Geometry,
        x: Vec<f64>,
        filters: Vec<f64>,
        bias: Vec<f64>,
        gradient: Vec<f64>,
    }

    fn cases() -> impl Iterator<Item = Case> {
        SIZES
            .into_iter()
            .map(|(images, [height, width, channels], kernel, filters)| {
                let geometry = Geometry {
                    images,
                    height,
                    width,
                    padding: 0,
                    channels,
                    kernel,
                    filters,
                };
                let rng = &mut ChaCha8Rng::seed_from_u64(3);
                // Of f32's precision, so that both types compute the same thing.
                let mut random = |len| -> Vec<f64> {
                    let value = || f64::from(rng.random_range(-1f32..1.0));
                    std::iter::repeat_with(value).take(len).collect()
                };
                Case {
                    x: random(images * geometry.image_len()),
                    filters: random(filters * geometry.patch_len()),
                    bias: random(filters),
                    gradient: random(images * geometry.pooled_len()),
                    geometry,
                }
            })
    }

    /// Pooled values, and the gradients of images, filters and bias for given winners.
    fn run<T: Buffered>(
        level: Arch,
        case: &Case,
        winners: Option<&[u8]>,
    ) -> (Vec<u8>, [Vec<f64>; 4]) {
        let narrow =
            |values: &[f64]| -> Vec<T> { values.iter().map(|&v| T::from_f64(v)).collect() };
        let wide = |values: Vec<T>| values.into_iter().map(T::to_f64).collect::<Vec<_>>();
        let (x, filters) = (narrow(&case.x), narrow(&case.filters));
        let linear = Activation::Linear;
        let (pooled, own) = forward(
            level,
            &case.geometry,
            linear,
            &x,
            &filters,
            &narrow(&case.bias),
        );
        let gradient = narrow(&case.gradient);
        let winners = winners.unwrap_or(&own);
        let all = [true; 3];
        let gradients = backward(level, &case.geometry, all, &x, &filters, &gradient, winners);
        let [of_x, of_filters, of_bias] = gradients.map(|g| wide(g.expect("it was wanted")));
        (own, [wide(pooled), of_x, of_filters, of_bias])
    }

    /// Terms of the longest sum.
    fn terms(g: &Geometry) -> f64 {
        g.patch_len().max(g.images * g.pooled_len() / g.filters) as f64 + 1.0
    }

    #[test]
    fn every_kind_of_vector_gives_the_same_layer() {
        for case in cases() {
            let (winners, expected) = run::<f64>(Arch::Scalar, &case, None);
            for level in levels() {
                // n terms below 1 may err by n² half units in the last place of 1, whatever their
                // order; with terms of either sign it is less than 2n of them.
                let n = terms(&case.geometry);
                let (own, f64s) = run::<f64>(level, &case, Some(&winners));
                assert_eq!(own, winners, "{level:?} {:?}", case.geometry);
                let (_, f32s) = run::<f32>(level, &case, Some(&winners));
                for ((expected, f64s), f32s) in expected.iter().zip(f64s).zip(f32s) {
                    for ((expected, f64), f32) in expected.iter().zip(f64s).zip(f32s) {
                        let what = format!("{level:?} {:?}: {expected}", case.geometry);
                        assert!(
                            (f64 - expected).abs() <= n * f64::EPSILON,
                            "{what}, f64 {f64}"
                        );
                        let bound = n * f64::from(f32::EPSILON);
                        assert!((f32 - expected).abs() <= bound, "{what}, f32 {f32}");
                    }
                }
            }
        }
    }
}
