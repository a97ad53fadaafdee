//! The arithmetic of a chunk of pairs, a block at a time.

use std::{mem::MaybeUninit, ops::Range};

use candle_core::Result;
use num_traits::{Float, Zero, cast};
use pulp::{Arch, NullaryFnOnce};

use super::{grad_output::GradOutput, labels::Labels, stores::Stores};
use crate::{
    ContrastiveLoss,
    element::Element,
    embeddings::{Embeddings, View},
    energy::Norm,
    lanes::{LANES, add_terms, total},
};

#[cfg(test)]
mod tests;

/// The most pairs of a block. Their `s`, losses and slopes lie side by side, so that the formulas
/// too take a vector of pairs at a time.
const BLOCK: usize = 64;

/// The most elements of one side in work at a time (those of a block, unless one pair alone has
/// more). Both sides and their gradients stay in the fastest cache meanwhile.
const PIECE: usize = 1024;

/// A batch of pairs.
pub(super) struct Pairs<'a, S> {
    loss: ContrastiveLoss,
    a: Embeddings<'a, S>,
    b: Embeddings<'a, S>,
    labels: Labels<'a>,
}

/// Where a block's numbers are kept.
struct Room<S: Element> {
    a: [S::Wide; PIECE],
    b: [S::Wide; PIECE],
    similar: [bool; BLOCK],
    /// `s`, then loss or slope.
    numbers: [S::Wide; BLOCK],
    /// Losses where `numbers` are slopes.
    losses: [S::Wide; BLOCK],
}

impl<S: Element> Room<S> {
    #[inline(always)]
    fn new() -> Self {
        Self {
            a: [S::Wide::zero(); PIECE],
            b: [S::Wide::zero(); PIECE],
            similar: [false; BLOCK],
            numbers: [S::Wide::zero(); BLOCK],
            losses: [S::Wide::zero(); BLOCK],
        }
    }
}

