//! A fully connected layer.

use candle_core::{Result, Shape, Tensor, bail};
use pulp::Arch;

use super::product::Columns;
use super::{Inference, values};
use crate::Activation;
use crate::layers::conv_pool::Real;
use crate::layers::cpu_op::finish;

/// activation(x·wᵀ + b): (N, inputs) to (N, outputs).
pub(crate) struct Dense<T> {
    /// wᵀ
    columns: Columns<T>,
    inputs: usize,
    bias: Vec<T>,
    activation: Activation,
}

impl<T: Real> Dense<T> {
    /// Of a weight (outputs, inputs) and a bias (outputs,).
    pub(crate) fn new(
        arch: Arch,
        weight: &Tensor,
        bias: &Tensor,
        activation: Activation,
    ) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let (weight, bias) = (values::<T>(weight)?, values(bias)?);
        Ok(Self {
            columns: Columns::new(arch, [inputs, outputs], |k, o| weight[o * inputs + k]),
            inputs,
            bias,
            activation,
        })
    }
}

impl<T: Real> Inference<T> for Dense<T> {
    fn forward(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)> {
        let &[rows, inputs] = dims else {
            bail!("linear: an input of {dims:?}");
        };
        if inputs != self.inputs {
            bail!("linear: {inputs} columns times {} rows", self.inputs);
        }
        let mut sums = vec![T::zero(); rows * self.bias.len()];
        self.columns.product(x, &mut sums);
        finish(&mut sums, &self.bias, self.activation);
        Ok((sums, (rows, self.bias.len()).into()))
    }
}
