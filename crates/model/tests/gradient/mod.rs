//! Central differences in f64: the one judge of every gradient in these tests.

use candle_core::{Result, Tensor, Var};

/// Step of the differences. The networks are piecewise polynomials with a kink wherever two
/// elements of a pooling window cross; at 1e-6 hardly an entry has one inside its step.
const STEP: f64 = 1e-6;

/// The worst relative difference between candle's gradient of the sum of `terms` and central
/// differences, over every `stride`-th entry of `var`. Relative to the larger of the two values, or
/// to 1% of the gradient's largest entry, below which the differences' own rounding dominates.
/// Differences are taken term by term, so that a large sum's rounding does not drown them.
pub fn worst_difference(
    var: &Var,
    stride: usize,
    terms: impl Fn() -> Result<Tensor>,
) -> Result<f64> {
    let gradients = terms()?.sum_all()?.backward()?;
    let gradient = gradients.get(var).expect("var takes part in the terms");
    assert_eq!(gradient.dims(), var.dims());
    let gradient: Vec<f64> = gradient.flatten_all()?.to_vec1()?;
    let start: Vec<f64> = var.flatten_all()?.to_vec1()?;
    let largest = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
    assert!(largest > 0.0, "a gradient of zeros tests nothing");
    let at = |entry: usize, value: f64| -> Result<Tensor> {
        let mut moved = start.clone();
        moved[entry] = value;
        var.set(&Tensor::from_vec(moved, var.shape(), var.device())?)?;
        terms()
    };
    let mut worst: f64 = 0.0;
    for entry in (0..start.len()).step_by(stride) {
        let (value, found) = (start[entry], gradient[entry]);
        let change = (at(entry, value + STEP)? - at(entry, value - STEP)?)?;
        let expected = change.sum_all()?.to_scalar::<f64>()? / (2.0 * STEP);
        at(entry, value)?;
        let size = found.abs().max(expected.abs()).max(1e-2 * largest);
        worst = worst.max((found - expected).abs() / size);
    }
    Ok(worst)
}