impl<'a, S: Element> Pairs<'a, S> {
    pub(super) fn new(
        loss: ContrastiveLoss,
        a: View<'a>,
        b: View<'a>,
        same: View<'a>,
    ) -> Result<Self> {
        Ok(Self {
            loss,
            a: Embeddings::new(a, loss.normalised)?,
            b: Embeddings::new(b, loss.normalised)?,
            labels: Labels::new(same)?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.a.rows
    }

    pub(super) fn dimension(&self) -> usize {
        self.a.columns
    }

    /// The sum of the losses of `range`.
    pub(super) fn sum(&self, range: Range<usize>) -> Result<f64> {
        Arch::new().dispatch(Sum { pairs: self, range })
    }

    /// Writes the losses of the pairs from `first` on: every one, where it returns `Ok`.
    pub(super) fn write_losses(&self, first: usize, losses: &mut [MaybeUninit<S>]) -> Result<()> {
        Arch::new().dispatch(Losses {
            pairs: self,
            first,
            losses,
        })
    }

    /// Writes the gradients of the pairs from `first` on, which are as many as `of_a` and `of_b`
    /// have rows: every element, where it returns `Ok`. Where there is a `sum`, it gets what
    /// [`sum`](Self::sum) has of these pairs, to the same bits.
    pub(super) fn write_gradients(
        &self,
        first: usize,
        grad_output: &GradOutput<S>,
        sum: Option<&mut f64>,
        of_a: &mut [MaybeUninit<S>],
        of_b: &mut [MaybeUninit<S>],
    ) -> Result<()> {
        Arch::new().dispatch(Gradients {
            pairs: self,
            first,
            grad_output,
            sum,
            of_a,
            of_b,
        })
    }

    fn block(&self) -> usize {
        (PIECE / self.dimension()).clamp(1, BLOCK)
    }

    /// Leaves what is `wanted` of (loss, slope) of each pair of a block in `room.numbers`; what else is,
    /// it puts into the pair's place in `room.losses`.
    #[inline(always)]
    fn energies(
        &self,
        block: Range<usize>,
        room: &mut Room<S>,
        wanted: impl Fn((S::Wide, S::Wide), &mut S::Wide) -> S::Wide,
    ) -> Result<()> {
        self.loss.variant.norm().fixed(
            #[inline(always)]
            |norm| self.separations(norm, block.clone(), room),
        );
        let similar = &mut room.similar[..block.len()];
        self.labels.read(block.start, similar)?;
        let margin = cast(self.loss.margin.get()).unwrap_or_else(Float::nan);
        let numbers = &mut room.numbers[..block.len()];
        self.loss.variant.fixed(
            #[inline(always)]
            |variant| {
                let pairs = numbers.iter_mut().zip(&mut room.losses).zip(similar);
                for ((number, loss), similar) in pairs {
                    *number = wanted(variant.loss_and_slope(*number, *similar, margin), loss);
                }
            },
        );
        Ok(())
    }

    /// Leaves the `s` of each pair of a block in `room.numbers`.
    #[inline(always)]
    fn separations(&self, norm: Norm, block: Range<usize>, room: &mut Room<S>) {
        let numbers = &mut room.numbers[..block.len()];
        if self.dimension() == 2 {
            let a = self.a.read(block.clone(), 0..2, &mut room.a);
            let b = self.b.read(block, 0..2, &mut room.b);
            let rows = a.as_chunks::<2>().0.iter().zip(b.as_chunks::<2>().0);
            for (s, (a, b)) in numbers.iter_mut().zip(rows) {
                *s = norm.term(a[0] - b[0]) + norm.term(a[1] - b[1]);
            }
            return;
        }
        for (s, i) in numbers.iter_mut().zip(block) {
            let mut lanes = [S::Wide::zero(); LANES];
            for piece in pieces(self.dimension()) {
                let a = self.a.read(i..i + 1, piece.clone(), &mut room.a);
                let b = self.b.read(i..i + 1, piece, &mut room.b);
                add_terms(
                    &mut lanes,
                    a,
                    b,
                    #[inline(always)]
                    |a, b| norm.term(a - b),
                );
            }
            *s = total(lanes);
        }
    }

    /// Leaves the gradients of both sides of a pair of normalised embeddings in `sides`.
    fn pull_back(&self, pair: usize, norm: Norm, slope: S::Wide, sides: &mut [Vec<S::Wide>; 2]) {
        for (embeddings, side) in [&self.a, &self.b].into_iter().zip(&mut *sides) {
            side.resize(self.dimension(), S::Wide::zero());
            embeddings.copy(pair, 0..self.dimension(), side);
        }
        let [a, b] = sides;
        for (a, b) in a.iter_mut().zip(&mut *b) {
            let gradient = slope * norm.direction(*a - *b);
            (*a, *b) = (gradient, -gradient);
        }
        self.a.pull_back(pair, a);
        self.b.pull_back(pair, b);
    }
}

/// The components of one pair, `PIECE` at a time.
fn pieces(dimension: usize) -> impl Iterator<Item = Range<usize>> {
    (0..dimension)
        .step_by(PIECE)
        .map(move |from| from..dimension.min(from + PIECE))
}

struct Sum<'a, S> {
    pairs: &'a Pairs<'a, S>,
    range: Range<usize>,
}

impl<S: Element> NullaryFnOnce for Sum<'_, S> {
    type Output = Result<f64>;

    #[inline(always)]
    fn call(self) -> Result<f64> {
        let Self { pairs, range } = self;
        let mut room = Room::<S>::new();
        let mut lanes = [0.0; LANES];
        for start in range.clone().step_by(pairs.block()) {
            let block = start..range.end.min(start + pairs.block());
            pairs.energies(block.clone(), &mut room, |(loss, _), _| loss)?;
            add_losses(&mut lanes, &room.numbers[..block.len()]);
        }
        Ok(total(lanes))
    }
}

/// Adds the losses of a block.
#[inline(always)]
fn add_losses<W: Float>(lanes: &mut [f64; LANES], losses: &[W]) {
    for losses in losses.chunks(LANES) {
        for (lane, loss) in lanes.iter_mut().zip(losses) {
            *lane += cast(*loss).unwrap_or(f64::NAN);
        }
    }
}

struct Losses<'a, S> {
    pairs: &'a Pairs<'a, S>,
    first: usize,
    losses: &'a mut [MaybeUninit<S>],
}

impl<S: Element> NullaryFnOnce for Losses<'_, S> {
    type Output = Result<()>;

    #[inline(always)]
    fn call(self) -> Result<()> {
        let mut room = Room::<S>::new();
        let mut narrow = [S::zero(); BLOCK];
        let mut start = self.first;
        for losses in self.losses.chunks_mut(self.pairs.block()) {
            let block = start..start + losses.len();
            start = block.end;
            self.pairs.energies(block, &mut room, |(loss, _), _| loss)?;
            let values = S::narrow_all(&room.numbers[..losses.len()], &mut narrow);
            for (loss, value) in losses.iter_mut().zip(values) {
                loss.write(*value);
            }
        }
        Ok(())
    }
}

