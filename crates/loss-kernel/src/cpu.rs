//! The loops over the pairs on the CPU.
//!
//! Pairs are taken in chunks whose size depends on the dimension alone, and the chunks' sums are
//! added in order, so that the result does not depend on the number of threads. The loops are
//! written so that the compiler makes vector code of them, once for each width that a processor may
//! have (`pulp` picks one at run time); it keeps the order of every sum, so that the result does
//! not depend on the processor either.

mod embeddings;
mod fresh;
mod labels;
mod pairs;
mod stream;
mod upstream;

use std::{mem::MaybeUninit, ops::AddAssign};

use candle_core::{CpuStorage, Layout, Result, WithDType, bail};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use num_traits::Float;
use rayon::prelude::*;

use self::pairs::Pairs;
use self::upstream::Upstream;
use crate::{ContrastiveLoss, Reduction};

/// A tensor as a CustomOp gets it.
type View<'a> = (&'a CpuStorage, &'a Layout);

/// Elements of one side in a chunk: 64 KiB of f32, small enough to share out a batch of a few
/// hundred pairs, large enough that handing it to a thread costs nothing beside it.
const CHUNK: usize = 16 * 1024;

/// Loss of every pair, reduced.
pub(crate) fn forward(loss: ContrastiveLoss, a: View, b: View, same: View) -> Result<CpuStorage> {
    match a.0 {
        CpuStorage::F16(_) => forward_as::<f16>(loss, a, b, same),
        CpuStorage::BF16(_) => forward_as::<bf16>(loss, a, b, same),
        CpuStorage::F32(_) => forward_as::<f32>(loss, a, b, same),
        CpuStorage::F64(_) => forward_as::<f64>(loss, a, b, same),
        _ => bail!("contrastive-loss: no loss of embeddings that are not floats"),
    }
}

/// Gradients of both sides, (2, N, D).
pub(crate) fn backward(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
    upstream: View,
) -> Result<CpuStorage> {
    match a.0 {
        CpuStorage::F16(_) => backward_as::<f16>(loss, a, b, same, upstream),
        CpuStorage::BF16(_) => backward_as::<bf16>(loss, a, b, same, upstream),
        CpuStorage::F32(_) => backward_as::<f32>(loss, a, b, same, upstream),
        CpuStorage::F64(_) => backward_as::<f64>(loss, a, b, same, upstream),
        _ => bail!("contrastive-loss: no loss of embeddings that are not floats"),
    }
}

#[expect(unsafe_code, reason = "fresh memory, all of it written")]
fn forward_as<S: Scalar>(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
) -> Result<CpuStorage> {
    let pairs = Pairs::<S>::new(loss, a, b, same)?;
    let (n, chunk) = (pairs.len(), CHUNK.div_ceil(pairs.dimension()));
    if loss.reduction == Reduction::None {
        let write = |losses: &mut [MaybeUninit<S>]| {
            each(losses.par_chunks_mut(chunk), |index, losses| {
                pairs.write_losses(index * chunk, losses)
            })
        };
        // SAFETY: `write_losses` writes every loss of its slice, and the slices are all there is.
        let losses = unsafe { fresh::filled(n, write) }?;
        return Ok(S::to_cpu_storage_owned(losses));
    }
    let mut sums = vec![0.0; n.div_ceil(chunk)];
    each(sums.par_iter_mut(), |index, sum| {
        *sum = pairs.sum(index * chunk..n.min((index + 1) * chunk))?;
        Ok(())
    })?;
    let sum: f64 = sums.iter().sum();
    let total = match loss.reduction {
        Reduction::Mean => sum / n as f64,
        Reduction::Sum | Reduction::None => sum,
    };
    Ok(S::to_cpu_storage_owned(vec![S::from_f64(total)]))
}

#[expect(unsafe_code, reason = "fresh memory, all of it written")]
fn backward_as<S: Scalar>(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
    upstream: View,
) -> Result<CpuStorage> {
    let pairs = Pairs::<S>::new(loss, a, b, same)?;
    let (n, d) = (pairs.len(), pairs.dimension());
    let upstream = Upstream::<S>::new(loss.reduction, n, upstream)?;
    let chunk = CHUNK.div_ceil(d);
    let write = |gradients: &mut [MaybeUninit<S>]| {
        let (of_a, of_b) = gradients.split_at_mut(n * d);
        let chunks = of_a
            .par_chunks_mut(chunk * d)
            .zip(of_b.par_chunks_mut(chunk * d));
        each(chunks, |index, (of_a, of_b)| {
            pairs.write_gradients(index * chunk, &upstream, of_a, of_b)
        })
    };
    // SAFETY: `write_gradients` writes every element of its slices, and the slices are all there is.
    let gradients = unsafe { fresh::filled(2 * n * d, write) }?;
    Ok(S::to_cpu_storage_owned(gradients))
}

/// Does the work of every chunk, on this thread if there is but one: rayon asks no other then.
fn each<T: Send>(
    chunks: impl IndexedParallelIterator<Item = T>,
    work: impl Fn(usize, T) -> Result<()> + Send + Sync,
) -> Result<()> {
    chunks
        .enumerate()
        .try_for_each(|(index, chunk)| work(index, chunk))
}

/// An element type with the type its sums are taken in.
pub(crate) trait Scalar: WithDType {
    type Wide: Float + AddAssign + Send + Sync;

    fn widen(self) -> Self::Wide;

    /// `values` in the wide type: themselves, or a copy in `room`.
    fn widen_all<'a>(values: &'a [Self], room: &'a mut [Self::Wide]) -> &'a [Self::Wide];

    /// `wide` in this type: itself, or a copy in `room`.
    fn narrow_all<'a>(wide: &'a [Self::Wide], room: &'a mut [Self]) -> &'a [Self];
}

macro_rules! wide {
    ($type:ty) => {
        impl Scalar for $type {
            type Wide = Self;

            #[inline(always)]
            fn widen(self) -> Self {
                self
            }

            #[inline(always)]
            fn widen_all<'a>(values: &'a [Self], _: &'a mut [Self]) -> &'a [Self] {
                values
            }

            #[inline(always)]
            fn narrow_all<'a>(wide: &'a [Self], _: &'a mut [Self]) -> &'a [Self] {
                wide
            }
        }
    };
}

macro_rules! half {
    ($type:ty) => {
        impl Scalar for $type {
            type Wide = f32;

            #[inline(always)]
            fn widen(self) -> f32 {
                self.to_f32()
            }

            #[inline(always)]
            fn widen_all<'a>(values: &'a [Self], room: &'a mut [f32]) -> &'a [f32] {
                let room = &mut room[..values.len()];
                values.convert_to_f32_slice(room);
                room
            }

            #[inline(always)]
            fn narrow_all<'a>(wide: &'a [f32], room: &'a mut [Self]) -> &'a [Self] {
                let room = &mut room[..wide.len()];
                room.convert_from_f32_slice(wide);
                room
            }
        }
    };
}

wide!(f32);
wide!(f64);
half!(f16);
half!(bf16);
