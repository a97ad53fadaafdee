//! The loops over the pairs on the CPU.
//!
//! Pairs are taken in chunks whose size depends on the dimension alone, and the chunks' sums are
//! added in order, so that the result does not depend on the number of threads. The loops are
//! written so that the compiler makes vector code of them, once for each width that a processor may
//! have (`pulp` picks one at run time); it keeps the order of every sum, so that the result does
//! not depend on the processor either.

mod blocks;
mod grad_output;
mod labels;
mod stores;
mod uninit;

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, Layout, Result};
use rayon::prelude::*;

use self::blocks::Pairs;
use self::grad_output::GradOutput;
use super::{ContrastiveLoss, Reduction};
use crate::element::Element;
use crate::embeddings::View;

/// Elements of one side in a chunk: 64 KiB of f32, small enough to share out a batch of a few
/// hundred pairs, large enough that handing it to a thread costs nothing beside it.
const CHUNK: usize = 16 * 1024;

#[expect(unsafe_code, reason = "uninitialised memory, all of it written")]
pub(super) fn forward<S: Element>(
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
        let losses = unsafe { uninit::filled(n, write) }?;
        return Ok(S::to_cpu_storage_owned(losses));
    }
    let mut sums = vec![0.0; n.div_ceil(chunk)];
    each(sums.par_iter_mut(), |index, sum| {
        *sum = pairs.sum(index * chunk..n.min((index + 1) * chunk))?;
        Ok(())
    })?;
    Ok(reduced::<S>(loss, n, &sums))
}

pub(super) fn backward<S: Element>(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
    grad_output: View,
) -> Result<CpuStorage> {
    let pairs = Pairs::<S>::new(loss, a, b, same)?;
    let grad_output = GradOutput::<S>::new(loss.reduction, pairs.len(), grad_output)?;
    Ok(S::to_cpu_storage_owned(gradients(
        &pairs,
        &grad_output,
        None,
    )?))
}

/// The loss of a reduction to a scalar, and what [`backward`] has for a `grad_output` of 1, in one pass
/// over the embeddings.
pub(super) fn loss_and_gradients<S: Element>(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
) -> Result<(CpuStorage, Vec<S>)> {
    let pairs = Pairs::<S>::new(loss, a, b, same)?;
    let n = pairs.len();
    let one = S::to_cpu_storage_owned(vec![S::from_f64(1.0)]);
    let scalar = Layout::contiguous(());
    let grad_output = GradOutput::<S>::new(loss.reduction, n, (&one, &scalar))?;
    let mut sums = vec![0.0; n.div_ceil(CHUNK.div_ceil(pairs.dimension()))];
    let gradients = gradients(&pairs, &grad_output, Some(&mut sums))?;
    Ok((reduced::<S>(loss, n, &sums), gradients))
}

/// The gradients of both sides, one after the other. Where there are `sums`, each gets the sum of the
/// losses of its chunk.
#[expect(unsafe_code, reason = "uninitialised memory, all of it written")]
fn gradients<S: Element>(
    pairs: &Pairs<S>,
    grad_output: &GradOutput<S>,
    sums: Option<&mut [f64]>,
) -> Result<Vec<S>> {
    let (n, d) = (pairs.len(), pairs.dimension());
    let chunk = CHUNK.div_ceil(d);
    let write = |gradients: &mut [MaybeUninit<S>]| {
        let (of_a, of_b) = gradients.split_at_mut(n * d);
        let chunks = of_a
            .par_chunks_mut(chunk * d)
            .zip(of_b.par_chunks_mut(chunk * d));
        match sums {
            Some(sums) => each(
                chunks.zip(sums.par_iter_mut()),
                |index, ((of_a, of_b), sum)| {
                    pairs.write_gradients(index * chunk, grad_output, Some(sum), of_a, of_b)
                },
            ),
            None => each(chunks, |index, (of_a, of_b)| {
                pairs.write_gradients(index * chunk, grad_output, None, of_a, of_b)
            }),
        }
    };
    // SAFETY: `write_gradients` writes every element of its slices, and the slices are all there is.
    unsafe { uninit::filled(2 * n * d, write) }
}

/// The loss, a scalar, of the chunks' sums.
fn reduced<S: Element>(loss: ContrastiveLoss, pairs: usize, sums: &[f64]) -> CpuStorage {
    let sum: f64 = sums.iter().sum();
    let total = match loss.reduction {
        Reduction::Mean => sum / pairs as f64,
        Reduction::Sum | Reduction::None => sum,
    };
    S::to_cpu_storage_owned(vec![S::from_f64(total)])
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
