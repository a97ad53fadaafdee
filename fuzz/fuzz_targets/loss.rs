//! Both losses on tensors of any shape, strides and type: a typed error, or the very bits that a
//! contiguous copy gives.
#![no_main]

use arbitrary::Arbitrary;
use candle_core::{DType, Device, Result, Tensor};
use libfuzzer_sys::fuzz_target;
use loss_kernel::{
    ContrastiveLoss, InBatchContrastiveLoss, InBatchReduction, Margin, Reduction, Variant,
};

#[derive(Arbitrary, Debug)]
struct Input {
    margin: f64,
    variant: u8,
    reduction: u8,
    balanced: bool,
    normalised: bool,
    a: Matrix,
    b: Matrix,
    labels: View,
}

#[derive(Arbitrary, Debug)]
struct Matrix {
    rows: u8,
    columns: u8,
    view: View,
}

/// A view of other tensors than it shows.
#[derive(Arbitrary, Debug)]
struct View {
    dtype: u8,
    layout: u8,
    values: Vec<i8>,
}

impl View {
    fn tensor(&self, shape: &[usize]) -> Result<Tensor> {
        const TYPES: [DType; 8] = [
            DType::F32,
            DType::F64,
            DType::F16,
            DType::BF16,
            DType::U8,
            DType::U32,
            DType::I64,
            DType::F32,
        ];
        let full = |shape: &[usize]| -> Result<Tensor> {
            let values = self.values.iter().copied().chain([1]).collect::<Vec<_>>();
            let count = shape.iter().product();
            let values = values.iter().cycle().take(count);
            // Halves, so that both sides of a margin and equal values are common.
            let values = values.map(|&value| f32::from(value) / 2.0);
            let dtype = TYPES[usize::from(self.dtype) % TYPES.len()];
            let values = if dtype.is_int() {
                Tensor::from_iter(values.map(|value| (value.abs() as u32) % 3), &Device::Cpu)
            } else {
                Tensor::from_iter(values, &Device::Cpu)
            };
            values?.reshape(shape)?.to_dtype(dtype)
        };
        let last = shape.len() - 1;
        let mut other = shape.to_vec();
        match self.layout % 5 {
            0 => full(shape),
            1 => {
                other.reverse();
                full(&other)?.t()
            }
            2 => {
                other[last] += 3;
                full(&other)?.narrow(last, 2, shape[last])
            }
            3 => {
                other[0] = 1;
                full(&other)?.broadcast_as(shape)
            }
            _ => {
                other[last] = 1;
                full(&other)?.broadcast_as(shape)
            }
        }
    }
}

impl Matrix {
    fn tensor(&self) -> Result<Tensor> {
        let [rows, columns] = [self.rows, self.columns].map(|side| usize::from(side) % 40);
        self.view.tensor(&[rows, columns])
    }
}

/// All NaN are one.
fn bits(tensor: &Tensor) -> Vec<u64> {
    let values = tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all());
    let values = values.and_then(|values| values.to_vec1::<f64>()).unwrap();
    let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value };
    values.into_iter().map(|value| canonical(value).to_bits()).collect()
}

fn given_pairs(input: &Input, variant: Variant, margin: Margin, [a, b, labels]: &[Tensor; 3]) {
    let reductions = [Reduction::Mean, Reduction::Sum, Reduction::None];
    let loss = ContrastiveLoss::new(margin)
        .variant(variant)
        .reduction(reductions[usize::from(input.reduction) % 3]);
    let all = |a: &Tensor, b: &Tensor, labels: &Tensor| {
        let value = loss.forward(a, b, labels).ok()?;
        let grad_output = value.ones_like().unwrap();
        let (of_a, of_b) = loss.gradient(a, b, labels, &grad_output).expect("as the loss");
        assert_eq!((of_a.dims(), of_b.dims()), (a.dims(), b.dims()));
        Some([value, of_a, of_b].map(|tensor| bits(&tensor)))
    };
    let copies = [a, b, labels].map(|tensor| tensor.copy().unwrap());
    assert_eq!(all(a, b, labels), all(&copies[0], &copies[1], &copies[2]));
}

fn in_batch(input: &Input, variant: Variant, margin: Margin, a: &Tensor, labels: &Tensor) {
    let reductions = [
        InBatchReduction::Mean,
        InBatchReduction::MeanNonZero,
        InBatchReduction::Sum,
    ];
    let loss = InBatchContrastiveLoss::new(margin)
        .variant(variant)
        .reduction(reductions[usize::from(input.reduction) % 3])
        .balanced(input.balanced)
        .normalised(input.normalised);
    let all = |a: &Tensor, labels: &Tensor| {
        let (value, of_a) = loss.loss_and_gradient(a, labels).ok()?;
        assert_eq!(of_a.dims(), a.dims());
        Some([value, of_a].map(|tensor| bits(&tensor)))
    };
    assert_eq!(all(a, labels), all(&a.copy().unwrap(), &labels.copy().unwrap()));
}

fuzz_target!(|input: Input| {
    let Ok(margin) = Margin::new(input.margin) else {
        return;
    };
    let variant = Variant::ALL[usize::from(input.variant) % Variant::ALL.len()];
    let (Ok(a), Ok(b)) = (input.a.tensor(), input.b.tensor()) else {
        return;
    };
    let Ok(labels) = input.labels.tensor(&a.dims()[..1]) else {
        return;
    };
    given_pairs(&input, variant, margin, &[a.clone(), b, labels.clone()]);
    in_batch(&input, variant, margin, &a, &labels);
});
