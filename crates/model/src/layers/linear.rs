//! A fully connected layer, activation(x·wᵀ + b), as one candle op with its own backward.
//!
//! candle's own layer multiplies by a transposed view of the weight. Its gradient comes back as a
//! view in the wrong order of memory, so that whoever adds to it or reads it jumps through 1.6 MB.
//! Here each product is written in the order in which it is read, and bias and activation are one
//! pass.

use candle_core::{Result, Shape, Tensor, bail};
use candle_nn::{Module, VarBuilder};
use pulp::Arch;

use super::conv_pool::Buffered;
use super::cpu_op::{Layer, apply, finish, of_bias, of_sums};
use super::inference::{Dense, Prepare, Prepared, prepared};
use super::matrix::Matrix;
use super::{Activation, ZERO, xavier};
use crate::onnx::{Export, Graph, Value, int};

/// A fully connected layer and its activation: (N, inputs) to (N, outputs).
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
    prepared: Option<Prepared>,
}

impl Linear {
    /// `weight` (outputs, inputs), initialised by [`xavier`], and `bias` (outputs,), which begins at 0.
    ///
    /// # Errors
    /// Those of `vb`.
    pub fn new(
        inputs: usize,
        outputs: usize,
        activation: Activation,
        vb: VarBuilder,
    ) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints((outputs, inputs), "weight", xavier(inputs))?,
            bias: vb.get_with_hints(outputs, "bias", ZERO)?,
            activation,
            prepared: None,
        })
    }
}

impl Prepare for Linear {
    fn prepare(&mut self) -> Result<()> {
        let Self { weight, bias, .. } = &*self;
        let activation = self.activation;
        self.prepared = prepared!(
            weight,
            Dense::new(Arch::new(), weight, bias, activation).map(Some)
        );
        Ok(())
    }
}

impl Module for Linear {
    /// On the CPU result and gradients have the same bits for any number of rayon threads: they share
    /// out the rows and columns of a product, never a sum.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(prepared) = &self.prepared {
            return prepared.forward(x);
        }
        let (weight, bias, activation) = (&self.weight, &self.bias, self.activation);
        if !x.device().is_cpu() {
            let linear = candle_nn::Linear::new(weight.clone(), Some(bias.clone()));
            return activation.forward(&linear.forward(x)?);
        }
        let ((rows, inputs), (outputs, weight_inputs)) = (x.dims2()?, weight.dims2()?);
        if inputs != weight_inputs {
            bail!("linear: {inputs} columns times {weight_inputs} rows");
        }
        if bias.dims() != [outputs] {
            bail!("linear: {} biases for {outputs} outputs", bias.elem_count());
        }
        let op = LinearOp {
            rows,
            inputs,
            outputs,
            activation,
        };
        apply(op, x, weight, bias)
    }
}

impl Export for Linear {
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let Self { weight, bias, .. } = self;
        let names = [
            graph.tensor(weight, weight.dims())?,
            graph.tensor(bias, bias.dims())?,
        ];
        let inputs = [&*x.name, &names[0], &names[1]];
        let sums = graph.add("Gemm", &inputs, vec![int("transB", 1)], bias.dims());
        self.activation.export(graph, sums)
    }
}

struct LinearOp {
    rows: usize,
    inputs: usize,
    outputs: usize,
    activation: Activation,
}

impl Layer for LinearOp {
    const NAME: &str = "linear";

    fn forward<T: Buffered>(&self, [x, weight, bias]: [&[T]; 3]) -> (Vec<T>, Shape) {
        let weight = Matrix::by_row(weight, self.outputs, self.inputs);
        let x = Matrix::by_row(x, self.rows, self.inputs);
        let mut sums = x.times(weight.transposed());
        finish(&mut sums, bias, self.activation);
        (sums, (self.rows, self.outputs).into())
    }

