//! What the layers' ops have in common on the CPU.

use std::borrow::Cow;

use candle_core::{
    CpuStorage, CustomOp3, DType, Device, Layout, Result, Shape, Storage, Tensor, WithDType, bail,
};

use super::conv_pool::Buffered;
use crate::Activation;

/// A layer of an input, weights and biases, as it runs on the CPU in either type.
pub(crate) trait Layer: Send + Sync + 'static {
    /// As candle's errors call it.
    const NAME: &str;

    /// The result of input, weights and biases, and its shape.
    fn forward<T: Buffered>(&self, inputs: [&[T]; 3]) -> (Vec<T>, Shape);

    /// Which of the gradients of input, weights and biases are `wanted`, of input, weights, result and
    /// the result's gradient.
    fn backward<T: Buffered>(&self, wanted: [bool; 3], tensors: [&[T]; 4]) -> [Option<Vec<T>>; 3];
}

/// Applies a layer to tensors on the CPU. No gradient is computed for one that candle does not track.
pub(crate) fn apply(
    layer: impl Layer,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    let (weight, bias) = (weight.contiguous()?, bias.contiguous()?);
    x.contiguous()?.apply_op3(&weight, &bias, CpuOp(layer))
}

/// A layer as a candle op.
struct CpuOp<L>(L);

impl<L: Layer> CpuOp<L> {
    fn forward<T: Buffered>(
        &self,
        inputs: [(&CpuStorage, &Layout); 3],
    ) -> Result<(CpuStorage, Shape)> {
        let [x, weight, bias] = inputs.map(contiguous::<T>);
        let (result, shape) = self.0.forward([x?, weight?, bias?]);
        Ok((T::to_cpu_storage_owned(result), shape))
    }

    fn backward<T: Buffered>(
        &self,
        inputs: [&Tensor; 3],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let locked = [inputs[0], inputs[1], result, &gradient].map(Tensor::storage_and_layout);
        let slices = locked.each_ref().map(|(storage, layout)| match &**storage {
            Storage::Cpu(storage) => contiguous::<T>((storage, layout)),
            _ => bail!("an op of the CPU was given a tensor on another device"),
        });
        let [x, weight, result, gradient] = slices;
        let wanted = inputs.map(Tensor::track_op);
        let gradients = (self.0).backward(wanted, [x?, weight?, result?, gradient?]);
        let tensor = |gradient: Option<Vec<T>>, input: &Tensor| {
            let gradient = gradient.map(|g| Tensor::from_vec(g, input.shape(), &Device::Cpu));
            gradient.transpose()
        };
        let ([of_x, of_weight, of_bias], [x, weight, bias]) = (gradients, inputs);
        Ok((
            tensor(of_x, x)?,
            tensor(of_weight, weight)?,
            tensor(of_bias, bias)?,
        ))
    }
}

impl<L: Layer> CustomOp3 for CpuOp<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let inputs = [(x, x_layout), (weight, weight_layout), (bias, bias_layout)];
        match x {
            CpuStorage::F64(_) => self.forward::<f64>(inputs),
            _ => self.forward::<f32>(inputs),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let inputs = [x, weight, bias];
        match x.dtype() {
            DType::F64 => self.backward::<f64>(inputs, result, gradient),
            _ => self.backward::<f32>(inputs, result, gradient),
        }
    }
}

/// The numbers of a tensor, which has to be contiguous.
pub(crate) fn contiguous<'a, T: WithDType>(
    (storage, layout): (&'a CpuStorage, &Layout),
) -> Result<&'a [T]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("an op was given a tensor that is not contiguous");
    };
    Ok(&T::cpu_storage_as_slice(storage)?[from..to])
}

/// Turns sums, a row of as many as there are biases after the other, into the layer's result.
pub(crate) fn finish<T: WithDType>(sums: &mut [T], bias: &[T], activation: Activation) {
    let relu = activation == Activation::Relu;
    for row in sums.chunks_exact_mut(bias.len()) {
        for (sum, &bias) in row.iter_mut().zip(bias) {
            *sum += bias;
            // Not `max`, which would turn NaN into 0.
            if relu & (*sum <= T::zero()) {
                *sum = T::zero();
            }
        }
    }
}

