use rayon::prelude::*;

use crate::nearest::{Candidate, keep_nearest};
use crate::{MetricsError, euclidean};

/// N embeddings of D numbers each.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    values: Vec<f32>,
    dimension: usize,
}

/// An embedding that a search has found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Its row.
    pub index: usize,
    /// Its Euclidean distance from the probe.
    pub distance: f32,
}

impl Embeddings {
    /// Takes `values` (N, D), row by row.
    ///
    /// # Errors
    /// [`MetricsError::Embeddings`] unless `dimension` is at least 1 and the values fill whole rows.
    pub fn new(values: Vec<f32>, dimension: usize) -> Result<Self, MetricsError> {
        if dimension == 0 {
            let problem = "the embedding dimension is 0: it must be at least 1";
            return Err(MetricsError::Embeddings(problem.into()));
        }
        if !values.len().is_multiple_of(dimension) {
            return Err(MetricsError::Embeddings(format!(
                "{} values do not fill rows of {dimension}",
                values.len()
            )));
        }
        Ok(Self { values, dimension })
    }

    /// Number of embeddings, N.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers in each embedding, D.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The embeddings in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dimension)
    }

    /// Embedding `index`, (D,).
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dimension..][..self.dimension]
    }

    /// All values, (N, D), row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The `k` embeddings nearest to `probe` (D,), nearest first; at equal distances the lower index
    /// comes first. Fewer than `k` if there are fewer embeddings.
    ///
    /// Compares with every row, so the result is exact.
    ///
    /// # Errors
    /// [`MetricsError::Embeddings`] if the probe has another dimension or a value that is not finite.
    pub fn nearest(&self, probe: &[f32], k: usize) -> Result<Vec<Neighbour>, MetricsError> {
        let problem = if probe.len() != self.dimension {
            let found = probe.len();
            format!("the probe has {found} numbers, not {}", self.dimension)
        } else if let Some(value) = probe.iter().find(|value| !value.is_finite()) {
            format!("the probe has the number {value}")
        } else {
            // Rows to a task: some microseconds of work.
            const ROWS: usize = 1024;
            let mut candidates: Vec<_> = self
                .values
                .par_chunks_exact(self.dimension)
                .with_min_len(ROWS)
                .enumerate()
                .map(|(index, row)| Candidate::new(euclidean(probe, row).into(), index))
                .collect();
            keep_nearest(&mut candidates, k);
            return Ok(candidates.iter().map(Neighbour::from).collect());
        };
        Err(MetricsError::Embeddings(problem))
    }
}

impl From<&Candidate> for Neighbour {
    fn from(candidate: &Candidate) -> Self {
        Self {
            index: candidate.index(),
            distance: candidate.distance() as f32,
        }
    }
}
