//! Comparing arrays, with the worst element named.

use candle_core::{DType, Result, Tensor};

/// All elements, as f64, in row-major order.
pub fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// The element for which `|actual − expected| ≤ relative·|expected| + absolute` fails by the most, if
/// it fails for any; a NaN always does.
pub fn furthest_outside(
    actual: &[f64],
    expected: &[f64],
    relative: f64,
    absolute: f64,
) -> Option<usize> {
    let excess = |i: usize| {
        let excess = (actual[i] - expected[i]).abs() - relative * expected[i].abs() - absolute;
        if excess.is_nan() {
            f64::INFINITY
        } else {
            excess
        }
    };
    (0..expected.len())
        .max_by(|&i, &j| excess(i).total_cmp(&excess(j)))
        .filter(|&i| excess(i) > 0.0)
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
    assert!(!actual.is_empty(), "{what}: nothing to compare");
    if let Some(worst) = furthest_outside(&actual, &expected, relative, absolute) {
        panic!(
            "{what}: element {worst} is {:e}, expected {:e} (relative {relative:e}, absolute {absolute:e})",
            actual[worst], expected[worst],
        );
    }
}
