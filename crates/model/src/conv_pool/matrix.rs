use gemm::Parallelism;

use super::cpu::Real;

/// A matrix in a slice, by row or, once transposed, by column.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
}

impl<'a, T: Real> Matrix<'a, T> {
    pub(super) fn by_row(data: &'a [T], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a {rows}×{cols} matrix");
        Self {
            data,
            rows,
            cols,
            row_stride: cols as isize,
            col_stride: 1,
        }
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// `out = self · rhs`, or `out += self · rhs`; `out` is by row. On the calling thread alone,
    /// so that its sums have one order.
    pub(super) fn multiply(self, rhs: Self, out: &mut [T], accumulate: bool) {
        assert_eq!(self.cols, rhs.rows, "inner sizes of a matrix product");
        assert_eq!(out.len(), self.rows * rhs.cols, "size of a matrix product");
        // SAFETY: the strides of both operands stay inside their slices, as `by_row` checked the
        // length and `transposed` only swaps; `out` is exactly rows × cols by row, checked above,
        // is initialised, and as a mutable borrow overlaps neither operand.
        unsafe {
            gemm::gemm(
                self.rows,
                rhs.cols,
                self.cols,
                out.as_mut_ptr(),
                1,
                rhs.cols as isize,
                accumulate,
                self.data.as_ptr(),
                self.col_stride,
                self.row_stride,
                rhs.data.as_ptr(),
                rhs.col_stride,
                rhs.row_stride,
                T::one(),
                T::one(),
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}
