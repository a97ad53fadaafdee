//! Any shape, strides, types, variant and reduction against the formulas in f64, one pair at a time;
//! and any that do not fit are refused.

use candle_core::{DType, Device, Result, Tensor};
use half::f16;
use loss_kernel::{
    ContrastiveLoss, InBatchContrastiveLoss, InBatchReduction, LossError, Margin, Reduction,
    Variant,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const CPU: &Device = &Device::Cpu;
const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

/// How a tensor lies in memory.
#[derive(Clone, Copy, Debug)]
enum Strides {
    Contiguous,
    Transposed,
    Narrowed,
    OneRow,
    OneColumn,
}

const STRIDES: [Strides; 5] = [
    Strides::Contiguous,
    Strides::Transposed,
    Strides::Narrowed,
    Strides::OneRow,
    Strides::OneColumn,
];

/// A tensor of `shape` with `values`, as many of them as the strides let it have, over and over.
fn view(strides: Strides, values: &[f64], shape: &[usize], dtype: DType) -> Result<Tensor> {
    let full = |shape: &[usize]| {
        let values = values.iter().copied().cycle();
        Tensor::from_iter(values.take(shape.iter().product()), CPU)?
            .reshape(shape)?
            .to_dtype(dtype)
    };
    let last = shape.len() - 1;
    let mut other = shape.to_vec();
    match strides {
        Strides::Contiguous => full(shape),
        Strides::Transposed if last == 0 => full(shape),
        Strides::Transposed => {
            other.reverse();
            full(&other)?.t()
        }
        Strides::Narrowed => {
            other[last] += 3;
            full(&other)?.narrow(last, 2, shape[last])
        }
        Strides::OneRow => {
            other[0] = 1;
            full(&other)?.broadcast_as(shape)
        }
        Strides::OneColumn => {
            other[last] = 1;
            full(&other)?.broadcast_as(shape)
        }
    }
}

/// Quarters, which every type holds exactly; equal ones and distances about the margin are common.
fn values() -> impl Strategy<Value = Vec<f64>> {
    vec((-6..=6i8).prop_map(|value| f64::from(value) / 4.0), 1..80)
}

fn margin() -> impl Strategy<Value = f64> {
    select(vec![0.25, 1.0, 1.5, 4.0])
}

/// No squared distance of [`values`] is one of these. The loss over all pairs moves the embeddings
/// to their middle, which rounds, and [`Variant::Legacy`]'s gradient jumps at the margin: a pair that
/// lies on it may fall to either side.
fn margin_off_the_distances() -> impl Strategy<Value = f64> {
    margin().prop_map(|m| m + 1.0 / 32.0)
}

/// The loss of a pair, as the papers write it, and its gradient with respect to `a`.
fn pair(variant: Variant, a: &[f64], b: &[f64], same: bool, m: f64) -> (f64, Vec<f64>) {
    let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let square: f64 = difference.iter().map(|x| x * x).sum();
    let d = match variant {
        Variant::ExponentialL1 => difference.iter().map(|x| x.abs()).sum(),
        _ => square.sqrt(),
    };
    // The loss and its derivative with respect to d.
    let (loss, slope) = match (variant, same) {
        (Variant::Hadsell | Variant::Legacy | Variant::Squared, true) => (d * d / 2.0, d),
        (Variant::Hadsell, false) => ((m - d).max(0.0).powi(2) / 2.0, -(m - d).max(0.0)),
        (Variant::Legacy, false) if square < m => ((m - square) / 2.0, -d),
        (Variant::Legacy, false) => (0.0, 0.0),
        (Variant::Squared, false) => {
            let gap = (m - square).max(0.0);
            (gap * gap / 2.0, -2.0 * gap * d)
        }
        (Variant::ExponentialL1 | Variant::ExponentialL2, true) => (2.0 / m * d * d, 4.0 / m * d),
        (Variant::ExponentialL1 | Variant::ExponentialL2, false) => {
            let decay = (-2.77 / m * d).exp();
            (2.0 * m * decay, -5.54 * decay)
        }
    };
    let direction = |x: f64| match variant {
        _ if x == 0.0 => 0.0,
        Variant::ExponentialL1 => x.signum(),
        _ => x / d,
    };
    (
        loss,
        difference
            .into_iter()
            .map(|x| slope * direction(x))
            .collect(),
    )
}

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2e-2,
        DType::F16 => 3e-3,
        DType::F32 => 1e-5,
        _ => 1e-12,
    }
}

