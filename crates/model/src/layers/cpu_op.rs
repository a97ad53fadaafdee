//! What the layers' ops have in common on the CPU.

use candle_core::{
    CpuStorage, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, WithDType, bail,
};

use crate::Activation;

/// A layer of an input, weights and biases, as it runs on the CPU in either type.
pub(crate) trait Layer {
    /// As candle's errors call it.
    const NAME: &str;

    fn forward<T: WithDType>(
        &self,
        inputs: [(&CpuStorage, &Layout); 3],
    ) -> Result<(CpuStorage, Shape)>;

    /// The gradients of the three inputs that candle tracks, of inputs, result and its gradient.
    fn backward<T: WithDType>(&self, tensors: [&Tensor; 5]) -> Result<[Option<Tensor>; 3]>;
}

/// A layer as a candle op.
pub(crate) struct CpuOp<L>(pub(crate) L);

impl<L: Layer + Send + Sync> CustomOp3 for CpuOp<L> {
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
            CpuStorage::F64(_) => self.0.forward::<f64>(inputs),
            _ => self.0.forward::<f32>(inputs),
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
        let tensors = [x, weight, bias, result, gradient];
        let [x, weight, bias] = match x.dtype() {
            DType::F64 => self.0.backward::<f64>(tensors)?,
            _ => self.0.backward::<f32>(tensors)?,
        };
        Ok((x, weight, bias))
    }
}

pub(crate) fn on_cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("an op of the CPU was given a tensor on another device"),
    }
}

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

/// The gradient of the sums, contiguous, given that of the layer's `result`.
pub(crate) fn of_sums(
    activation: Activation,
    result: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    match activation {
        Activation::Linear => gradient.contiguous(),
        Activation::Relu => gradient * result.gt(0f64)?.to_dtype(gradient.dtype())?,
    }
}

/// The gradient of `outputs` biases, given that of the sums.
pub(crate) fn of_bias<T: WithDType>(gradient: &[T], outputs: usize) -> Vec<T> {
    let mut sums = vec![T::zero(); outputs];
    for row in gradient.chunks_exact(outputs) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    sums
}

/// The `gradient` of an input, computed only if candle tracks it.
pub(crate) fn wanted<T: WithDType>(
    input: &Tensor,
    gradient: impl FnOnce() -> Result<Vec<T>>,
) -> Result<Option<Tensor>> {
    let gradient = input.track_op().then(gradient).transpose()?;
    gradient
        .map(|values| Tensor::from_vec(values, input.shape(), input.device()))
        .transpose()
}

/// What the layers' tests have in common.
#[cfg(test)]
pub(crate) mod checks {
    use candle_core::{DType, Device, Result, Tensor, Var};
    use rand::Rng;
    use rand_chacha::ChaCha8Rng;

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
