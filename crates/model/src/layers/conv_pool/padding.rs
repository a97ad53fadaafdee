use super::Geometry;
use super::lanes::Real;

impl Geometry {
    /// Elements of one row of an image without the zeros around it.
    fn given_row(&self) -> usize {
        self.row_len() - 2 * self.padding * self.channels
    }

    /// Elements of one image without the zeros around it.
    pub(super) fn given_len(&self) -> usize {
        (self.height - 2 * self.padding) * self.given_row()
    }

    /// Images with the zeros around them, in `buffer` where there are any.
    pub(super) fn pad<'a, T: Real>(&self, images: &'a [T], buffer: &'a mut Vec<T>) -> &'a [T] {
        if self.padding == 0 {
            return images;
        }
        let count = images.len() / self.given_len();
        buffer.clear();
        buffer.resize(count * self.image_len(), T::zero());
        let padded = buffer.chunks_exact_mut(self.image_len());
        for (image, padded) in images.chunks_exact(self.given_len()).zip(padded) {
            let rows = padded.chunks_exact_mut(self.row_len()).skip(self.padding);
            for (row, padded) in image.chunks_exact(self.given_row()).zip(rows) {
                padded[self.padding * self.channels..][..row.len()].copy_from_slice(row);
            }
        }
        buffer
    }

    /// What [`pad`](Self::pad) had before.
    pub(super) fn crop<T: Real>(&self, padded: &[T], images: &mut [T]) {
        let padded = padded.chunks_exact(self.image_len());
        for (image, padded) in images.chunks_exact_mut(self.given_len()).zip(padded) {
            let rows = padded.chunks_exact(self.row_len()).skip(self.padding);
            for (row, padded) in image.chunks_exact_mut(self.given_row()).zip(rows) {
                row.copy_from_slice(&padded[self.padding * self.channels..][..row.len()]);
            }
        }
    }
}
