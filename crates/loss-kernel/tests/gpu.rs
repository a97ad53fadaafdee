//! The loss on a GPU against the loss on the CPU.
//!
//! `cargo test -p loss-kernel --features cuda -- --ignored gpu` where there is one.
#![cfg(feature = "cuda")]

use std::num::NonZeroU8;

use candle_core::{DType, Device, Result, Tensor, Var};
use loss_kernel::{
    ContrastiveLoss, InBatchContrastiveLoss, InBatchReduction, Margin, Miner, Reduction, Variant,
};

const TYPES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

const LABELS: [DType; 6] = [
    DType::U8,
    DType::U32,
    DType::F16,
    DType::BF16,
    DType::F32,
    DType::F64,
];

const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

/// Both sides, labels, and the gradient of the losses, on the CPU.
struct Pairs {
    a: Tensor,
    b: Tensor,
    same: Tensor,
    grad_output: Tensor,
}

/// Distances by the variant's norm, on both sides of the margin of 1, which every variant's hinge
/// opens at; none so near it that rounding, of the embeddings to bf16 too, carries a pair across.
const DISTANCES: [f64; 7] = [0.3, 1.5, 0.6, 0.0, 0.8, 1.25, 0.45];

fn pairs(count: usize, dim: usize, variant: Variant, dtype: DType) -> Result<Pairs> {
    // SplitMix64 (Steele, Lea, Flood 2014), of one seed: in 0..1, the same everywhere.
    let mut state = (count * 10_007 + dim) as u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for i in 0..count {
        let direction: Vec<f64> = (0..dim)
            .map(|_| (0.5 + 0.5 * random()) * if random() < 0.5 { -1.0 } else { 1.0 })
            .collect();
        let length = match variant {
            Variant::ExponentialL1 => direction.iter().map(|x| x.abs()).sum::<f64>(),
            _ => direction.iter().map(|x| x * x).sum::<f64>().sqrt(),
        };
        for x in direction {
            let from = 0.2 * random() - 0.1;
            a.push(from);
            b.push(from + DISTANCES[i % DISTANCES.len()] * x / length);
        }
    }
    let grad_output: Vec<f64> = (0..count).map(|_| 2.0 * random() - 1.0).collect();
    let same = (0..count).map(|i| u8::from(i % 3 == 0));
    let cpu = &Device::Cpu;
    Ok(Pairs {
        a: Tensor::from_vec(a, (count, dim), cpu)?.to_dtype(dtype)?,
        b: Tensor::from_vec(b, (count, dim), cpu)?.to_dtype(dtype)?,
        same: Tensor::from_iter(same, cpu)?,
        grad_output: Tensor::from_vec(grad_output, count, cpu)?.to_dtype(dtype)?,
    })
}

impl Pairs {
    /// The gradient of the loss: one a pair, or a scalar, large enough that the mean's gradients do
    /// not vanish in f16.
    fn grad_output(&self, reduction: Reduction) -> Result<Tensor> {
        match reduction {
            Reduction::None => Ok(self.grad_output.clone()),
            Reduction::Sum => Tensor::new(-0.75, &Device::Cpu)?.to_dtype(self.a.dtype()),
            Reduction::Mean => {
                Tensor::new(self.a.dims()[0] as f64, &Device::Cpu)?.to_dtype(self.a.dtype())
            }
        }
    }
}

const LAYOUTS: usize = 7;

/// Views of equal values with other strides and offsets.
fn layouts(t: &Tensor) -> Result<[(&'static str, Tensor); LAYOUTS]> {
    let (rows, columns) = t.dims2()?;
    let flat = t.flatten_all()?;
    Ok([
        ("contiguous", t.clone()),
        // Contiguous, and 16-byte loads are ruled out by the start.
        (
            "one element into a larger tensor",
            Tensor::cat(&[&flat.narrow(0, 0, 1)?, &flat], 0)?
                .narrow(0, 1, rows * columns)?
                .reshape((rows, columns))?,
        ),
        ("transposed", t.t()?.contiguous()?.t()?),
        // The start is aligned where `columns` allows it.
        (
            "rows of a larger tensor",
            Tensor::cat(&[t, t], 0)?.narrow(0, rows, rows)?,
        ),
        // 16-byte loads are ruled out by the row stride too.
        (
            "columns of a larger tensor",
            Tensor::cat(&[&t.narrow(1, 0, 1)?, t], 1)?.narrow(1, 1, columns)?,
        ),
        (
            "every second column",
            Tensor::stack(&[t, t], 2)?.narrow(2, 1, 1)?.squeeze(2)?,
        ),
        (
            "every second row",
            Tensor::stack(&[t, t], 1)?.narrow(1, 1, 1)?.squeeze(1)?,
        ),
    ])
}

fn flat(t: &Tensor) -> Result<Vec<f64>> {
    t.to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1()
}

/// A few roundings of the type, of its sums where they are wider.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-9),
        DType::BF16 => 2f64.powi(-6),
        DType::F32 => 1e-5,
        _ => 1e-13,
    }
}

