use std::ops::Range;

use candle_core::Result;

use super::{Scalar, View};

/// The embeddings of one side, with any strides.
pub(super) struct Embeddings<'a, S> {
    values: &'a [S],
    pub(super) pairs: usize,
    pub(super) dimension: usize,
    pair_stride: usize,
    component_stride: usize,
}

impl<'a, S: Scalar> Embeddings<'a, S> {
    pub(super) fn new((storage, layout): View<'a>) -> Result<Self> {
        let (pairs, dimension) = layout.shape().dims2()?;
        Ok(Self {
            values: &storage.as_slice::<S>()?[layout.start_offset()..],
            pairs,
            dimension,
            pair_stride: layout.stride()[0],
            component_stride: layout.stride()[1],
        })
    }

    /// Some components of some pairs, pair by pair: where they lie, if they lie so in the type of
    /// the sums, else copied to `room`.
    #[inline(always)]
    pub(super) fn read<'r>(
        &'r self,
        pairs: Range<usize>,
        components: Range<usize>,
        room: &'r mut [S::Wide],
    ) -> &'r [S::Wide] {
        let len = pairs.len() * components.len();
        let whole = pairs.len() == 1
            || components.len() == self.dimension && self.pair_stride == self.dimension;
        if self.component_stride == 1 && whole {
            let start = pairs.start * self.pair_stride + components.start;
            return S::widen_all(&self.values[start..start + len], room);
        }
        let room = &mut room[..len];
        for (pair, row) in pairs.zip(room.chunks_exact_mut(components.len())) {
            for (k, value) in components.clone().zip(row) {
                *value = self.values[pair * self.pair_stride + k * self.component_stride].widen();
            }
        }
        room
    }
}
