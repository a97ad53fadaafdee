use crate::{Result, VerifierError};

/// N embeddings of D numbers each.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    values: Vec<f32>,
    dimension: usize,
}

impl Embeddings {
    /// Takes `values` (N, D), row by row.
    ///
    /// # Errors
    /// [`VerifierError::Rows`] unless they make whole rows of `dimension`, which is at least 1.
    pub fn new(values: Vec<f32>, dimension: usize) -> Result<Self> {
        if dimension == 0 || !values.len().is_multiple_of(dimension) {
            return Err(VerifierError::Rows {
                values: values.len(),
                dimension,
            });
        }
        Ok(Self { values, dimension })
    }

    /// Number of embeddings, N.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers in each, D.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Each embedding, in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dimension)
    }

    /// The embedding number `index`, if there are as many.
    pub fn get(&self, index: usize) -> Option<&[f32]> {
        self.rows().nth(index)
    }

    /// All of them, (N, D), row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}
