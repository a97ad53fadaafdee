//! The loss over all pairs of a batch, held to `ContrastiveLoss` on the list of these pairs.

use std::num::NonZeroU8;

use candle_core::{DType, Device, Result, Tensor, Var};
use loss_kernel::{
    ContrastiveLoss, InBatchContrastiveLoss, InBatchReduction, LossError, Margin, Miner, Reduction,
    Variant,
};

const CPU: &Device = &Device::Cpu;
const REDUCTIONS: [InBatchReduction; 3] = [
    InBatchReduction::Mean,
    InBatchReduction::MeanNonZero,
    InBatchReduction::Sum,
];

/// Everything a loss is made with.
#[derive(Clone, Copy, Debug)]
struct Setting {
    margin: f64,
    variant: Variant,
    reduction: InBatchReduction,
    balanced: bool,
    normalised: bool,
    miner: Miner,
}

impl Setting {
    fn new(variant: Variant, margin: f64) -> Self {
        Self {
            margin,
            variant,
            reduction: InBatchReduction::Mean,
            balanced: false,
            normalised: false,
            miner: Miner::All,
        }
    }

    fn loss(self) -> InBatchContrastiveLoss {
        InBatchContrastiveLoss::new(Margin::new(self.margin).unwrap())
            .variant(self.variant)
            .reduction(self.reduction)
            .balanced(self.balanced)
            .normalised(self.normalised)
            .miner(self.miner)
    }
}

/// A Weyl sequence: spread evenly, the same everywhere, no two differences alike.
fn spread(i: usize) -> f64 {
    ((i as f64 + 1.0) * 0.618_033_988_749_895).fract() * 2.0 - 1.0
}

/// Rows around one centre a class, `apart` from each other, each row within `near` of its own.
fn clusters(rows: usize, dim: usize, classes: u32, apart: f64, near: f64) -> (Vec<f64>, Vec<u32>) {
    let labels: Vec<u32> = (0..rows as u32).map(|i| i * 7 % classes).collect();
    let values = (0..rows * dim)
        .map(|i| {
            let centre = labels[i / dim] as usize * dim + i % dim;
            apart * spread(centre * 31 + 5) + near * spread(i + 1000)
        })
        .collect();
    (values, labels)
}

fn tensor(values: &[f64], dim: usize) -> Result<Tensor> {
    Tensor::new(values, CPU)?.reshape(((), dim))
}

/// The pairs that count, with the weight of each in the loss.
struct Listed {
    first: Vec<u32>,
    second: Vec<u32>,
    same: Vec<u8>,
    weights: Vec<f64>,
}

/// The definition, written over lists: O(N²) memory and no cleverness.
fn list(
    setting: Setting,
    (left, left_labels): (&Tensor, &[u32]),
    right: Option<(&Tensor, &[u32])>,
) -> Result<Listed> {
    let (other, other_labels) = right.unwrap_or((left, left_labels));
    let distance = |a: &[f64], b: &[f64]| -> f64 {
        let terms = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        match setting.variant {
            Variant::ExponentialL1 => terms.sum(),
            _ => terms.map(|x| x * x).sum::<f64>().sqrt(),
        }
    };
    let (a, b) = (left.to_vec2::<f64>()?, other.to_vec2::<f64>()?);
    let (n, m) = (a.len(), b.len());
    let distances: Vec<Vec<f64>> = a
        .iter()
        .map(|a| b.iter().map(|b| distance(a, b)).collect())
        .collect();
    let own = right.is_none();
    let same = |i: usize, j: usize| left_labels[i] == other_labels[j];
    let selects = |i: usize, j: usize| -> bool {
        let d = distances[i][j];
        let others = |similar: bool| -> Vec<f64> {
            let mut others: Vec<f64> = (0..m)
                .filter(|&k| !(own && k == i) && same(i, k) == similar)
                .map(|k| distances[i][k])
                .collect();
            others.sort_by(f64::total_cmp);
            others
        };
        let farthest = others(true).last().copied().unwrap_or(f64::NEG_INFINITY);
        let dissimilar = others(false);
        let nearest = dissimilar.first().copied().unwrap_or(f64::INFINITY);
        match setting.miner {
            Miner::All => true,
            Miner::Hard if same(i, j) => d > nearest,
            Miner::Hard => d < farthest,
            _ if same(i, j) => true,
            Miner::SemiHard { width } => farthest < d && d < farthest + width.get(),
            Miner::Hardest { negatives } => {
                let last = dissimilar.get(usize::from(negatives.get()) - 1);
                last.is_none_or(|&last| d <= last)
            }
        }
    };
    let mut listed = Listed {
        first: vec![],
        second: vec![],
        same: vec![],
        weights: vec![],
    };
    for i in 0..n {
        for j in if own { i + 1..m } else { 0..m } {
            if selects(i, j) || (own && selects(j, i)) {
                listed.first.push(i as u32);
                listed.second.push(j as u32);
                listed.same.push(same(i, j).into());
            }
        }
    }
    if listed.first.is_empty() {
        return Ok(listed);
    }
    let losses = listed.losses(setting, left, other)?.to_vec1::<f64>()?;
    let mut counted = [0.0; 2];
    for (&same, loss) in listed.same.iter().zip(losses) {
        if setting.reduction != InBatchReduction::MeanNonZero || loss != 0.0 {
            counted[usize::from(same)] += 1.0;
        }
    }
    let p = counted[0] + counted[1];
    let share = match setting.reduction {
        InBatchReduction::Sum => 1.0,
        _ => 1.0 / f64::max(p, 1.0),
    };
    let weight = |&same: &u8| match setting.balanced {
        true => share * p / (2.0 * counted[usize::from(same)].max(1.0)),
        false => share,
    };
    listed.weights = listed.same.iter().map(weight).collect();
    Ok(listed)
}