/// The gradient of the sums, given the layer's `result` and its gradient.
pub(crate) fn of_sums<'a, T: WithDType>(
    activation: Activation,
    result: &[T],
    gradient: &'a [T],
) -> Cow<'a, [T]> {
    let slope = |&result: &T| match result > T::zero() {
        true => T::one(),
        false => T::zero(),
    };
    match activation {
        Activation::Linear => gradient.into(),
        Activation::Relu => {
            let slopes = result.iter().map(slope);
            slopes.zip(gradient).map(|(slope, &g)| g * slope).collect()
        }
    }
}

/// The gradient of `outputs` biases, given that of the sums.
pub(crate) fn of_bias<T: WithDType>(gradient: &[T], outputs: usize) -> Vec<T> {
    let mut sums = vec![T::zero(); outputs];
    for row in gradient.chunks_exact(outputs) {
        add_to(&mut sums, row);
    }
    sums
}

/// Adds `values` to `sums`, each to its own.
pub(crate) fn add_to<T: WithDType>(sums: &mut [T], values: &[T]) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// What the layers' tests have in common.
#[cfg(test)]
pub(crate) mod checks {
    use candle_core::{DType, Device, Result, Tensor, Var};
    use pulp::Arch;
    use rand::Rng;
    use rand_chacha::ChaCha8Rng;

    /// What a layer can be run on here: vectors of one element, which is what runs where pulp knows no
    /// better, and every kind that this processor has.
    pub(crate) fn levels() -> Vec<Arch> {
        let mut levels = vec![Arch::Scalar];
        #[cfg(target_arch = "x86_64")]
        levels.extend(pulp::x86::V3::try_new().map(Arch::V3));
        levels.push(Arch::new());
        levels
    }

    pub(crate) fn random(shape: &[usize], dtype: DType, rng: &mut ChaCha8Rng) -> Var {
        let values = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0));
        let values = Tensor::from_vec(values.collect::<Vec<f64>>(), shape, &Device::Cpu).unwrap();
        Var::from_tensor(&values.to_dtype(dtype).unwrap()).unwrap()
    }

    /// The result, and the gradients of its products with the numbers 1, 2, 3, … by input.
    pub(crate) fn result_and_gradients(
        layer: impl Fn() -> Result<Tensor>,
        inputs: &[Var],
    ) -> Vec<Tensor> {
        let result = layer().unwrap();
        let numbers = Tensor::arange(1f64, 1.0 + result.elem_count() as f64, &Device::Cpu).unwrap();
        let numbers = numbers.reshape(result.shape()).unwrap();
        let weighted = (&result * numbers.to_dtype(result.dtype()).unwrap()).unwrap();
        let gradients = weighted.sum_all().unwrap().backward().unwrap();
        let gradients = inputs.iter().map(|var| gradients.get(var).unwrap().clone());
        [result.detach()].into_iter().chain(gradients).collect()
    }

    /// Shape by shape, to `tolerance` times the largest expected.
    #[track_caller]
    pub(crate) fn assert_close(
        found: &[Tensor],
        expected: &[Tensor],
        tolerance: f64,
        case: impl std::fmt::Debug,
    ) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.dims(), expected.dims());
            let worst = (found - expected).unwrap().abs().unwrap();
            let [worst, largest] = [&worst, &expected.abs().unwrap()].map(|t| {
                let largest = t.max_all().unwrap().to_dtype(DType::F64).unwrap();
                largest.to_scalar::<f64>().unwrap()
            });
            assert!(
                worst <= tolerance * largest,
                "{case:?}: {worst:e} of {largest:e}"
            );
        }
    }

    pub(crate) fn bits(tensors: &[Tensor]) -> Vec<Vec<u32>> {
        let values = tensors.iter().map(|t| t.flatten_all()?.to_vec1::<f32>());
        let values: Vec<Vec<f32>> = values.collect::<Result<_>>().unwrap();
        let bits = values.iter().map(|v| v.iter().map(|v| v.to_bits()));
        bits.map(Iterator::collect).collect()
    }
}
