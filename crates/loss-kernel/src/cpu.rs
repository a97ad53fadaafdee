//! The loops over the pairs on the CPU.
//!
//! Pairs are taken in chunks whose size depends on the dimension alone, and the chunks' sums are
//! added in order, so that the result does not depend on the number of threads.

use std::ops::AddAssign;

use candle_core::{CpuStorage, Layout, Result, WithDType, bail};
use half::{bf16, f16};
use num_traits::{Float, cast};
use rayon::prelude::*;

use crate::{ContrastiveLoss, LossError, Reduction, energy::Norm};

/// A tensor as a CustomOp gets it.
type View<'a> = (&'a CpuStorage, &'a Layout);

/// Elements of one side in a chunk: 64 KiB of f32, small enough to share out a batch of a few
/// hundred pairs, large enough that handing it to a thread costs nothing beside it.
const CHUNK: usize = 16 * 1024;

/// Partial sums of one distance: enough of them for any vector unit, and a tree of additions
/// instead of a chain, which keeps f32 within a few units in the last place.
const LANES: usize = 16;

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

fn forward_as<S: Scalar>(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
) -> Result<CpuStorage> {
    let (a, b) = (Rows::<S>::new(a)?, Rows::<S>::new(b)?);
    let labels = Labels::new(same)?;
    let margin = S::wide(loss.margin.get());
    let pair = |i: usize| -> Result<S::Wide> {
        let s = separation(a.row(i), b.row(i), loss.variant.norm());
        Ok(loss.variant.loss_and_slope(s, labels.similar(i)?, margin).0)
    };
    let chunk = CHUNK.div_ceil(a.columns);
    if loss.reduction == Reduction::None {
        let mut losses = vec![S::zero(); a.rows];
        let fill = |(index, losses): (usize, &mut [S])| -> Result<()> {
            for (i, loss) in losses.iter_mut().enumerate() {
                *loss = S::narrow(pair(index * chunk + i)?);
            }
            Ok(())
        };
        losses
            .par_chunks_mut(chunk)
            .enumerate()
            .try_for_each(fill)?;
        return Ok(S::to_cpu_storage_owned(losses));
    }
    let sum_of = |index: usize| -> Result<f64> {
        let mut sum = 0.0;
        for i in index * chunk..((index + 1) * chunk).min(a.rows) {
            sum += wide_to_f64(pair(i)?);
        }
        Ok(sum)
    };
    let chunks = a.rows.div_ceil(chunk);
    let sum: f64 = if chunks == 1 {
        sum_of(0)?
    } else {
        let sums: Vec<f64> = (0..chunks)
            .into_par_iter()
            .map(sum_of)
            .collect::<Result<_>>()?;
        sums.iter().sum()
    };
    let total = match loss.reduction {
        Reduction::Mean => sum / a.rows as f64,
        Reduction::Sum | Reduction::None => sum,
    };
    Ok(S::to_cpu_storage_owned(vec![S::from_f64(total)]))
}

fn backward_as<S: Scalar>(
    loss: ContrastiveLoss,
    a: View,
    b: View,
    same: View,
    upstream: View,
) -> Result<CpuStorage> {
    let (a, b) = (Rows::<S>::new(a)?, Rows::<S>::new(b)?);
    let labels = Labels::new(same)?;
    let upstream = Upstream::<S>::new(loss.reduction, a.rows, upstream)?;
    let margin = S::wide(loss.margin.get());
    let norm = loss.variant.norm();
    let mut gradients = vec![S::zero(); 2 * a.rows * a.columns];
    let (of_a, of_b) = gradients.split_at_mut(a.rows * a.columns);
    let chunk = CHUNK.div_ceil(a.columns);
    let fill = |(index, (of_a, of_b)): (usize, (&mut [S], &mut [S]))| -> Result<()> {
        let rows = of_a
            .chunks_exact_mut(a.columns)
            .zip(of_b.chunks_exact_mut(a.columns));
        for (i, (of_a, of_b)) in rows.enumerate() {
            let i = index * chunk + i;
            let (a, b) = (a.row(i), b.row(i));
            let s = separation(a, b, norm);
            let (_, slope) = loss.variant.loss_and_slope(s, labels.similar(i)?, margin);
            write_gradients(a, b, norm, slope * upstream.of(i), of_a, of_b);
        }
        Ok(())
    };
    of_a.par_chunks_mut(chunk * a.columns)
        .zip(of_b.par_chunks_mut(chunk * a.columns))
        .enumerate()
        .try_for_each(fill)?;
    Ok(S::to_cpu_storage_owned(gradients))
}