impl Listed {
    fn losses(&self, setting: Setting, left: &Tensor, right: &Tensor) -> Result<Tensor> {
        let chosen = |rows: &Tensor, of: &[u32]| rows.index_select(&Tensor::new(of, CPU)?, 0);
        let loss = ContrastiveLoss::new(Margin::new(setting.margin).unwrap())
            .variant(setting.variant)
            .reduction(Reduction::None);
        Ok(loss.forward(
            &chosen(left, &self.first)?,
            &chosen(right, &self.second)?,
            &Tensor::new(self.same.as_slice(), CPU)?,
        )?)
    }
}

/// Value and gradients of the loss over a list, by candle's own backward pass.
fn expected(
    setting: Setting,
    left: (&Tensor, &[u32]),
    right: Option<(&Tensor, &[u32])>,
) -> Result<(f64, Vec<f64>, Option<Vec<f64>>)> {
    let unit = |x: &Tensor| match setting.normalised {
        true => x.broadcast_div(&x.sqr()?.sum_keepdim(1)?.sqrt()?),
        false => Ok(x.clone()),
    };
    let a = Var::from_tensor(left.0)?;
    let b = right.map(|right| Var::from_tensor(right.0)).transpose()?;
    let a_unit = unit(&a)?;
    let b_unit = b.as_ref().map(|b| unit(b)).transpose()?;
    let listed = list(
        setting,
        (&a_unit, left.1),
        b_unit.as_ref().zip(right.map(|right| right.1)),
    )?;
    let zeros = |x: &Tensor| -> Result<Vec<f64>> { flat(&x.zeros_like()?) };
    if listed.first.is_empty() {
        let of_b = b.as_ref().map(|b| zeros(b)).transpose()?;
        return Ok((0.0, zeros(&a)?, of_b));
    }
    let weights = Tensor::new(listed.weights.as_slice(), CPU)?;
    let losses = listed.losses(setting, &a_unit, b_unit.as_ref().unwrap_or(&a_unit))?;
    let value = (losses * weights)?.sum_all()?;
    let gradients = value.backward()?;
    let of = |x: &Var| flat(gradients.get(x).unwrap());
    Ok((value.to_scalar()?, of(&a)?, b.as_ref().map(of).transpose()?))
}

