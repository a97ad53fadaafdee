//! Loss and gradient of all pairs on the CPU, out of tiles.

mod classes;
mod matrix;
mod round_robin;
mod selection;
mod source;
mod tile;
mod totals;
mod weigh;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Device, Result, Tensor, WithDType, bail};
use num_traits::Zero;

use self::classes::Classes;
use self::round_robin::{Block, between, blocks, within};
use self::selection::{Anchors, Limits};
use self::source::Source;
use self::tile::{Gradients, Rows, Tile};
use self::totals::Totals;
use self::weigh::Weighing;
use super::op::Op;
use super::{InBatchContrastiveLoss, InBatchReduction, Miner};
use crate::element::{Element, Real};
use crate::embeddings::View;

/// A gradient as it was summed, still to be multiplied by `factor`.
pub(super) struct Gradient {
    factor: f64,
    values: CpuStorage,
}

impl Gradient {
    pub(super) fn times(self, grad_output: f64, like: &Tensor) -> Result<Tensor> {
        fn scaled<W: Real>(mut values: Vec<W>, factor: f64, like: &Tensor) -> Result<Tensor> {
            let factor = W::from_f64(factor);
            for value in &mut values {
                *value *= factor;
            }
            Tensor::from_vec(values, like.shape(), &Device::Cpu)
        }
        let factor = self.factor * grad_output;
        match self.values {
            CpuStorage::F32(values) => scaled(values, factor, like)?,
            CpuStorage::F64(values) => scaled(values, factor, like)?,
            other => bail!("{}: a gradient of {:?}", Op::NAME, other.dtype()),
        }
        .to_dtype(like.dtype())
    }
}

/// The loss, and the gradient of each batch that needs one.
pub(super) fn evaluate<S: Element>(
    op: &Op,
    batches: &[View],
) -> Result<(f64, [Option<Gradient>; 2])> {
    let (loss, wanted) = (op.loss, op.wanted);
    let classes = Classes::of_batches(&op.labels)?;
    let mut sources = batches
        .iter()
        .zip(&classes)
        .map(|(&view, classes)| Source::<S>::new(view, classes, loss.normalised));
    let Some(left) = sources.next().transpose()? else {
        bail!("{}: no batch", Op::NAME);
    };
    let tiles = Tiles {
        loss,
        left,
        right: sources.next().transpose()?,
        spare: Mutex::new(Vec::new()),
    };
    let limits = match loss.miner {
        Miner::All => None,
        _ => Some(tiles.measure()),
    };
    let mut gradients = [
        wanted[0].then(|| vec![S::Wide::zero(); tiles.left.rows() * tiles.left.columns()]),
        tiles
            .right
            .as_ref()
            .filter(|_| wanted[1])
            .map(|right| vec![S::Wide::zero(); right.rows() * right.columns()]),
    ];
    let [left, right] = &mut gradients;
    let mut weigh = |tiled, factors| {
        let gradients = [left.as_deref_mut(), right.as_deref_mut()];
        tiles.weigh(limits.as_ref(), tiled, factors, gradients)
    };
    // One factor for all pairs can wait until they are counted. Of two, that of the dissimilar pairs
    // can; the similar ones, which lie in few tiles, are then added.
    let (totals, late) = if !loss.balanced {
        let totals = weigh(Tiled::All, [1.0; 2]);
        (totals, totals.factors(&loss)[0])
    } else if limits.is_none() && loss.reduction != InBatchReduction::MeanNonZero {
        (weigh(Tiled::All, tiles.pairs().factors(&loss)), 1.0)
    } else {
        let totals = weigh(Tiled::All, [0.0, 1.0]);
        let [of_similar, of_dissimilar] = totals.factors(&loss);
        // It is 0 where no pair counts.
        if wanted != [false; 2] && of_dissimilar > 0.0 {
            weigh(Tiled::OneClass, [of_similar / of_dissimilar, 0.0]);
        }
        (totals, of_dissimilar)
    };
    let sources = [Some(&tiles.left), tiles.right.as_ref()];
    let gradients: Vec<_> = gradients
        .into_iter()
        .zip(sources)
        .map(|(gradient, source)| {
            let (mut gradient, source) = gradient.zip(source)?;
            source.pull_back(&mut gradient);
            Some(Gradient {
                factor: late,
                values: S::Wide::to_cpu_storage_owned(gradient),
            })
        })
        .collect();
    let [of_left, of_right] = <[_; 2]>::try_from(gradients).unwrap_or_default();
    Ok((totals.value(&loss), [of_left, of_right]))
}

/// Which tiles are visited.
#[derive(Clone, Copy)]
enum Tiled {
    All,
    /// Those that can have a similar pair.
    OneClass,
}

struct Tiles<'a, S: Element> {
    loss: InBatchContrastiveLoss,
    left: Source<'a, S>,
    right: Option<Source<'a, S>>,
    /// Working memory that no thread holds at the moment.
    spare: Mutex<Vec<Tile<S::Wide>>>,
}