fn assert_near(
    found: &Tensor,
    expected: impl IntoIterator<Item = f64>,
    dtype: DType,
) -> std::result::Result<(), TestCaseError> {
    prop_assert_eq!(found.dtype(), dtype);
    let found = found.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    let found = found.to_vec1::<f64>().unwrap();
    let expected: Vec<f64> = expected.into_iter().collect();
    prop_assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        // A sum may be beyond the largest f16.
        let overflows = dtype == DType::F16 && expected.abs() > f64::from(f16::MAX);
        prop_assert!(
            (found - expected).abs() <= tolerance(dtype) * scale
                || overflows && found.is_infinite(),
            "{}: {} for {}",
            i,
            found,
            expected
        );
    }
    Ok(())
}

fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
    tensor.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
}

proptest! {
    #[test]
    fn the_loss_of_given_pairs_is_the_formula(
        (n, d) in (1..40usize, 1..40usize),
        dtype in select(FLOATS.to_vec()),
        label_dtype in select([&FLOATS[..], &[DType::U8, DType::U32]].concat()),
        strides in [(); 3].map(|()| select(STRIDES.to_vec())),
        [a, b] in [values(), values()],
        labels in vec((0..2u8).prop_map(f64::from), 1..40),
        variant in select(Variant::ALL.to_vec()),
        reduction in select(vec![Reduction::Mean, Reduction::Sum, Reduction::None]),
        m in margin(),
    ) {
        let a = view(strides[0], &a, &[n, d], dtype).unwrap();
        let b = view(strides[1], &b, &[n, d], dtype).unwrap();
        let same = view(strides[2], &labels, &[n], label_dtype).unwrap();
        let loss = ContrastiveLoss::new(Margin::new(m).unwrap())
            .variant(variant)
            .reduction(reduction);
        let labels = same.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        let pairs: Vec<_> = rows(&a)
            .iter()
            .zip(rows(&b))
            .zip(labels)
            .map(|((a, b), same)| pair(variant, a, &b, same == 1.0, m))
            .collect();
        let total: f64 = pairs.iter().map(|(loss, _)| loss).sum();
        let (expected, share) = match reduction {
            Reduction::Mean => (vec![total / n as f64], 1.0 / n as f64),
            Reduction::Sum => (vec![total], 1.0),
            Reduction::None => (pairs.iter().map(|(loss, _)| *loss).collect(), 1.0),
        };
        let value = loss.forward(&a, &b, &same).unwrap();
        assert_near(&value, expected, dtype)?;
        let grad_output = value.ones_like().unwrap();
        let (of_a, of_b) = loss.gradient(&a, &b, &same, &grad_output).unwrap();
        let expected = || pairs.iter().flat_map(|(_, of_a)| of_a).map(|x| x * share);
        assert_near(&of_a, expected(), dtype)?;
        assert_near(&of_b, expected().map(|x| -x), dtype)?;
    }

    #[test]
    fn the_loss_of_a_batch_is_the_mean_over_its_pairs(
        (n, d) in (2..24usize, 1..24usize),
        dtype in select(FLOATS.to_vec()),
        label_dtype in select(vec![DType::U8, DType::U32, DType::I64]),
        strides in [(); 2].map(|()| select(STRIDES.to_vec())),
        values in values(),
        labels in vec((0..4u8).prop_map(f64::from), 1..24),
        variant in select(Variant::ALL.to_vec()),
        summed: bool,
        m in margin_off_the_distances(),
    ) {
        let embeddings = view(strides[0], &values, &[n, d], dtype).unwrap();
        let labels = view(strides[1], &labels, &[n], label_dtype).unwrap();
        let reduction = if summed { InBatchReduction::Sum } else { InBatchReduction::Mean };
        let loss = InBatchContrastiveLoss::new(Margin::new(m).unwrap())
            .variant(variant)
            .reduction(reduction);
        let share = if summed { 1.0 } else { 2.0 / (n * (n - 1)) as f64 };
        let points = rows(&embeddings);
        let classes = labels.to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
        let mut total = 0.0;
        let mut gradient = vec![0.0; n * d];
        for i in 0..n {
            for j in 0..i {
                let same = classes[i] == classes[j];
                let (loss, of_i) = pair(variant, &points[i], &points[j], same, m);
                total += loss * share;
                for (k, x) in of_i.into_iter().enumerate() {
                    gradient[i * d + k] += x * share;
                    gradient[j * d + k] -= x * share;
                }
            }
        }
        let (value, of_embeddings) = loss.loss_and_gradient(&embeddings, &labels).unwrap();
        assert_near(&value, [total], dtype)?;
        assert_near(&of_embeddings, gradient, dtype)?;
    }

    /// As rarely fits, nothing but what fits is accepted.
    #[test]
    fn what_does_not_fit_is_refused(
        shapes in [(); 2].map(|()| vec(0..4usize, 0..4)),
        label_shape in vec(0..4usize, 0..3),
        dtypes in [(); 3].map(|()| select(
            [&FLOATS[..], &[DType::U8, DType::U32, DType::I64, DType::I32]].concat()
        )),
    ) {
        let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, CPU).unwrap();
        let (a, b) = (zeros(&shapes[0], dtypes[0]), zeros(&shapes[1], dtypes[1]));
        let labels = zeros(&label_shape, dtypes[2]);
        let float = FLOATS.contains(&dtypes[0]);
        let one_a_row = shapes[0].len() == 2 && label_shape == shapes[0][..1];
        let some = shapes[0].iter().all(|&side| side > 0);

        let fits = float && one_a_row && some && shapes[0] == shapes[1] && dtypes[0] == dtypes[1];
        let label_fits = FLOATS.contains(&dtypes[2]) || [DType::U8, DType::U32].contains(&dtypes[2]);
        let found = ContrastiveLoss::default().forward(&a, &b, &labels);
        prop_assert_eq!(found.is_ok(), fits && label_fits, "{:?}", found);
        prop_assert!(!matches!(found, Err(LossError::Candle(_))), "{:?}", found);

        let fits = float && one_a_row && some && shapes[0][0] > 1 && dtypes[2].is_int();
        let found = InBatchContrastiveLoss::default().forward(&a, &labels);
        prop_assert_eq!(found.is_ok(), fits, "{:?}", found);
        prop_assert!(!matches!(found, Err(LossError::Candle(_))), "{:?}", found);
    }
}