/// An element type with the type its sums are taken in.
trait Scalar: WithDType {
    type Wide: Float + AddAssign + Send + Sync;

    fn widen(self) -> Self::Wide;
    fn narrow(wide: Self::Wide) -> Self;

    fn wide(value: f64) -> Self::Wide {
        cast(value).unwrap_or_else(Float::nan)
    }
}

macro_rules! scalar {
    ($type:ty, $wide:ty, $widen:expr, $narrow:expr) => {
        impl Scalar for $type {
            type Wide = $wide;

            #[inline(always)]
            fn widen(self) -> $wide {
                $widen(self)
            }

            #[inline(always)]
            fn narrow(wide: $wide) -> Self {
                $narrow(wide)
            }
        }
    };
}

scalar!(f16, f32, f16::to_f32, f16::from_f32);
scalar!(bf16, f32, bf16::to_f32, bf16::from_f32);
scalar!(f32, f32, std::convert::identity, std::convert::identity);
scalar!(f64, f64, std::convert::identity, std::convert::identity);

fn wide_to_f64<T: Float>(value: T) -> f64 {
    cast(value).unwrap_or(f64::NAN)
}

/// A matrix with any strides.
struct Rows<'a, S> {
    values: &'a [S],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// One embedding: `values[k * stride]` is its component `k`, for `k < columns`.
#[derive(Clone, Copy)]
struct Row<'a, S> {
    values: &'a [S],
    stride: usize,
    columns: usize,
}

impl<'a, S: Scalar> Rows<'a, S> {
    fn new((storage, layout): View<'a>) -> Result<Self> {
        let (rows, columns) = layout.shape().dims2()?;
        Ok(Self {
            values: &storage.as_slice::<S>()?[layout.start_offset()..],
            rows,
            columns,
            row_stride: layout.stride()[0],
            column_stride: layout.stride()[1],
        })
    }

    fn row(&self, i: usize) -> Row<'a, S> {
        Row {
            values: &self.values[i * self.row_stride..],
            stride: self.column_stride,
            columns: self.columns,
        }
    }
}

impl<'a, S: Scalar> Row<'a, S> {
    /// The components as a slice, where they lie side by side.
    fn contiguous(self) -> Option<&'a [S]> {
        (self.stride == 1).then(|| &self.values[..self.columns])
    }

    fn component(self, k: usize) -> S::Wide {
        self.values[k * self.stride].widen()
    }
}

/// `Σ (a_k − b_k)²` or `Σ |a_k − b_k|`.
fn separation<S: Scalar>(a: Row<S>, b: Row<S>, norm: Norm) -> S::Wide {
    match norm {
        Norm::L1 => sum(a, b, |difference: S::Wide| difference.abs()),
        Norm::L2 => sum(a, b, |difference: S::Wide| difference * difference),
    }
}