fn flat(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// The largest difference, relative to the largest number.
fn assert_close(found: &[f64], expected: &[f64], relative: f64, context: &str) {
    assert_eq!(found.len(), expected.len(), "{context}");
    let largest = expected.iter().fold(1e-300, |m: f64, x| m.max(x.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= relative * largest,
            "{context}: entry {at} is {found}, not {expected} (the largest is {largest})"
        );
    }
}

fn found(setting: Setting, embeddings: &Tensor, labels: &[u32]) -> Result<(f64, Vec<f64>)> {
    let var = Var::from_tensor(embeddings)?;
    let value = setting.loss().forward(&var, &Tensor::new(labels, CPU)?)?;
    let gradients = value.backward()?;
    let value = value.to_dtype(DType::F64)?.to_scalar()?;
    Ok((value, flat(gradients.get(&var).unwrap())?))
}

fn assert_matches_the_list(
    setting: Setting,
    embeddings: &Tensor,
    labels: &[u32],
    relative: f64,
) -> Result<()> {
    let context = format!("{:?} {setting:?}", embeddings.dims());
    let (value, gradient, _) = expected(setting, (embeddings, labels), None)?;
    let (found, of) = found(setting, embeddings, labels)?;
    assert_close(&[found], &[value], relative, &context);
    assert_close(&of, &gradient, relative, &context);
    Ok(())
}

fn miners() -> [Miner; 5] {
    [
        Miner::All,
        Miner::Hard,
        Miner::SemiHard {
            width: Margin::new(0.3).unwrap(),
        },
        Miner::Hardest {
            negatives: NonZeroU8::new(1).unwrap(),
        },
        Miner::Hardest {
            negatives: NonZeroU8::new(5).unwrap(),
        },
    ]
}

#[test]
fn reference_values_come_out() -> Result<()> {
    let points: Vec<f64> = (0..5)
        .flat_map(|i| {
            let (sin, cos) = (20.0 * f64::from(i)).to_radians().sin_cos();
            [cos, sin]
        })
        .collect();
    let labels = Tensor::new(&[0i64, 0, 1, 1, 2], CPU)?;
    for (variant, margin, expected) in [
        (Variant::Hadsell, 1.0, 0.0696382617),
        (Variant::Hadsell, 1.5, 0.2721014825),
        (Variant::Legacy, 1.0, 0.1798133329),
        (Variant::Legacy, 1.5, 0.3548133329),
    ] {
        for scale in [1.0, 3.0] {
            // Of length 3 they have the same loss once they are brought to length 1.
            let points: Vec<f64> = points.iter().map(|x| x * scale).collect();
            let loss = Setting::new(variant, margin)
                .loss()
                .normalised(scale != 1.0);
            let value = loss
                .forward(&tensor(&points, 2)?, &labels)?
                .to_scalar::<f64>()?;
            assert!(
                (value - expected).abs() < 1e-9,
                "{variant:?} {margin} {value}"
            );
        }
    }
    Ok(())
}

#[test]
fn value_and_gradient_are_those_of_the_list_of_pairs() -> Result<()> {
    // Blocks of 16 rows: one, one and a bit, several; differences and matrix products.
    for (rows, dim) in [
        (2, 1),
        (5, 2),
        (33, 3),
        (70, 15),
        (16, 16),
        (70, 17),
        (100, 40),
    ] {
        let (values, labels) = clusters(rows, dim, 5, 0.6, 0.3);
        let embeddings = tensor(&values, dim)?;
        for variant in Variant::ALL {
            for reduction in REDUCTIONS {
                for balanced in [false, true] {
                    // In one dimension all are ±1 then, and have no gradient.
                    for normalised in [false, dim > 1] {
                        let setting = Setting {
                            reduction,
                            balanced,
                            normalised,
                            ..Setting::new(variant, 1.1)
                        };
                        assert_matches_the_list(setting, &embeddings, &labels, 1e-11)?;
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn miners_select_what_their_definition_says() -> Result<()> {
    for (rows, dim, classes) in [(6, 2, 3), (50, 2, 4), (50, 20, 4), (40, 20, 30), (20, 3, 1)] {
        let (values, labels) = clusters(rows, dim, classes, 0.5, 0.5);
        let embeddings = tensor(&values, dim)?;
        for miner in miners() {
            for variant in [Variant::Hadsell, Variant::ExponentialL1] {
                for (reduction, balanced) in [
                    (InBatchReduction::Mean, false),
                    (InBatchReduction::Mean, true),
                    (InBatchReduction::MeanNonZero, true),
                ] {
                    let setting = Setting {
                        reduction,
                        balanced,
                        miner,
                        ..Setting::new(variant, 1.5)
                    };
                    assert_matches_the_list(setting, &embeddings, &labels, 1e-11)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_miners_differ_on_these_batches() -> Result<()> {
    let (values, labels) = clusters(50, 2, 4, 0.5, 0.5);
    let embeddings = tensor(&values, 2)?;
    let mut counts = Vec::new();
    for miner in miners() {
        let setting = Setting {
            miner,
            ..Setting::new(Variant::Hadsell, 1.5)
        };
        counts.push(list(setting, (&embeddings, &labels), None)?.first.len());
    }
    counts.sort_unstable();
    counts.dedup();
    assert_eq!(counts.len(), miners().len(), "{counts:?}");
    Ok(())
}

#[test]
fn two_batches_match_the_list_of_their_pairs() -> Result<()> {
    for (rows, others, dim) in [(1, 1, 2), (7, 60, 2), (60, 7, 20), (40, 90, 20)] {
        let (a, a_labels) = clusters(rows, dim, 4, 0.5, 0.4);
        let (b, b_labels) = clusters(others, dim, 6, 0.5, 0.3);
        let (a, b) = (tensor(&a, dim)?, tensor(&b, dim)?);
        for variant in [Variant::Hadsell, Variant::ExponentialL1] {
            for miner in miners() {
                for (balanced, normalised) in [(false, false), (true, dim > 1)] {
                    let setting = Setting {
                        balanced,
                        normalised,
                        miner,
                        ..Setting::new(variant, 1.2)
                    };
                    let (value, of_a, of_b) =
                        expected(setting, (&a, &a_labels), Some((&b, &b_labels)))?;
                    let tracked = (Var::from_tensor(&a)?, Var::from_tensor(&b)?);
                    let labels = (
                        Tensor::new(a_labels.as_slice(), CPU)?,
                        Tensor::new(b_labels.as_slice(), CPU)?,
                    );
                    let loss = setting.loss();
                    let context = format!("{rows} {others} {setting:?}");
                    let found =
                        loss.forward_against(&tracked.0, &labels.0, &tracked.1, &labels.1)?;
                    assert_close(&[found.to_scalar()?], &[value], 1e-11, &context);
                    let gradients = found.backward()?;
                    let of = |var: &Var| flat(gradients.get(var).unwrap());
                    assert_close(&of(&tracked.0)?, &of_a, 1e-11, &context);
                    assert_close(&of(&tracked.1)?, &of_b.unwrap(), 1e-11, &context);
                    // References that are not tracked take no gradient and change none.
                    let found = loss.forward_against(&tracked.0, &labels.0, &b, &labels.1)?;
                    let gradients = found.backward()?;
                    assert_close(
                        &flat(gradients.get(&tracked.0).unwrap())?,
                        &of_a,
                        1e-11,
                        &context,
                    );
                    assert!(gradients.get(&b).is_none());
                }
            }
        }
    }
    Ok(())
}

#[test]
fn far_from_the_origin_f32_still_agrees_with_f64() -> Result<()> {
    // Classes that have all but collapsed, and pairs of two classes as close as those of one.
    for (dim, apart, near) in [
        (128, 0.3, 0.05),
        (128, 0.3, 1e-4),
        (128, 1e-3, 1e-3),
        (2, 0.5, 1e-3),
    ] {
        let (values, labels) = clusters(150, dim, 6, apart, near);
        for offset in [0.0, 1000.0] {
            let embeddings = (tensor(&values, dim)? + offset)?.to_dtype(DType::F32)?;
            let exact = embeddings.to_dtype(DType::F64)?;
            for variant in Variant::ALL {
                let setting = Setting::new(variant, 1.3);
                let context = format!("D={dim} {apart} {near} + {offset} {variant:?}");
                let (value, gradient, _) = expected(setting, (&exact, &labels), None)?;
                let (found, of) = found(setting, &embeddings, &labels)?;
                assert_close(&[found], &[value], 1e-5, &context);
                assert_close(&of, &gradient, 1e-4, &context);
            }
        }
    }
    Ok(())
}

#[test]
fn the_textbook_product_would_fail_where_ours_must_not() -> Result<()> {
    // The claim above has teeth: |a|² + |b|² − 2ab in f32, not moved to the middle.
    let (values, _) = clusters(40, 128, 6, 0.3, 0.05);
    let x = (tensor(&values, 128)? + 1000.0)?.to_dtype(DType::F32)?;
    let squares = x.sqr()?.sum_keepdim(1)?;
    let product = (squares.broadcast_add(&squares.t()?)? - (x.matmul(&x.t()?)? * 2.0)?)?;
    let exact = x.to_dtype(DType::F64)?;
    let differences = exact
        .unsqueeze(0)?
        .broadcast_sub(&exact.unsqueeze(1)?)?
        .sqr()?
        .sum(2)?;
    let off = (product.to_dtype(DType::F64)? - &differences)?
        .abs()?
        .max_all()?;
    let largest = differences.max_all()?.to_scalar::<f64>()?;
    assert!(off.to_scalar::<f64>()? > 0.1 * largest);
    Ok(())
}

#[test]
fn a_near_pair_of_two_classes_is_pushed_with_full_force() -> Result<()> {
    // Two of many rows are 1e-5 apart, far from the middle: a product would lose the direction.
    let (mut values, mut labels) = clusters(64, 64, 2, 0.5, 0.5);
    for k in 0..64 {
        values[k] = 5.0 + spread(k);
        values[64 + k] = values[k] + 1e-5 * spread(k + 70);
    }
    labels[0] = 8;
    labels[1] = 9;
    let embeddings = tensor(&values, 64)?.to_dtype(DType::F32)?;
    let exact = embeddings.to_dtype(DType::F64)?;
    let setting = Setting::new(Variant::Hadsell, 1.0);
    let (_, expected, _) = expected(setting, (&exact, &labels), None)?;
    let (_, gradient) = found(setting, &embeddings, &labels)?;
    assert_close(&gradient[..128], &expected[..128], 1e-5, "the near pair");
    Ok(())
}

#[test]
fn central_differences_agree() -> Result<()> {
    let h = 1e-6;
    for dim in [3, 18] {
        let (values, labels) = clusters(9, dim, 3, 0.5, 0.4);
        let class = Tensor::new(labels.as_slice(), CPU)?;
        for variant in Variant::ALL {
            for (normalised, balanced) in [(false, false), (true, true)] {
                let setting = Setting {
                    normalised,
                    balanced,
                    ..Setting::new(variant, 1.37)
                };
                let loss = setting.loss();
                let at = |values: &[f64]| -> Result<f64> {
                    loss.forward(&tensor(values, dim)?, &class)?.to_scalar()
                };
                let mut differences = Vec::new();
                for k in 0..values.len() {
                    let mut moved = values.clone();
                    moved[k] += h;
                    let above = at(&moved)?;
                    moved[k] -= 2.0 * h;
                    differences.push((above - at(&moved)?) / (2.0 * h));
                }
                let (_, gradient) = found(setting, &tensor(&values, dim)?, &labels)?;
                assert_close(&gradient, &differences, 1e-7, &format!("{dim} {setting:?}"));
                let wrong: Vec<f64> = gradient.iter().map(|g| g * 1.001).collect();
                assert!(
                    std::panic::catch_unwind(|| assert_close(&wrong, &differences, 1e-7, ""))
                        .is_err(),
                    "the check must refuse a gradient that is off by a thousandth"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() -> Result<()> {
    for (rows, dim) in [(700, 2), (700, 33)] {
        let (values, labels) = clusters(rows, dim, 40, 0.3, 0.3);
        let embeddings = tensor(&values, dim)?.to_dtype(DType::F32)?;
        for miner in [Miner::All, miners()[4]] {
            let setting = Setting {
                miner,
                normalised: true,
                balanced: true,
                ..Setting::new(Variant::Hadsell, 1.0)
            };
            let run = |threads: usize| -> Result<(f64, Vec<f64>)> {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                pool.install(|| found(setting, &embeddings, &labels))
            };
            let expected = run(1)?;
            assert_eq!(run(2)?, expected);
            assert_eq!(run(5)?, expected);
        }
    }
    Ok(())
}

#[test]
fn any_layout_and_label_type_gives_the_same_loss_and_gradient() -> Result<()> {
    let (values, labels) = clusters(40, 20, 4, 0.4, 0.4);
    let embeddings = tensor(&values, 20)?;
    let setting = Setting {
        normalised: true,
        ..Setting::new(Variant::Hadsell, 1.0)
    };
    let loss = setting.loss();
    let class = Tensor::new(labels.as_slice(), CPU)?;
    let (value, gradient) = loss.loss_and_gradient(&embeddings, &class)?;
    let (value, gradient) = (value.to_scalar::<f64>()?, flat(&gradient)?);
    let (found, of) = found(setting, &embeddings, &labels)?;
    assert_eq!((found, &of), (value, &gradient), "with and without a graph");
    let transposed = embeddings.t()?.contiguous()?.t()?;
    let wider = Tensor::cat(&[&embeddings, &embeddings], 1)?.narrow(1, 20, 20)?;
    let lower = Tensor::cat(&[&embeddings, &embeddings], 0)?.narrow(0, 40, 40)?;
    for view in [transposed, wider, lower] {
        let (found, of) = loss.loss_and_gradient(&view, &class)?;
        assert_eq!(found.to_scalar::<f64>()?, value);
        assert_eq!(flat(&of)?, gradient);
    }
    for dtype in [DType::U8, DType::I64] {
        // Any integers, as long as equal ones stay equal.
        let class = ((class.to_dtype(dtype)? + 1.0)? * 9.0)?;
        let found = loss.forward(&embeddings, &class)?.to_scalar::<f64>()?;
        assert!((found - value).abs() < 1e-12 * value);
    }
    let negative = (class.to_dtype(DType::I64)? - 3.0)?;
    let found = loss.forward(&embeddings, &negative)?.to_scalar::<f64>()?;
    assert!((found - value).abs() < 1e-12 * value);
    Ok(())
}

#[test]
fn half_precision_is_summed_in_f32() -> Result<()> {
    let (values, labels) = clusters(60, 24, 5, 0.4, 0.4);
    for (dtype, rounding) in [(DType::F16, 1e-3), (DType::BF16, 8e-3)] {
        let embeddings = tensor(&values, 24)?.to_dtype(dtype)?;
        let exact = embeddings.to_dtype(DType::F64)?;
        let setting = Setting {
            reduction: InBatchReduction::MeanNonZero,
            ..Setting::new(Variant::Hadsell, 1.0)
        };
        let (value, gradient, _) = expected(setting, (&exact, &labels), None)?;
        let (found, of) = found(setting, &embeddings, &labels)?;
        assert_close(&[found], &[value], rounding, "value");
        assert_close(&of, &gradient, rounding, "gradient");
    }
    Ok(())
}

#[test]
fn a_second_backward_pass_and_a_loss_weight_are_right() -> Result<()> {
    let (values, labels) = clusters(30, 18, 3, 0.4, 0.4);
    let var = Var::from_tensor(&tensor(&values, 18)?)?;
    let loss = Setting::new(Variant::Squared, 1.0).loss();
    let value = loss.forward(&var, &Tensor::new(labels.as_slice(), CPU)?)?;
    let first = flat(value.backward()?.get(&var).unwrap())?;
    let second = flat(value.backward()?.get(&var).unwrap())?;
    assert_eq!(first, second);
    let third = flat((value * 3.0)?.backward()?.get(&var).unwrap())?;
    let tripled: Vec<f64> = first.iter().map(|g| 3.0 * g).collect();
    assert_close(&third, &tripled, 1e-14, "three times the loss");
    Ok(())
}

#[test]
fn a_zero_embedding_stays_zero_under_normalisation() -> Result<()> {
    let embeddings = Tensor::new(
        &[[0f32, 0.0], [1e-30, 1e-30], [3e30, 0.0], [0.0, -1e-38]],
        CPU,
    )?;
    let setting = Setting {
        normalised: true,
        ..Setting::new(Variant::Hadsell, 2.0)
    };
    let (value, gradient) = found(setting, &embeddings, &[0, 1, 1, 2])?;
    // Of length 1 but for the first, at (0, 0), (√½, √½), (1, 0), (0, −1).
    let d = |x: f64, y: f64| x.hypot(y);
    let h = 0.5f64.sqrt();
    let expected = (3.0 * 1f64.powi(2)
        + d(h - 1.0, h).powi(2)
        + (2.0 - d(h, h + 1.0)).powi(2)
        + (2.0 - d(1.0, 1.0)).powi(2))
        / 12.0;
    assert!((value - expected).abs() < 1e-6, "{value} {expected}");
    assert_eq!(gradient[..2], [0.0, 0.0]);
    assert!(gradient[2..6].iter().all(|g| g.is_finite()), "{gradient:?}");
    Ok(())
}

#[test]
fn a_nan_is_not_hidden() -> Result<()> {
    for dim in [2, 20] {
        let (mut values, labels) = clusters(40, dim, 4, 0.4, 0.4);
        values[3 * dim + 1] = f64::NAN;
        for variant in Variant::ALL {
            for miner in miners() {
                for normalised in [false, true] {
                    let setting = Setting {
                        miner,
                        normalised,
                        ..Setting::new(variant, 1.0)
                    };
                    let (value, gradient) = found(setting, &tensor(&values, dim)?, &labels)?;
                    assert!(value.is_nan(), "{dim} {setting:?}");
                    assert!(gradient[3 * dim + 1].is_nan(), "{dim} {setting:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn huge_embeddings_are_only_far_away() -> Result<()> {
    // Their squares overflow f32; the list of pairs gives 0 to dissimilar pairs at infinity.
    let (values, labels) = clusters(20, 20, 20, 1e25, 1e25);
    let embeddings = tensor(&values, 20)?.to_dtype(DType::F32)?;
    let (value, gradient) = found(Setting::new(Variant::Hadsell, 1.0), &embeddings, &labels)?;
    assert_eq!(value, 0.0);
    assert!(gradient.iter().all(|&g| g == 0.0));
    Ok(())
}

#[test]
fn without_a_pair_that_counts_the_loss_is_zero() -> Result<()> {
    let embeddings = tensor(&[0.0, 0.0, 5.0, 0.0], 2)?;
    for reduction in REDUCTIONS {
        for balanced in [false, true] {
            for miner in miners() {
                let setting = Setting {
                    reduction,
                    balanced,
                    miner,
                    ..Setting::new(Variant::Hadsell, 1.0)
                };
                let (value, gradient) = found(setting, &embeddings, &[0, 1])?;
                assert_eq!(value, 0.0, "{setting:?}");
                assert_eq!(gradient, [0.0; 4], "{setting:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_in_words() -> Result<()> {
    let loss = InBatchContrastiveLoss::default();
    let ones = |shape: &[usize], dtype| Tensor::ones(shape, dtype, CPU);
    let says = |error: LossError, words: &[&str]| {
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{text:?} does not say {word:?}");
        }
    };
    let labels = ones(&[4], DType::U32)?;
    let rows = ones(&[4, 2], DType::F32)?;
    let refuse = |embeddings: &Tensor, labels: &Tensor| {
        let error = loss.loss_and_gradient(embeddings, labels).unwrap_err();
        let same = loss.forward(embeddings, labels).unwrap_err();
        assert_eq!(error.to_string(), same.to_string());
        error
    };
    says(refuse(&labels, &labels), &["(batch, dimensions)", "[4]"]);
    says(refuse(&rows, &ones(&[3], DType::U32)?), &["[4, 2]", "[3]"]);
    says(
        refuse(&rows, &ones(&[4], DType::F32)?),
        &["integers", "F32"],
    );
    says(
        refuse(&ones(&[4, 2], DType::U32)?, &labels),
        &["f16", "U32"],
    );
    says(
        refuse(&ones(&[1, 2], DType::F32)?, &ones(&[1], DType::U8)?),
        &["two embeddings", "[1, 2]"],
    );
    says(
        refuse(&ones(&[4, 0], DType::F32)?, &labels),
        &["one dimension", "[4, 0]"],
    );
    let against = |references: &Tensor, of: &Tensor| {
        loss.forward_against(&rows, &labels, references, of)
            .unwrap_err()
    };
    says(
        against(&ones(&[4, 3], DType::F32)?, &labels),
        &["[4, 2]", "[4, 3]"],
    );
    says(
        against(&ones(&[4, 2], DType::F64)?, &labels),
        &["F32", "F64"],
    );
    says(against(&rows, &ones(&[5], DType::U8)?), &["[4, 2]", "[5]"]);
    says(
        against(&ones(&[0, 2], DType::F32)?, &ones(&[0], DType::U8)?),
        &["[0, 2]"],
    );
    Ok(())
}