impl<S: Element> Tiles<'_, S> {
    /// All pairs of the labels.
    fn pairs(&self) -> Totals {
        let classes = self.left.classes;
        Totals {
            pairs: match &self.right {
                Some(right) => classes.pairs_with(right.classes),
                None => classes.pairs(),
            },
            ..Totals::default()
        }
    }

    fn with_tile<R>(&self, work: impl FnOnce(&mut Tile<S::Wide>) -> R) -> R {
        // A thread that panicked took its tile along.
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let tile = spare().pop();
        let mut tile = tile.unwrap_or_default();
        let result = work(&mut tile);
        spare().push(tile);
        result
    }

    fn left_rows<'b>(
        &'b self,
        places: &Range<usize>,
        limits: Option<&'b Limits<S::Wide>>,
    ) -> Rows<'b, S> {
        Rows {
            source: &self.left,
            places: places.clone(),
            limits,
        }
    }

    /// The other rows of a tile. Rows of another batch are no anchors.
    fn right_rows<'b>(
        &'b self,
        places: &Range<usize>,
        limits: Option<&'b Limits<S::Wide>>,
    ) -> Rows<'b, S> {
        match &self.right {
            Some(source) => Rows {
                source,
                places: places.clone(),
                limits: None,
            },
            None => self.left_rows(places, limits),
        }
    }

    fn share_a_class(&self, left: &Range<usize>, right: &Range<usize>) -> bool {
        let of = |source: &Source<S>, places: &Range<usize>| {
            let of = &source.classes.of;
            of[places.start]..=of[places.end - 1]
        };
        let left = of(&self.left, left);
        let right = of(self.right.as_ref().unwrap_or(&self.left), right);
        left.start() <= right.end() && right.start() <= left.end()
    }

    /// What each anchor selects.
    fn measure(&self) -> Limits<S::Wide> {
        let norm = self.loss.variant.norm();
        let visit = |left: &mut Block<Anchors<S::Wide>>,
                     right: Option<&mut Block<Anchors<S::Wide>>>| {
            self.with_tile(|tile| {
                tile.measure(
                    norm,
                    (self.left_rows(&left.rows, None), &mut left.gathered),
                    right.map(|right| (self.right_rows(&right.rows, None), &mut right.gathered)),
                );
            });
        };
        let mut anchors = blocks(self.left.rows(), |rows| {
            Anchors::new(self.loss.miner, rows.len())
        });
        match &self.right {
            None => within(&mut anchors, visit),
            Some(right) => {
                let mut others = blocks(right.rows(), |_| Anchors::default());
                between(&mut anchors, &mut others, visit)
            }
        };
        let mut limits = Limits::default();
        for block in anchors {
            block.gathered.select(self.loss.miner, norm, &mut limits);
        }
        limits
    }

    /// The sums over all pairs that the limits keep; adds to the gradients.
    fn weigh(
        &self,
        limits: Option<&Limits<S::Wide>>,
        tiled: Tiled,
        factors: [f64; 2],
        [of_left, of_right]: [Option<&mut [S::Wide]>; 2],
    ) -> Totals {
        let weighing = Weighing {
            variant: self.loss.variant,
            margin: S::Wide::from_f64(self.loss.margin.get()),
            factors: factors.map(S::Wide::from_f64),
        };
        let visit = |left: &mut Block<Gradients<S::Wide>>,
                     right: Option<&mut Block<Gradients<S::Wide>>>| {
            if let (Tiled::OneClass, Some(right)) = (tiled, &right)
                && !self.share_a_class(&left.rows, &right.rows)
            {
                return Totals::default();
            }
            self.with_tile(|tile| {
                tile.weigh(
                    &weighing,
                    (self.left_rows(&left.rows, limits), &mut left.gathered),
                    right.map(|right| (self.right_rows(&right.rows, limits), &mut right.gathered)),
                )
            })
        };
        let mut left = gradient_blocks(&self.left, of_left);
        let totals = match &self.right {
            None => within(&mut left, visit),
            Some(right) => {
                let mut right = gradient_blocks(right, of_right);
                between(&mut left, &mut right, visit)
            }
        };
        totals.into_iter().fold(Totals::default(), Totals::plus)
    }
}

/// Each block with the gradients of its rows, wherever they lie.
fn gradient_blocks<'g, S: Element>(
    source: &Source<S>,
    gradient: Option<&'g mut [S::Wide]>,
) -> Vec<Block<Gradients<'g, S::Wide>>> {
    let mut rows: Vec<Option<&mut [S::Wide]>> = gradient
        .into_iter()
        .flat_map(|gradient| gradient.chunks_exact_mut(source.columns()).map(Some))
        .collect();
    blocks(source.rows(), |places| {
        source.classes.order[places]
            .iter()
            .filter_map(|&row| rows.get_mut(row as usize)?.take())
            .collect()
    })
}
