//! Comparing arrays, with the worst element named.

use candle_core::{DType, Result, Tensor};

/// All elements, as f64, in row-major order.
pub fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Asserts `|actual − expected| ≤ relative·|expected| + absolute` for every element, and names the
/// one that is furthest outside.
///
/// # Panics
///
/// Where an element is outside, either is not finite, or the shapes differ.
pub fn assert_close(what: &str, actual: &Tensor, expected: &Tensor, relative: f64, absolute: f64) {
    assert_eq!(actual.dims(), expected.dims(), "{what}: shapes");
    let (actual, expected) = (values(actual).unwrap(), values(expected).unwrap());
    let excess = |i: usize| {
        let excess = (actual[i] - expected[i]).abs() - relative * expected[i].abs() - absolute;
        if excess.is_nan() {
            f64::INFINITY
        } else {
            excess
        }
    };
    let worst = (0..actual.len()).max_by(|&i, &j| excess(i).total_cmp(&excess(j)));
    let worst = worst.unwrap_or_else(|| panic!("{what}: nothing to compare"));
    assert!(
        excess(worst) <= 0.0,
        "{what}: element {worst} is {:e}, expected {:e} (relative {relative:e}, absolute {absolute:e})",
        actual[worst],
        expected[worst],
    );
}
