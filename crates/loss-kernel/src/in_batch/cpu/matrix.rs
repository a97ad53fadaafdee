//! Matrix products on the calling thread.

#![expect(unsafe_code, reason = "gemm takes pointers")]

use gemm::Parallelism;

use crate::element::Real;

/// A matrix in a slice, by row or, once transposed, by column.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, W> {
    data: &'a [W],
    rows: usize,
    columns: usize,
    row_stride: isize,
    column_stride: isize,
}

impl<'a, W: Real> Matrix<'a, W> {
    pub(super) fn by_row(data: &'a [W], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a {rows}×{columns} matrix");
        Self {
            data,
            rows,
            columns,
            row_stride: columns as isize,
            column_stride: 1,
        }
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// `out = self · right`; `out` is by row.
    pub(super) fn times(self, right: Self, out: &mut [W]) {
        self.multiply(right, out, false, W::one());
    }

    /// `out −= self · right`; `out` is by row.
    pub(super) fn subtract_product(self, right: Self, out: &mut [W]) {
        self.multiply(right, out, true, -W::one());
    }

    fn multiply(self, right: Self, out: &mut [W], accumulate: bool, factor: W) {
        assert_eq!(self.columns, right.rows, "inner sizes of a matrix product");
        assert_eq!(
            out.len(),
            self.rows * right.columns,
            "size of a matrix product"
        );
        // SAFETY: the strides of both operands stay inside their slices, as `by_row` checked the
        // length and `transposed` only swaps; `out` is exactly rows × columns by row, checked
        // above, is initialised, and as a mutable borrow overlaps neither operand.
        unsafe {
            gemm::gemm(
                self.rows,
                right.columns,
                self.columns,
                out.as_mut_ptr(),
                1,
                right.columns as isize,
                accumulate,
                self.data.as_ptr(),
                self.column_stride,
                self.row_stride,
                right.data.as_ptr(),
                right.column_stride,
                right.row_stride,
                W::one(),
                factor,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}