/// One number seen as more than memory holds; a product of sides that is 0 in 64 bits, too.
#[test]
fn views_of_more_elements_than_can_be_are_refused() -> Result<()> {
    for (rows, columns) in [
        (1 << 40, 1 << 40),
        (1 << 32, 1 << 32),
        (1 << 60, 4),
        (3, 1 << 62),
    ] {
        let all = Tensor::zeros((1, 1), DType::F32, CPU)?.broadcast_as((rows, columns))?;
        let same = Tensor::zeros(1, DType::U8, CPU)?.broadcast_as(rows)?;
        let one = Tensor::ones((), DType::F32, CPU)?;
        let loss = ContrastiveLoss::default();
        for error in [
            loss.forward(&all, &all, &same).unwrap_err(),
            loss.gradient(&all, &all, &same, &one).unwrap_err(),
            InBatchContrastiveLoss::default()
                .forward(&all, &same)
                .unwrap_err(),
        ] {
            assert!(matches!(error, LossError::Shape(_)), "{error}");
            assert!(error.to_string().contains("more elements"), "{error}");
        }
    }
    // Such a batch may be, but no memory holds its gradient.
    let all = Tensor::zeros((1, 1), DType::F32, CPU)?.broadcast_as((1 << 44, 4))?;
    let same = Tensor::zeros(1, DType::U8, CPU)?.broadcast_as(1 << 44)?;
    let one = Tensor::ones((), DType::F32, CPU)?;
    let refused = ContrastiveLoss::default().gradient(&all, &all, &same, &one);
    assert!(refused.unwrap_err().to_string().contains("memory"));
    Ok(())
}
