//! Nearest neighbours among embeddings of few dimensions.

use crate::Embeddings;
use crate::nearest::Candidate;

/// Embeddings in the order of one coordinate, the one that varies most.
///
/// A search starts where the probe would stand and goes on to either side until that coordinate alone is
/// further away than the nearest found: of thousands in a plane it meets some dozens.
pub struct Line {
    dimension: usize,
    axis: usize,
    /// (N, D), row by row.
    values: Vec<f32>,
    /// (N,): the coordinate that they are sorted by.
    along: Vec<f32>,
    /// (N,): which embedding a row is.
    indices: Vec<usize>,
}

impl Line {
    /// Of finite numbers.
    pub fn new(embeddings: &Embeddings) -> Self {
        let axis = widest(embeddings);
        let mut indices: Vec<usize> = (0..embeddings.len()).collect();
        let at = |&index: &usize| embeddings.row(index)[axis];
        indices.sort_unstable_by(|a, b| at(a).total_cmp(&at(b)));
        let rows = indices.iter().flat_map(|&index| embeddings.row(index));
        Self {
            dimension: embeddings.dimension(),
            axis,
            values: rows.copied().collect(),
            along: indices.iter().map(at).collect(),
            indices,
        }
    }

    /// The nearest to `probe` (D,) but `except`, of equally near ones the first: the same as from all
    /// distances in f64. `None` if there is no other.
    pub fn nearest(&self, probe: &[f32], except: Option<usize>) -> Option<usize> {
        let rows = self.values.chunks_exact(self.dimension);
        let rows = rows.zip(&self.indices);
        let middle = self.along.partition_point(|&at| at < probe[self.axis]);
        let right = self.nearest_of(rows.clone().skip(middle), probe, except, None);
        let nearest = self.nearest_of(rows.take(middle).rev(), probe, except, right);
        nearest.map(Candidate::index)
    }

    /// The nearest of `rows`, which go away from the probe, or `nearest` if that is nearer.
    fn nearest_of<'a>(
        &self,
        rows: impl Iterator<Item = (&'a [f32], &'a usize)>,
        probe: &[f32],
        except: Option<usize>,
        mut nearest: Option<Candidate>,
    ) -> Option<Candidate> {
        let square = |(a, b): (&f32, &f32)| (f64::from(*b) - f64::from(*a)).powi(2);
        for (row, &index) in rows {
            let along = square((&probe[self.axis], &row[self.axis]));
            if nearest.is_some_and(|nearest| along > nearest.distance()) {
                break;
            }
            if except == Some(index) {
                continue;
            }
            let found = Candidate::new(probe.iter().zip(row).map(square).sum(), index);
            nearest = Some(nearest.map_or(found, |nearest| nearest.min(found)));
        }
        nearest
    }
}

/// The coordinate with the largest variance.
fn widest(embeddings: &Embeddings) -> usize {
    let variance = |axis: usize| {
        let values = || embeddings.rows().map(move |row| f64::from(row[axis]));
        let mean = values().sum::<f64>() / embeddings.len() as f64;
        values().map(|value| (value - mean).powi(2)).sum::<f64>()
    };
    let axes = 0..embeddings.dimension();
    let widest = axes.max_by(|&a, &b| variance(a).total_cmp(&variance(b)));
    widest.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_the_plane_is_found_on_either_side() {
        let values = vec![0.0, 0.0, 10.0, 0.0, 4.0, 3.0, 7.0, -1.0, 4.0, 3.0];
        let line = Line::new(&Embeddings::new(values, 2).unwrap());
        assert_eq!(line.nearest(&[5.0, 0.0], None), Some(3)); // √5, and √10 to the left
        assert_eq!(line.nearest(&[4.0, 2.0], None), Some(2)); // before its copy, 4
        assert_eq!(line.nearest(&[4.0, 3.0], Some(2)), Some(4));
        assert_eq!(line.nearest(&[-9.0, 0.0], Some(0)), Some(2)); // 13.3
        assert_eq!(line.nearest(&[99.0, 0.0], None), Some(1));
        let one = Line::new(&Embeddings::new(vec![1.0], 1).unwrap());
        assert_eq!(one.nearest(&[1.0], Some(0)), None);
    }

    #[test]
    fn it_is_the_nearest_of_all() {
        // On a grid, so that many are equally near; and all in one place.
        for (dimension, cells) in [(1, 40), (2, 9), (3, 5), (2, 1)] {
            let random = (0..300 * dimension as u32).map(|i| i.wrapping_mul(2_654_435_761) >> 16);
            let values = random.map(|value| (value % cells) as f32).collect();
            let all = Embeddings::new(values, dimension).unwrap();
            let line = Line::new(&all);
            for probe in 0..all.len() {
                let distance = |other: usize| -> f64 {
                    let pairs = all.row(probe).iter().zip(all.row(other));
                    pairs.map(|(a, b)| f64::from(b - a).powi(2)).sum()
                };
                let others = (0..all.len()).filter(|&other| other != probe);
                let expected = others.min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
                assert_eq!(line.nearest(all.row(probe), Some(probe)), expected);
            }
        }
    }
}
