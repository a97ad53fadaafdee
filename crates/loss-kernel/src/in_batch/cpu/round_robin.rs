//! In which order the tiles are visited, so that threads share nothing and every sum has one order.
//!
//! A tile joins two blocks of rows and adds to the gradients of both. As in a round-robin
//! tournament, each round pairs every block with one other, so the tiles of a round have no row in
//! common; rounds follow one another. What a block receives, and in which order, is thus the same
//! for any number of threads, and no partial gradient is held.

use std::ops::Range;

use rayon::prelude::*;

/// Consecutive rows and what is gathered for them.
pub(super) struct Block<P> {
    pub(super) rows: Range<usize>,
    pub(super) gathered: P,
}

/// Rows in a block: enough that reading them is little beside the product of two blocks, few enough
/// that a tile fits the cache and a round has tiles for several threads.
const MOST_ROWS: usize = 256;
const LEAST_ROWS: usize = 16;

/// `0..rows` cut into blocks, by their number alone.
pub(super) fn blocks<P>(rows: usize, mut gather: impl FnMut(Range<usize>) -> P) -> Vec<Block<P>> {
    let size = (rows / 8)
        .next_multiple_of(LEAST_ROWS)
        .clamp(LEAST_ROWS, MOST_ROWS);
    (0..rows)
        .step_by(size)
        .map(|start| {
            let rows = start..(start + size).min(rows);
            Block {
                gathered: gather(rows.clone()),
                rows,
            }
        })
        .collect()
}

/// Visits each block alone and each two blocks once; what the visits return, in a fixed order.
pub(super) fn within<P, R>(
    blocks: &mut Vec<Block<P>>,
    visit: impl Fn(&mut Block<P>, Option<&mut Block<P>>) -> R + Sync,
) -> Vec<R>
where
    P: Send + Default,
    R: Send,
{
    let mut results: Vec<R> = blocks
        .par_iter_mut()
        .map(|block| visit(block, None))
        .collect();
    if blocks.len() % 2 == 1 {
        blocks.push(bye());
    }
    // The circle method: the first stays, the others move on by one place.
    for _ in 1..blocks.len() {
        let half = blocks.len() / 2;
        let (left, right) = blocks.split_at_mut(half);
        results.extend(round(left, right, &visit));
        blocks[1..].rotate_right(1);
    }
    blocks.retain(|block| !block.rows.is_empty());
    results
}

/// Visits each block of one side with each of the other; what the visits return, in a fixed order.
pub(super) fn between<P, R>(
    left: &mut Vec<Block<P>>,
    right: &mut Vec<Block<P>>,
    visit: impl Fn(&mut Block<P>, Option<&mut Block<P>>) -> R + Sync,
) -> Vec<R>
where
    P: Send + Default,
    R: Send,
{
    let longest = left.len().max(right.len());
    left.resize_with(longest, bye);
    right.resize_with(longest, bye);
    let mut results = Vec::new();
    for _ in 0..longest {
        results.extend(round(left, right, &visit));
        right.rotate_right(1);
    }
    left.retain(|block| !block.rows.is_empty());
    right.retain(|block| !block.rows.is_empty());
    results
}

/// The block that has no partner in a round meets this one.
fn bye<P: Default>() -> Block<P> {
    Block {
        rows: 0..0,
        gathered: P::default(),
    }
}

fn round<P, R>(
    left: &mut [Block<P>],
    right: &mut [Block<P>],
    visit: &(impl Fn(&mut Block<P>, Option<&mut Block<P>>) -> R + Sync),
) -> Vec<R>
where
    P: Send,
    R: Send,
{
    left.par_iter_mut()
        .zip(right.par_iter_mut().rev())
        .filter(|(left, right)| !left.rows.is_empty() && !right.rows.is_empty())
        .map(|(left, right)| visit(left, Some(right)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    type Seen = BTreeSet<(usize, usize)>;

    fn meeting(left: &mut Block<()>, right: Option<&mut Block<()>>) -> (usize, usize) {
        let right = right.map_or(left.rows.start, |right| right.rows.start);
        (left.rows.start, right)
    }

    #[test]
    fn every_two_blocks_meet_once() {
        for rows in [1, 16, 17, 100, 1000, 5000, 70_000] {
            let mut all = blocks(rows, |_| ());
            let starts: Vec<usize> = all.iter().map(|block| block.rows.start).collect();
            let met = within(&mut all, meeting);
            let unordered: Seen = met.iter().map(|&(a, b)| (a.min(b), a.max(b))).collect();
            assert_eq!(unordered.len(), met.len(), "a meeting is repeated");
            assert_eq!(met.len(), starts.len() * (starts.len() + 1) / 2);
            let after: Vec<usize> = all.iter().map(|block| block.rows.start).collect();
            assert_eq!(after, starts, "blocks come back in order");
        }
    }

    #[test]
    fn every_block_meets_each_of_the_other_side_once() {
        for (rows, others) in [(1, 1), (64, 8192), (5000, 33), (1000, 1000)] {
            let (mut left, mut right) = (blocks(rows, |_| ()), blocks(others, |_| ()));
            let expected = left.len() * right.len();
            let met = between(&mut left, &mut right, meeting);
            assert_eq!(met.len(), expected);
            assert_eq!(met.into_iter().collect::<Seen>().len(), expected);
            assert!(left.is_sorted_by_key(|block| block.rows.start));
            assert!(right.is_sorted_by_key(|block| block.rows.start));
        }
    }
}
