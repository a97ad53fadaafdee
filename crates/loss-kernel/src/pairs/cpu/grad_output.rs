use candle_core::Result;
use num_traits::{Float, cast};

use crate::{Reduction, element::Element, embeddings::View};

/// The gradient of the output, with the reduction's own factor in it.
pub(super) struct GradOutput<'a, S: Element> {
    values: &'a [S],
    stride: usize,
    scale: S::Wide,
}

impl<'a, S: Element> GradOutput<'a, S> {
    pub(super) fn new(
        reduction: Reduction,
        pairs: usize,
        (storage, layout): View<'a>,
    ) -> Result<Self> {
        let scale = match reduction {
            Reduction::Mean => 1.0 / pairs as f64,
            Reduction::Sum | Reduction::None => 1.0,
        };
        Ok(Self {
            values: &storage.as_slice::<S>()?[layout.start_offset()..],
            // A scalar is every pair's.
            stride: layout.stride().first().copied().unwrap_or(0),
            scale: cast(scale).unwrap_or_else(Float::nan),
        })
    }

    /// Multiplies the slopes of the pairs from `first` on.
    #[inline(always)]
    pub(super) fn apply(&self, first: usize, slopes: &mut [S::Wide]) {
        let of = |pair: usize| self.values[pair * self.stride].widen() * self.scale;
        if self.stride == 0 {
            let grad_output = of(0);
            for slope in slopes {
                *slope *= grad_output;
            }
        } else {
            for (i, slope) in slopes.iter_mut().enumerate() {
                *slope *= of(first + i);
            }
        }
    }
}