struct Gradients<'a, S: Element> {
    pairs: &'a Pairs<'a, S>,
    first: usize,
    grad_output: &'a GradOutput<'a, S>,
    sum: Option<&'a mut f64>,
    of_a: &'a mut [MaybeUninit<S>],
    of_b: &'a mut [MaybeUninit<S>],
}

impl<S: Element> NullaryFnOnce for Gradients<'_, S> {
    type Output = Result<()>;

    #[inline(always)]
    fn call(self) -> Result<()> {
        self.pairs.loss.variant.norm().fixed(
            #[inline(always)]
            |norm| self.write(norm),
        )
    }
}

impl<S: Element> Gradients<'_, S> {
    /// `+g` for a, `−g` for b, with `g_k = slope·direction(a_k − b_k)`.
    #[inline(always)]
    fn write(self, norm: Norm) -> Result<()> {
        let Self {
            pairs,
            first,
            grad_output,
            sum,
            of_a,
            of_b,
        } = self;
        let d = pairs.dimension();
        let stores = Stores::of::<S>(2 * pairs.len() * d);
        let mut room = Room::<S>::new();
        let mut wide = [S::Wide::zero(); PIECE];
        let mut narrow = [[S::zero(); PIECE]; 2];
        let mut through = [Vec::new(), Vec::new()];
        let mut lanes = [0.0; LANES];
        let mut start = first;
        let rows = pairs.block() * d;
        for (of_a, of_b) in of_a.chunks_mut(rows).zip(of_b.chunks_mut(rows)) {
            let block = start..start + of_a.len() / d;
            start = block.end;
            if sum.is_some() {
                pairs.energies(block.clone(), &mut room, |(loss, slope), kept| {
                    *kept = loss;
                    slope
                })?;
                add_losses(&mut lanes, &room.losses[..block.len()]);
            } else {
                pairs.energies(block.clone(), &mut room, |(_, slope), _| slope)?;
            }
            let slopes = &mut room.numbers[..block.len()];
            grad_output.apply(block.start, slopes);
            if pairs.loss.normalised {
                let sides = of_a.chunks_exact_mut(d).zip(of_b.chunks_exact_mut(d));
                for ((i, slope), (of_a, of_b)) in block.zip(&*slopes).zip(sides) {
                    pairs.pull_back(i, norm, *slope, &mut through);
                    for (gradient, to) in through.iter().zip([of_a, of_b]) {
                        for (values, to) in gradient.chunks(PIECE).zip(to.chunks_mut(PIECE)) {
                            stores.write(S::narrow_all(values, &mut narrow[0]), to);
                        }
                    }
                }
                continue;
            }
            // Of a block with more than one piece there is but one pair.
            for piece in pieces(d) {
                let place = piece.start..piece.start + block.len() * piece.len();
                let wide = &mut wide[..place.len()];
                if d == 2 {
                    let a = pairs.a.read(block.clone(), 0..2, &mut room.a);
                    let b = pairs.b.read(block.clone(), 0..2, &mut room.b);
                    let rows = a.as_chunks::<2>().0.iter().zip(b.as_chunks::<2>().0);
                    let gradients = wide.as_chunks_mut::<2>().0.iter_mut();
                    for ((g, slope), (a, b)) in gradients.zip(&*slopes).zip(rows) {
                        *g = [0, 1].map(|k| *slope * norm.direction(a[k] - b[k]));
                    }
                } else {
                    let rows = wide.chunks_exact_mut(piece.len());
                    for ((i, slope), row) in block.clone().zip(&*slopes).zip(rows) {
                        let a = pairs.a.read(i..i + 1, piece.clone(), &mut room.a);
                        let b = pairs.b.read(i..i + 1, piece.clone(), &mut room.b);
                        for (g, (a, b)) in row.iter_mut().zip(a.iter().zip(b)) {
                            *g = *slope * norm.direction(*a - *b);
                        }
                    }
                }
                let [narrow, negated] = &mut narrow;
                let values = S::narrow_all(wide, narrow);
                let negated = &mut negated[..values.len()];
                for (negated, value) in negated.iter_mut().zip(values) {
                    *negated = S::zero() - *value;
                }
                stores.write(values, &mut of_a[place.clone()]);
                stores.write(negated, &mut of_b[place]);
            }
        }
        if let Some(sum) = sum {
            *sum = total(lanes);
        }
        Ok(())
    }
}
