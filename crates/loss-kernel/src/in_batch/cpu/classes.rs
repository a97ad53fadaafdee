//! Labels as classes, and the rows in their order.

use candle_core::{Result, Tensor};

/// The classes of a batch's rows.
#[derive(Debug)]
pub(super) struct Classes {
    /// The rows, those of a class next to each other, otherwise as they were: similar pairs lie in
    /// few tiles, and the rows of such a tile lie close together.
    pub(super) order: Vec<u32>,
    /// The class of each row, in that order.
    pub(super) of: Vec<u32>,
}

impl Classes {
    /// Of batches whose labels, i64, mean the same.
    pub(super) fn of_batches(labels: &[Tensor]) -> Result<Vec<Self>> {
        let batches = labels.iter().map(Tensor::to_vec1::<i64>);
        let batches: Vec<_> = batches.collect::<Result<_>>()?;
        let mut known = batches.concat();
        known.sort_unstable();
        known.dedup();
        let classes = batches.iter().map(|labels| {
            let class = |label: &i64| known.partition_point(|other| other < label) as u32;
            let mut rows: Vec<(u32, u32)> = labels.iter().map(class).zip(0..).collect();
            rows.sort_unstable();
            let (of, order) = rows.into_iter().unzip();
            Self { order, of }
        });
        Ok(classes.collect())
    }

    /// Unordered pairs of one class, and of two.
    pub(super) fn pairs(&self) -> [u64; 2] {
        let n = self.of.len() as u64;
        let similar = self.sizes().map(|(_, n)| n * (n - 1) / 2).sum();
        [similar, n * (n - 1) / 2 - similar]
    }

    /// Pairs with the rows of another batch.
    pub(super) fn pairs_with(&self, other: &Self) -> [u64; 2] {
        let similar = self
            .sizes()
            .map(|(class, n)| {
                let start = other.of.partition_point(|&of| of < class);
                let end = other.of.partition_point(|&of| of <= class);
                n * (end - start) as u64
            })
            .sum();
        [similar, (self.of.len() * other.of.len()) as u64 - similar]
    }

    fn sizes(&self) -> impl Iterator<Item = (u32, u64)> {
        self.of
            .chunk_by(|a, b| a == b)
            .map(|class| (class[0], class.len() as u64))
    }
}
