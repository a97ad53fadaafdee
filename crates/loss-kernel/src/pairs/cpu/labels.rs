use candle_core::{CpuStorage, Result, bail};
use half::{bf16, f16};

use crate::{LossError, embeddings::View};

/// The pairs' labels, in any of their types.
pub(super) struct Labels<'a> {
    storage: &'a CpuStorage,
    start: usize,
    stride: usize,
}

impl<'a> Labels<'a> {
    pub(super) fn new((storage, layout): View<'a>) -> Result<Self> {
        layout.shape().dims1()?;
        Ok(Self {
            storage,
            start: layout.start_offset(),
            stride: layout.stride()[0],
        })
    }

    /// Writes whether the pairs from `first` on are similar.
    #[inline(always)]
    pub(super) fn read(&self, first: usize, similar: &mut [bool]) -> Result<()> {
        match self.storage {
            CpuStorage::U8(labels) => self.read_from::<u8>(labels, first, similar),
            CpuStorage::U32(labels) => self.read_from::<u32>(labels, first, similar),
            CpuStorage::F16(labels) => self.read_from::<f16>(labels, first, similar),
            CpuStorage::BF16(labels) => self.read_from::<bf16>(labels, first, similar),
            CpuStorage::F32(labels) => self.read_from::<f32>(labels, first, similar),
            CpuStorage::F64(labels) => self.read_from::<f64>(labels, first, similar),
            _ => bail!("contrastive-loss: labels must be u8, u32 or floats"),
        }
    }

    #[inline(always)]
    fn read_from<T>(&self, labels: &[T], first: usize, similar: &mut [bool]) -> Result<()>
    where
        T: Copy + PartialEq + From<u8> + Into<f64>,
    {
        let labels = &labels[self.start + first * self.stride..];
        let (zero, one) = (T::from(0), T::from(1));
        let mut known = true;
        let mut read = |similar: &mut bool, label: T| {
            *similar = label == one;
            known &= *similar | (label == zero);
        };
        if self.stride == 1 {
            for (similar, label) in similar.iter_mut().zip(labels) {
                read(similar, *label);
            }
        } else {
            for (i, similar) in similar.iter_mut().enumerate() {
                read(similar, labels[i * self.stride]);
            }
        }
        if known {
            return Ok(());
        }
        for i in 0..similar.len() {
            let label = labels[i * self.stride];
            if label != zero && label != one {
                let index = first + i;
                let value = label.into();
                return Err(LossError::Label { index, value }.into());
            }
        }
        Ok(())
    }
}
