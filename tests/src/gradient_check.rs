//! Gradients against finite differences in f64.

use candle_core::{Device, Result, Tensor};

use crate::compare::values;

/// An entry of a gradient that finite differences contradict.
#[derive(Debug)]
pub struct Mismatch {
    /// Which input.
    pub input: usize,
    /// Which of its entries, in row-major order.
    pub entry: usize,
    /// What the gradient under test says.
    pub claimed: f64,
    /// What finite differences say.
    pub measured: f64,
}

/// An input of the function under test and how to vary it.
pub struct Input<'a> {
    /// Where the gradient is checked, f64.
    pub at: &'a Tensor,
    /// The step of each entry, in row-major order. Within twice the step the function must be
    /// smooth (or, as a cone at its tip, symmetric).
    pub steps: Vec<f64>,
    /// The gradient under test.
    pub claimed: &'a Tensor,
    /// The entries to check; all of them if `None`.
    pub entries: Option<Vec<usize>>,
}

impl<'a> Input<'a> {
    /// All entries, with one step.
    pub fn new(at: &'a Tensor, claimed: &'a Tensor, step: f64) -> Self {
        Self {
            at,
            steps: vec![step; at.elem_count()],
            claimed,
            entries: None,
        }
    }
}

/// Checks each claimed gradient against `(8(f₁ − f₋₁) − (f₂ − f₋₂)) / 12h`, whose truncation error is
/// of fourth order, to `relative` of the larger of the two. Beyond that only the difference's own
/// rounding is allowed for: eight units in the last place of `f`, and of the entry times the slope,
/// over `h`.
///
/// Returns at how many entries a gradient of 0 would have been refused, or the first entry that
/// does not fit. The outer error is candle's.
pub fn check(
    inputs: &[Input],
    relative: f64,
    function: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<std::result::Result<usize, Mismatch>> {
    let tensors: Vec<Tensor> = inputs.iter().map(|input| input.at.clone()).collect();
    let level = function(&tensors)?.to_scalar::<f64>()?;
    let mut decisive = 0;
    for (index, input) in inputs.iter().enumerate() {
        let at = values(input.at)?;
        let claimed = values(input.claimed)?;
        assert_eq!(
            at.len(),
            claimed.len(),
            "input {index}: one gradient an entry"
        );
        let entries = input.entries.clone().unwrap_or((0..at.len()).collect());
        for entry in entries {
            let step = input.steps[entry];
            let moved = |by: f64| -> Result<f64> {
                let mut at = at.clone();
                at[entry] += by * step;
                let mut tensors = tensors.clone();
                tensors[index] = Tensor::from_vec(at, input.at.shape(), &Device::Cpu)?;
                function(&tensors)?.to_scalar::<f64>()
            };
            let [f2, f1, f_1, f_2] = [moved(2.0)?, moved(1.0)?, moved(-1.0)?, moved(-2.0)?];
            let measured = (8.0 * (f1 - f_1) - (f2 - f_2)) / (12.0 * step);
            let claimed = claimed[entry];
            let largest = level.abs().max(f1.abs()).max(f_1.abs());
            let slope = (f1 - level).abs().max((f_1 - level).abs()) / step;
            let rounding = 8.0 * f64::EPSILON * (largest + slope * at[entry].abs()) / step;
            let allowed = relative * measured.abs().max(claimed.abs()) + rounding;
            let off = (measured - claimed).abs();
            if off > allowed || off.is_nan() {
                return Ok(Err(Mismatch {
                    input: index,
                    entry,
                    claimed,
                    measured,
                }));
            }
            decisive += usize::from(measured.abs() > allowed);
        }
    }
    Ok(Ok(decisive))
}