#[inline(always)]
fn sum<S: Scalar>(a: Row<S>, b: Row<S>, term: impl Fn(S::Wide) -> S::Wide) -> S::Wide {
    let zero = <S::Wide as num_traits::Zero>::zero();
    let mut lanes = [zero; LANES];
    match (a.contiguous(), b.contiguous()) {
        (Some(a), Some(b)) => {
            let (a_blocks, a_rest) = a.as_chunks::<LANES>();
            let (b_blocks, b_rest) = b.as_chunks::<LANES>();
            for (a, b) in a_blocks.iter().zip(b_blocks) {
                for k in 0..LANES {
                    lanes[k] += term(a[k].widen() - b[k].widen());
                }
            }
            for (k, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
                lanes[k] += term(a.widen() - b.widen());
            }
        }
        _ => {
            for k in 0..a.columns {
                lanes[k % LANES] += term(a.component(k) - b.component(k));
            }
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for k in 0..width {
            lanes[k] += lanes[k + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `+g` for a, `−g` for b, with `g_k = slope·(a_k − b_k)` or `slope·sign(a_k − b_k)`.
fn write_gradients<S: Scalar>(
    a: Row<S>,
    b: Row<S>,
    norm: Norm,
    slope: S::Wide,
    of_a: &mut [S],
    of_b: &mut [S],
) {
    let direction = |difference: S::Wide| match norm {
        Norm::L2 => difference,
        // `signum` gives 1 for 0.
        Norm::L1 if difference == <S::Wide as num_traits::Zero>::zero() => difference,
        Norm::L1 => difference.signum(),
    };
    let both = of_a.iter_mut().zip(of_b);
    match (a.contiguous(), b.contiguous()) {
        (Some(a), Some(b)) => {
            for ((of_a, of_b), (a, b)) in both.zip(a.iter().zip(b)) {
                let gradient = slope * direction(a.widen() - b.widen());
                *of_a = S::narrow(gradient);
                *of_b = S::narrow(-gradient);
            }
        }
        _ => {
            for (k, (of_a, of_b)) in both.enumerate() {
                let gradient = slope * direction(a.component(k) - b.component(k));
                *of_a = S::narrow(gradient);
                *of_b = S::narrow(-gradient);
            }
        }
    }
}

/// The pairs' labels, in any of their types.
struct Labels<'a> {
    storage: &'a CpuStorage,
    start: usize,
    stride: usize,
}

impl<'a> Labels<'a> {
    fn new((storage, layout): View<'a>) -> Result<Self> {
        layout.shape().dims1()?;
        Ok(Self {
            storage,
            start: layout.start_offset(),
            stride: layout.stride()[0],
        })
    }

    fn similar(&self, index: usize) -> Result<bool> {
        let at = self.start + index * self.stride;
        let value = match self.storage {
            CpuStorage::U8(labels) => f64::from(labels[at]),
            CpuStorage::U32(labels) => f64::from(labels[at]),
            CpuStorage::F16(labels) => labels[at].to_f64(),
            CpuStorage::BF16(labels) => labels[at].to_f64(),
            CpuStorage::F32(labels) => f64::from(labels[at]),
            CpuStorage::F64(labels) => labels[at],
            _ => bail!("contrastive-loss: labels must be u8, u32 or floats"),
        };
        if value == 1.0 {
            Ok(true)
        } else if value == 0.0 {
            Ok(false)
        } else {
            Err(LossError::Label { index, value }.into())
        }
    }
}

/// The gradient that comes from above, with the reduction's own factor in it.
struct Upstream<'a, S: Scalar> {
    values: &'a [S],
    stride: usize,
    scale: S::Wide,
}

impl<'a, S: Scalar> Upstream<'a, S> {
    fn new(reduction: Reduction, pairs: usize, (storage, layout): View<'a>) -> Result<Self> {
        let scale = match reduction {
            Reduction::Mean => S::wide(1.0 / pairs as f64),
            Reduction::Sum | Reduction::None => S::wide(1.0),
        };
        Ok(Self {
            values: &storage.as_slice::<S>()?[layout.start_offset()..],
            // A scalar is every pair's.
            stride: layout.stride().first().copied().unwrap_or(0),
            scale,
        })
    }

    fn of(&self, pair: usize) -> S::Wide {
        self.values[pair * self.stride].widen() * self.scale
    }
}
