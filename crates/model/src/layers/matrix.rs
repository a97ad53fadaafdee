//! Matrix products of slices.

use candle_core::WithDType;
use gemm::Parallelism;

/// A matrix by row, or its transpose.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    cols: usize,
    strides: [isize; 2],
}

impl<'a, T: WithDType> Matrix<'a, T> {
    pub(crate) fn by_row(values: &'a [T], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "a {rows}×{cols} matrix");
        Self {
            values,
            rows,
            cols,
            strides: [cols as isize, 1],
        }
    }

    pub(crate) fn transposed(self) -> Self {
        let [row, col] = self.strides;
        Self {
            rows: self.cols,
            cols: self.rows,
            strides: [col, row],
            ..self
        }
    }

    /// The product, by row, on all of rayon's threads. They share out its rows and columns, never a
    /// sum, so that any number of them gives the same bits.
    pub(crate) fn times(self, rhs: Self) -> Vec<T> {
        let mut product = vec![T::zero(); self.rows * rhs.cols];
        let parallelism = match rayon::current_num_threads() {
            1 => Parallelism::None,
            threads => Parallelism::Rayon(threads),
        };
        self.multiply(rhs, &mut product, false, parallelism);
        product
    }

    /// The product, by row, into `product`, on this thread alone.
    pub(crate) fn write_times(self, rhs: Self, product: &mut [T]) {
        self.multiply(rhs, product, false, Parallelism::None);
    }

    /// The product, by row, on top of what `sum` has, on this thread alone.
    pub(crate) fn add_times(self, rhs: Self, sum: &mut [T]) {
        self.multiply(rhs, sum, true, Parallelism::None);
    }

    #[expect(unsafe_code, reason = "gemm takes pointers")]
    fn multiply(self, rhs: Self, product: &mut [T], add: bool, parallelism: Parallelism) {
        assert_eq!(self.cols, rhs.rows);
        assert_eq!(product.len(), self.rows * rhs.cols);
        let [row, col] = self.strides;
        let [rhs_row, rhs_col] = rhs.strides;
        // SAFETY: `by_row` checked that each operand's strides stay inside its slice, and
        // `transposed` only swaps them with the sizes; the inner sizes agree, and `product` has
        // exactly the result's elements, as has been checked.
        unsafe {
            gemm::gemm(
                self.rows,
                rhs.cols,
                self.cols,
                product.as_mut_ptr(),
                1,
                rhs.cols as isize,
                add,
                self.values.as_ptr(),
                col,
                row,
                rhs.values.as_ptr(),
                rhs_col,
                rhs_row,
                T::one(),
                T::one(),
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}