    fn backward<T: Buffered>(
        &self,
        wanted: [bool; 3],
        [x, weight, result, gradient]: [&[T]; 4],
    ) -> [Option<Vec<T>>; 3] {
        let of_sums = of_sums(self.activation, result, gradient);
        let gradient = Matrix::by_row(&of_sums, self.rows, self.outputs);
        let weight = Matrix::by_row(weight, self.outputs, self.inputs);
        let x = Matrix::by_row(x, self.rows, self.inputs);
        [
            wanted[0].then(|| gradient.times(weight)),
            wanted[1].then(|| gradient.transposed().times(x)),
            wanted[2].then(|| of_bias(&of_sums, self.outputs)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::cpu_op::checks::{assert_close, bits, random, result_and_gradients};
    use candle_core::{DType, Device, Var};
    use candle_nn::Linear as Stock;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const ACTIVATIONS: [Activation; 2] = [Activation::Linear, Activation::Relu];

    fn linear(
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        activation: Activation,
    ) -> Result<Tensor> {
        let layer = Linear {
            weight: weight.clone(),
            bias: bias.clone(),
            activation,
            prepared: None,
        };
        layer.forward(x)
    }

    /// x (n, inputs), weight (outputs, inputs), bias (outputs,).
    fn inputs(n: usize, inputs: usize, outputs: usize, dtype: DType) -> [Var; 3] {
        let rng = &mut ChaCha8Rng::seed_from_u64(3);
        [&[n, inputs][..], &[outputs, inputs], &[outputs]].map(|shape| random(shape, dtype, rng))
    }

    #[test]
    fn result_and_gradients_are_those_of_candles_layer() {
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-13)] {
            for [n, from, to] in [[1, 1, 1], [5, 3, 7], [64, 10, 2], [33, 65, 47], [7, 300, 1]] {
                for activation in ACTIVATIONS {
                    let vars = inputs(n, from, to, dtype);
                    let [x, weight, bias] = vars.each_ref().map(|var| var.as_tensor());
                    let found = result_and_gradients(|| linear(x, weight, bias, activation), &vars);
                    let stock = Stock::new(weight.clone(), Some(bias.clone()));
                    let expected =
                        result_and_gradients(|| activation.forward(&stock.forward(x)?), &vars);
                    let case = (n, from, to, activation, dtype);
                    assert_close(&found, &expected, tolerance, case);
                }
            }
        }
    }

    /// Of a size that gemm shares out among threads.
    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let vars = inputs(128, 800, 500, DType::F32);
        let [x, weight, bias] = vars.each_ref().map(|var| var.as_tensor());
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let layer = || linear(x, weight, bias, Activation::Relu);
                bits(&result_and_gradients(layer, &vars))
            })
        };
        let one = run(1);
        for threads in [2, 3, 4, 7] {
            assert!(run(threads) == one, "{threads} threads");
        }
    }

    #[test]
    fn views_are_read_in_their_own_order() {
        let vars = inputs(6, 4, 6, DType::F32);
        let [x, weight, bias] = vars.each_ref().map(|var| var.as_tensor());
        let (x_view, weight_view) = (weight.narrow(0, 1, 4).unwrap(), x.narrow(0, 0, 4).unwrap());
        let x_view = x_view.t().unwrap();
        let bias = bias.narrow(0, 2, 4).unwrap();
        let found = linear(&x_view, &weight_view, &bias, Activation::Linear).unwrap();
        let copies = [&x_view, &weight_view, &bias].map(|t| t.force_contiguous().unwrap());
        let expected = linear(&copies[0], &copies[1], &copies[2], Activation::Linear).unwrap();
        assert_eq!(bits(&[found]), bits(&[expected]));
    }

    #[test]
    fn relu_has_gradient_zero_at_zero_and_lets_nan_through() {
        let cpu = &Device::Cpu;
        let x = Var::new(&[[0f32], [1.0], [-1.0], [f32::NAN]], cpu).unwrap();
        let weight = Tensor::new(&[[2f32]], cpu).unwrap();
        let bias = Tensor::new(&[0f32], cpu).unwrap();
        let y = linear(&x, &weight, &bias, Activation::Relu).unwrap();
        let values: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values[..3], [0.0, 2.0, 0.0]);
        assert!(values[3].is_nan());
        let gradients = y.sum_all().unwrap().backward().unwrap();
        let of_x = gradients.get(&x).unwrap().flatten_all().unwrap();
        assert_eq!(of_x.to_vec1::<f32>().unwrap()[..3], [0.0, 2.0, 0.0]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let vars = inputs(2, 3, 4, DType::F32);
        let [x, weight, bias] = vars.each_ref().map(|var| var.as_tensor());
        let error = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
            let result = linear(x, weight, bias, Activation::Linear);
            result.unwrap_err().to_string()
        };
        assert!(error(weight, x, bias).contains("4 biases for 2 outputs"));
        let wide = x.t().unwrap();
        assert!(error(&wide, weight, bias).contains("2 columns times 3 rows"));
        assert!(!error(bias, weight, bias).is_empty());
    }
}