/// Relative to the largest value, since differences of rounded sums cancel near the margin.
fn assert_close(found: &Tensor, expected: &Tensor, what: &str) -> Result<()> {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    assert_eq!(found.dtype(), expected.dtype(), "{what}");
    let tolerance = tolerance(expected.dtype());
    let (found, expected) = (flat(found)?, flat(expected)?);
    let largest = expected
        .iter()
        .fold(0f64, |largest, x| largest.max(x.abs()));
    let (at, off) = (0..found.len())
        .map(|i| (i, (found[i] - expected[i]).abs()))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .expect("no empty batch");
    assert!(
        off <= tolerance * largest,
        "{what}: at {at} the GPU has {}, the CPU {}, and the largest is {largest}",
        found[at],
        expected[at]
    );
    Ok(())
}

fn assert_gpu_follows_cpu(
    loss: ContrastiveLoss,
    cpu: [&Tensor; 4],
    gpu: [&Tensor; 4],
    what: &str,
) -> Result<()> {
    let expected = loss.forward(cpu[0], cpu[1], cpu[2])?;
    let found = loss.forward(gpu[0], gpu[1], gpu[2])?;
    assert_close(&found, &expected, &format!("{what}, loss"))?;
    let expected = loss.gradient(cpu[0], cpu[1], cpu[2], cpu[3])?;
    let found = loss.gradient(gpu[0], gpu[1], gpu[2], gpu[3])?;
    assert_close(&found.0, &expected.0, &format!("{what}, gradient of a"))?;
    assert_close(&found.1, &expected.1, &format!("{what}, gradient of b"))
}

