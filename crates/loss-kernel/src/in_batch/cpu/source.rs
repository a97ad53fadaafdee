//! A batch's embeddings as the tiles read them.

use candle_core::Result;
use rayon::prelude::*;

use super::classes::Classes;
use crate::element::Element;
use crate::embeddings::{Embeddings, View};

/// The rows of a batch in the order of their classes.
pub(super) struct Source<'a, S> {
    embeddings: Embeddings<'a, S>,
    pub(super) classes: &'a Classes,
}

impl<'a, S: Element> Source<'a, S> {
    pub(super) fn new(view: View<'a>, classes: &'a Classes, normalised: bool) -> Result<Self> {
        Ok(Self {
            embeddings: Embeddings::new(view, normalised)?,
            classes,
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.embeddings.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.embeddings.columns
    }

    /// The row at this place of the order.
    #[inline(always)]
    pub(super) fn read(&self, place: usize, out: &mut [S::Wide]) {
        let row = self.classes.order[place] as usize;
        self.embeddings.copy(row, 0..self.columns(), out);
    }

    /// Turns the gradient of the rows as they are read into that of the rows as they came.
    pub(super) fn pull_back(&self, gradient: &mut [S::Wide]) {
        if self.embeddings.normalised() {
            let rows = gradient.par_chunks_exact_mut(self.columns()).enumerate();
            rows.for_each(|(row, gradient)| self.embeddings.pull_back(row, gradient));
        }
    }
}