/// Every variant, type and reduction of one shape, on contiguous tensors and on one more layout;
/// these and the labels' types take turns, counted by `turn`.
fn assert_gpu_follows_cpu_at(
    gpu: &Device,
    (count, dim): (usize, usize),
    normalised: bool,
    variants: &[Variant],
    turn: &mut usize,
) -> Result<()> {
    for &variant in variants {
        for dtype in TYPES {
            let pairs = pairs(count, dim, variant, dtype)?;
            let (a, b) = (
                layouts(&pairs.a.to_device(gpu)?)?,
                layouts(&pairs.b.to_device(gpu)?)?,
            );
            for reduction in REDUCTIONS {
                let loss = ContrastiveLoss::default()
                    .variant(variant)
                    .reduction(reduction)
                    .normalised(normalised);
                let grad_output = pairs.grad_output(reduction)?;
                let cpu = [&pairs.a, &pairs.b, &pairs.same, &grad_output];
                let grad_output = grad_output.to_device(gpu)?;
                *turn += 1;
                let label = LABELS[*turn % LABELS.len()];
                let same = pairs.same.to_dtype(label)?.to_device(gpu)?;
                // Both sides alike at times, as aligned rows must be for 16-byte loads.
                let (i, j) = (*turn % LAYOUTS, *turn / LAYOUTS % LAYOUTS);
                for (i, j) in [(0, 0), (i, if turn.is_multiple_of(2) { i } else { j })] {
                    let what = format!(
                        "{variant:?} {reduction:?} {dtype:?} ({count}, {dim}), normalised {normalised}, \
                         labels {label:?}, a {}, b {}",
                        a[i].0, b[j].0
                    );
                    let found = [&a[i].1, &b[j].1, &same, &grad_output];
                    assert_gpu_follows_cpu(loss, cpu, found, &what)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn gpu_and_cpu_agree_on_every_shape() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let mut turn = 0;
    for count in [1, 2, 31, 32, 33, 255, 1000] {
        for dim in [1, 2, 3, 31, 32, 33, 127, 128, 1000, 4099] {
            assert_gpu_follows_cpu_at(&gpu, (count, dim), false, &Variant::ALL, &mut turn)?;
        }
    }
    Ok(())
}

/// Unit vectors are at most 2 apart, their squares 4: every pair is inside the margin.
#[test]
#[ignore = "needs a GPU"]
fn gpu_and_cpu_agree_on_normalised_pairs() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    for (count, dim) in [(1, 33), (70, 128), (31, 515), (3, 8200)] {
        for variant in Variant::ALL {
            for dtype in TYPES {
                let pairs = pairs(count, dim, variant, dtype)?;
                let there = [&pairs.a, &pairs.b, &pairs.same].map(|t| t.to_device(&gpu));
                let [a, b, same] = there;
                let (a, b, same) = (a?, b?, same?);
                for reduction in REDUCTIONS {
                    let loss = ContrastiveLoss::new(Margin::new(5.0)?)
                        .variant(variant)
                        .reduction(reduction)
                        .normalised(true);
                    let grad_output = pairs.grad_output(reduction)?;
                    let cpu = [&pairs.a, &pairs.b, &pairs.same, &grad_output];
                    let grad_output = grad_output.to_device(&gpu)?;
                    let what = format!("{variant:?} {reduction:?} {dtype:?} ({count}, {dim})");
                    assert_gpu_follows_cpu(loss, cpu, [&a, &b, &same, &grad_output], &what)?;
                }
            }
        }
    }
    Ok(())
}

/// Short, for the tools of compute-sanitizer: a thread, some lanes, a warp and a block to a pair,
/// rows that fit its registers and rows that don't, by elements and by packs.
#[test]
#[ignore = "needs a GPU"]
fn gpu_goes_every_way_through_the_kernels() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let mut turn = 0;
    for count in [1, 70] {
        for dim in [3, 33, 128, 515, 8200] {
            for normalised in [false, true] {
                let hadsell = &[Variant::Hadsell];
                assert_gpu_follows_cpu_at(&gpu, (count, dim), normalised, hadsell, &mut turn)?;
            }
        }
    }
    Ok(())
}

/// Compares the gradient of every pair's loss, off by the factor `wrong`, with central differences in
/// f64: a step in component `k` of all pairs at once, since the pairs do not depend on each other.
fn furthest_from_central_differences(
    device: &Device,
    variant: Variant,
    (count, dim): (usize, usize),
    wrong: f64,
) -> Result<f64> {
    const STEP: f64 = 1e-5;
    let pairs = pairs(count, dim, variant, DType::F64)?;
    let (a, b) = (pairs.a.to_device(device)?, pairs.b.to_device(device)?);
    let (same, grad_output) = (
        pairs.same.to_device(device)?,
        pairs.grad_output.to_device(device)?,
    );
    let loss = ContrastiveLoss::default()
        .variant(variant)
        .reduction(Reduction::None);
    let (of_a, of_b) = loss.gradient(&a, &b, &same, &grad_output)?;
    let (of_a, of_b) = (flat(&of_a)?, flat(&of_b)?);
    let grad_output = flat(&grad_output)?;
    let mut off = Vec::new();
    for k in 0..dim {
        let mut step = vec![0.0; dim];
        step[k] = STEP;
        let step = Tensor::new(step, device)?.broadcast_as((count, dim))?;
        let losses = |a: Result<Tensor>, b: Result<Tensor>| flat(&loss.forward(&a?, &b?, &same)?);
        let (same_a, same_b) = (|| Ok(a.clone()), || Ok(b.clone()));
        let moved_a = (losses(&a + &step, same_b())?, losses(&a - &step, same_b())?);
        let moved_b = (losses(same_a(), &b + &step)?, losses(same_a(), &b - &step)?);
        for (gradient, (plus, minus)) in [(&of_a, moved_a), (&of_b, moved_b)] {
            off.extend((0..count).map(|i| {
                let measured = grad_output[i] * (plus[i] - minus[i]) / (2.0 * STEP);
                (wrong * gradient[i * dim + k] - measured).abs()
            }));
        }
    }
    // In this order a NaN is the largest.
    let most = off
        .into_iter()
        .max_by(f64::total_cmp)
        .expect("no empty batch");
    let largest = of_a.iter().fold(0f64, |largest, x| largest.max(x.abs()));
    Ok(most / largest)
}

const CHECKED_SHAPES: [(usize, usize); 4] = [(4, 1), (16, 2), (16, 33), (5, 260)];

/// Relative to the largest gradient. The differences themselves are off by less than 1e-9 of it.
const CENTRAL_TOLERANCE: f64 = 1e-8;

#[test]
#[ignore = "needs a GPU"]
fn gpu_gradients_are_central_differences() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    for variant in Variant::ALL {
        for shape in CHECKED_SHAPES {
            let off = furthest_from_central_differences(&gpu, variant, shape, 1.0)?;
            assert!(off <= CENTRAL_TOLERANCE, "{variant:?} {shape:?}: {off:e}");
        }
    }
    Ok(())
}

/// On the CPU: right gradients pass the check, and those off by a millionth don't.
#[test]
fn central_differences_tell_right_from_wrong() -> Result<()> {
    for variant in Variant::ALL {
        for shape in CHECKED_SHAPES {
            let off =
                |wrong| furthest_from_central_differences(&Device::Cpu, variant, shape, wrong);
            let (right, wrong) = (off(1.0)?, off(1.0 + 1e-6)?);
            assert!(
                right <= CENTRAL_TOLERANCE,
                "{variant:?} {shape:?}: {right:e}"
            );
            assert!(
                wrong > CENTRAL_TOLERANCE,
                "{variant:?} {shape:?}: {wrong:e}"
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn gpu_takes_any_layout() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let loss = ContrastiveLoss::default().reduction(Reduction::None);
    for (count, dim) in [(6, 5), (33, 128), (300, 70), (5, 4100)] {
        for dtype in TYPES {
            let pairs = pairs(count, dim, Variant::Hadsell, dtype)?;
            let cpu = [&pairs.a, &pairs.b, &pairs.same, &pairs.grad_output];
            let [a, b, same, grad_output] = cpu.map(|t| t.to_device(&gpu));
            let (a, b, same, grad_output) = (a?, b?, same?, grad_output?);
            for (a_layout, a) in layouts(&a)? {
                for (b_layout, b) in layouts(&b)? {
                    let what = format!("{dtype:?} ({count}, {dim}), a {a_layout}, b {b_layout}");
                    assert_gpu_follows_cpu(loss, cpu, [&a, &b, &same, &grad_output], &what)?;
                }
            }
            let every_second = |t: &Tensor| Tensor::stack(&[t, t], 1)?.narrow(1, 1, 1)?.squeeze(1);
            let strided = [&a, &b, &every_second(&same)?, &every_second(&grad_output)?];
            let what = format!("{dtype:?} ({count}, {dim}), strided labels and gradient");
            assert_gpu_follows_cpu(loss, cpu, strided, &what)?;
            // One embedding against all: a row with stride 0.
            let anchor = |t: &Tensor| t.narrow(0, 0, 1)?.broadcast_as((count, dim));
            let (on_cpu, on_gpu) = (anchor(&pairs.a)?, anchor(&a)?);
            assert_gpu_follows_cpu(
                loss,
                [&on_cpu, &pairs.b, &pairs.same, &pairs.grad_output],
                [&on_gpu, &b, &same, &grad_output],
                &format!("{dtype:?} ({count}, {dim}), one row against all"),
            )?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn gpu_reads_labels_of_any_type() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let pairs = pairs(40, 16, Variant::Hadsell, DType::F32)?;
    let loss = ContrastiveLoss::default();
    let expected = loss.forward(&pairs.a, &pairs.b, &pairs.same)?;
    let (a, b) = (pairs.a.to_device(&gpu)?, pairs.b.to_device(&gpu)?);
    for dtype in LABELS {
        let same = pairs.same.to_dtype(dtype)?.to_device(&gpu)?;
        let found = loss.forward(&a, &b, &same)?;
        assert_close(&found, &expected, &format!("labels of {dtype:?}"))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn gpu_makes_a_wrong_labels_loss_and_gradient_nan_and_no_others() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let (a, b) = (
        Tensor::ones((3, 2), DType::F32, &gpu)?,
        Tensor::zeros((3, 2), DType::F32, &gpu)?,
    );
    let grad_output = Tensor::ones(3, DType::F32, &gpu)?;
    let loss = ContrastiveLoss::default().reduction(Reduction::None);
    for wrong in [0.75f32, -1.0, 2.0, f32::NAN] {
        let same = Tensor::new(&[1f32, wrong, 0.0], &gpu)?;
        let losses = flat(&loss.forward(&a, &b, &same)?)?;
        assert_eq!(
            losses.iter().map(|x| x.is_nan()).collect::<Vec<_>>(),
            [false, true, false]
        );
        let (of_a, _) = loss.gradient(&a, &b, &same, &grad_output)?;
        let nan: Vec<bool> = flat(&of_a)?.iter().map(|x| x.is_nan()).collect();
        assert_eq!(nan, [false, false, true, true, false, false]);
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn gpu_gives_the_same_bits_on_every_run() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    // More pairs than a grid has teams, so that blocks take turns.
    for (count, dim, dtype) in [
        (100_000, 2, DType::F32),
        (200_000, 64, DType::BF16),
        (20_000, 515, DType::F64),
    ] {
        let pairs = pairs(count, dim, Variant::Hadsell, dtype)?;
        let one = Tensor::new(1f32, &gpu)?.to_dtype(dtype)?;
        let (a, b) = (pairs.a.to_device(&gpu)?, pairs.b.to_device(&gpu)?);
        let same = pairs.same.to_device(&gpu)?;
        let loss = ContrastiveLoss::default();
        let bits = || -> Result<Vec<u64>> {
            let (of_a, of_b) = loss.gradient(&a, &b, &same, &one)?;
            let mut values = flat(&loss.forward(&a, &b, &same)?)?;
            values.extend(flat(&of_a)?);
            values.extend(flat(&of_b)?);
            Ok(values.into_iter().map(f64::to_bits).collect())
        };
        let first = bits()?;
        for run in 1..20 {
            assert!(bits()? == first, "run {run} of {dtype:?} ({count}, {dim})");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn gpu_and_cpu_agree_through_candles_backward() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let pairs = pairs(64, 33, Variant::Hadsell, DType::F32)?;
    for reduction in REDUCTIONS {
        let loss = ContrastiveLoss::default().reduction(reduction);
        let gradients = |device: &Device| -> Result<(Tensor, Tensor)> {
            let a = Var::from_tensor(&pairs.a.to_device(device)?)?;
            let b = Var::from_tensor(&pairs.b.to_device(device)?)?;
            let same = pairs.same.to_device(device)?;
            // A loss weight, and a network's worth of graph on both sides of the op.
            let loss =
                (loss.forward(&a.tanh()?, &(b.as_tensor() * 1.5)?, &same)? * 0.3)?.sum_all()?;
            let gradients = loss.backward()?;
            let of = |x: &Var| {
                gradients
                    .get(x)
                    .cloned()
                    .expect("both sides have a gradient")
            };
            Ok((of(&a), of(&b)))
        };
        let (found, expected) = (gradients(&gpu)?, gradients(&Device::Cpu)?);
        assert_close(&found.0, &expected.0, &format!("{reduction:?}, a"))?;
        assert_close(&found.1, &expected.1, &format!("{reduction:?}, b"))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn gpu_refuses_tensors_on_two_devices() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let a = Tensor::ones((2, 2), DType::F32, &gpu)?;
    let same = Tensor::new(&[1u8, 0], &Device::Cpu)?;
    let loss = ContrastiveLoss::default();
    let error = loss.forward(&a, &a, &same).unwrap_err().to_string();
    assert!(error.contains("Cuda") && error.contains("Cpu"), "{error}");
    let same = same.to_device(&gpu)?;
    let one = Tensor::new(1f32, &Device::Cpu)?;
    let error = loss.gradient(&a, &a, &same, &one).unwrap_err().to_string();
    assert!(error.contains("Cuda") && error.contains("Cpu"), "{error}");
    Ok(())
}

/// Both batches with their labels; rows of another length each, so that distances lie on both sides of
/// the margin.
fn batches(dim: usize, dtype: DType) -> Result<[(Tensor, Tensor); 2]> {
    let batch = |rows: usize, variant| -> Result<(Tensor, Tensor)> {
        let labels = (0..rows).map(|i| (i % 7) as u32);
        Ok((
            pairs(rows, dim, variant, dtype)?.b,
            Tensor::from_iter(labels, &Device::Cpu)?,
        ))
    };
    Ok([
        batch(66, Variant::Hadsell)?,
        batch(31, Variant::ExponentialL1)?,
    ])
}

/// Every setting of the loss over all pairs of a batch.
fn in_batch_losses() -> Vec<InBatchContrastiveLoss> {
    let width = Margin::new(0.4).expect("it is positive");
    let negatives = NonZeroU8::new(3).expect("it is not 0");
    let mut losses = Vec::new();
    for variant in Variant::ALL {
        for miner in [
            Miner::All,
            Miner::Hard,
            Miner::SemiHard { width },
            Miner::Hardest { negatives },
        ] {
            for reduction in [
                InBatchReduction::Mean,
                InBatchReduction::MeanNonZero,
                InBatchReduction::Sum,
            ] {
                let turn = losses.len();
                losses.push(
                    InBatchContrastiveLoss::default()
                        .variant(variant)
                        .miner(miner)
                        .reduction(reduction)
                        .balanced(turn % 2 == 1)
                        .normalised(turn % 5 == 3),
                );
            }
        }
    }
    losses
}

/// Loss and gradients of both batches through candle's backward pass, of one type for all.
fn against(
    loss: InBatchContrastiveLoss,
    batches: &[(Tensor, Tensor); 2],
    device: &Device,
    dtype: DType,
) -> Result<[Tensor; 3]> {
    let on = |(batch, labels): &(Tensor, Tensor)| -> Result<(Var, Tensor)> {
        let batch = batch.to_device(device)?.to_dtype(dtype)?;
        Ok((Var::from_tensor(&batch)?, labels.to_device(device)?))
    };
    let ((a, a_labels), (b, b_labels)) = (on(&batches[0])?, on(&batches[1])?);
    let within = loss.forward(&a, &a_labels)?;
    let across = loss.forward_against(&a, &a_labels, &b, &b_labels)?;
    let value = (within + (across * 0.5)?)?;
    let gradients = value.backward()?;
    let of = |x: &Var| gradients.get(x).cloned().expect("both are tracked");
    Ok([value, of(&a), of(&b)])
}

/// To f64 on the CPU, on the same numbers.
#[test]
#[ignore = "needs a GPU"]
fn gpu_agrees_with_the_cpu_over_all_pairs_of_a_batch() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    for dtype in TYPES {
        for dim in [5, 33] {
            let batches = batches(dim, dtype)?;
            for loss in in_batch_losses() {
                let found = against(loss, &batches, &gpu, dtype)?;
                let expected = against(loss, &batches, &Device::Cpu, DType::F64)?;
                for (which, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let what = format!("{dtype:?}, D = {dim}, {loss:?}, result {which}");
                    assert_close(found, &expected.to_dtype(dtype)?, &what)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn gpu_gives_the_same_bits_over_all_pairs_of_a_batch() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    // More tiles than the grid has blocks, so that blocks take turns.
    let rows = 64 * 96;
    let embeddings = pairs(rows, 17, Variant::Hadsell, DType::F32)?
        .b
        .to_device(&gpu)?;
    let labels = Tensor::from_iter((0..rows).map(|i| (i % 100) as i64), &gpu)?;
    let loss = InBatchContrastiveLoss::default();
    let bits = || -> Result<Vec<u64>> {
        let (value, gradient) = loss.loss_and_gradient(&embeddings, &labels)?;
        let mut values = flat(&value)?;
        values.extend(flat(&gradient)?);
        Ok(values.into_iter().map(f64::to_bits).collect())
    };
    let first = bits()?;
    for run in 1..20 {
        assert!(bits()? == first, "run {run}");
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn gpu_takes_any_layout_of_a_batch() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let [(batch, labels), _] = batches(21, DType::F32)?;
    let loss = InBatchContrastiveLoss::default();
    let (expected, expected_gradient) = loss.loss_and_gradient(&batch, &labels)?;
    let labels = labels.to_device(&gpu)?;
    let strided = Tensor::stack(&[&labels, &labels], 1)?
        .narrow(1, 1, 1)?
        .squeeze(1)?;
    for (layout, batch) in layouts(&batch.to_device(&gpu)?)? {
        let (value, gradient) = loss.loss_and_gradient(&batch, &strided)?;
        assert_close(&value, &expected, layout)?;
        assert_close(&gradient, &expected_gradient, layout)?;
    }
    Ok(())
}

/// With a driver or with stubs in its place.
#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    let error = Device::new_cuda(1000).unwrap_err();
    assert!(error.to_string().contains("CUDA_ERROR"), "{error}");
}
