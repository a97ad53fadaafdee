//! What the loss is worth: reference values, worked cases, layouts, threads.

use candle_core::{DType, Device, Result, Tensor};
use loss_kernel::{ContrastiveLoss, Margin, Reduction, Variant, contrastive_loss};

const CPU: &Device = &Device::Cpu;

/// Unit vectors at 0, 20, 40, 60 and 80 degrees, labels 0, 0, 1, 1, 2: all 20 ordered pairs.
fn fan() -> Result<(Tensor, Tensor, Tensor)> {
    let labels = [0, 0, 1, 1, 2];
    let point = |i: usize| {
        let (sin, cos) = (20.0 * i as f64).to_radians().sin_cos();
        vec![cos, sin]
    };
    let (mut a, mut b, mut same) = (vec![], vec![], vec![]);
    for i in 0..5 {
        for j in (0..5).filter(|&j| j != i) {
            a.push(point(i));
            b.push(point(j));
            same.push(u8::from(labels[i] == labels[j]));
        }
    }
    Ok((
        Tensor::new(a, CPU)?,
        Tensor::new(b, CPU)?,
        Tensor::new(same, CPU)?,
    ))
}

/// The formulas as the papers write them, one pair at a time.
fn by_hand(variant: Variant, a: &[f64], b: &[f64], y: f64, m: f64) -> f64 {
    let l1: f64 = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum();
    let d = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt();
    let hinge = |gap: f64| gap.max(0.0);
    let exponential = |e: f64| y * 2.0 / m * e * e + (1.0 - y) * 2.0 * m * (-2.77 / m * e).exp();
    match variant {
        Variant::Hadsell => (y * d * d + (1.0 - y) * hinge(m - d).powi(2)) / 2.0,
        Variant::Legacy => (y * d * d + (1.0 - y) * hinge(m - d * d)) / 2.0,
        Variant::Squared => (y * d * d + (1.0 - y) * hinge(m - d * d).powi(2)) / 2.0,
        Variant::ExponentialL1 => exponential(l1),
        Variant::ExponentialL2 => exponential(d),
    }
}

fn batch(pairs: usize, dim: usize) -> Result<(Tensor, Tensor, Tensor)> {
    // A Weyl sequence: spread evenly, the same everywhere.
    let value = |i: usize| (i as f64 * 0.618_033_988_749_895).fract() * 2.0 - 1.0;
    let side = |from: usize| {
        Tensor::from_iter((0..pairs * dim).map(|i| value(from + i)), CPU)?.reshape((pairs, dim))
    };
    let same = Tensor::from_iter((0..pairs).map(|i| u8::from(i % 3 == 0)), CPU)?;
    Ok((side(1)?, side(1_000_003)?, same))
}

#[test]
fn reference_values_come_out() -> Result<()> {
    let (a, b, same) = fan()?;
    for (variant, margin, expected) in [
        (Variant::Hadsell, 1.0, 0.0696382617),
        (Variant::Hadsell, 1.5, 0.2721014825),
        (Variant::Legacy, 1.0, 0.1798133329),
        (Variant::Legacy, 1.5, 0.3548133329),
    ] {
        let loss = ContrastiveLoss::new(Margin::new(margin).unwrap()).variant(variant);
        let loss = loss.forward(&a, &b, &same)?.to_scalar::<f64>()?;
        assert!(
            (loss - expected).abs() < 1e-9,
            "{variant:?} m={margin}: {loss}"
        );
    }
    let plain = contrastive_loss(&a, &b, &same, 1.5)?.to_scalar::<f64>()?;
    assert!((plain - 0.2721014825).abs() < 1e-9, "{plain}");
    Ok(())
}

#[test]
fn each_pair_has_the_papers_loss() -> Result<()> {
    for (pairs, dim) in [(1, 1), (7, 2), (40, 16), (33, 129), (5, 20_000)] {
        let (a, b, same) = batch(pairs, dim)?;
        for variant in Variant::ALL {
            let loss = ContrastiveLoss::new(Margin::new(1.3).unwrap()).variant(variant);
            let losses = loss
                .reduction(Reduction::None)
                .forward(&a, &b, &same)?
                .to_vec1::<f64>()?;
            let (a, b) = (a.to_vec2::<f64>()?, b.to_vec2::<f64>()?);
            for (i, y) in same.to_vec1::<u8>()?.into_iter().enumerate() {
                let expected = by_hand(variant, &a[i], &b[i], y.into(), 1.3);
                let off = (losses[i] - expected).abs();
                assert!(
                    off <= 1e-12 * expected.abs() + 1e-15,
                    "{variant:?} pair {i}: {} {expected}",
                    losses[i]
                );
            }
        }
    }
    Ok(())
}

#[test]
fn reductions_agree() -> Result<()> {
    let (a, b, same) = batch(1000, 40)?;
    let loss = ContrastiveLoss::default();
    let each = loss.reduction(Reduction::None).forward(&a, &b, &same)?;
    assert_eq!(each.dims(), [1000]);
    let expected: f64 = each.to_vec1::<f64>()?.iter().sum();
    let sum = loss
        .reduction(Reduction::Sum)
        .forward(&a, &b, &same)?
        .to_scalar::<f64>()?;
    let mean = loss.forward(&a, &b, &same)?.to_scalar::<f64>()?;
    assert!((sum - expected).abs() < 1e-12 * expected);
    assert!((mean - expected / 1000.0).abs() < 1e-12 * expected);
    Ok(())
}

#[test]
fn any_layout_gives_the_same_loss_and_gradient() -> Result<()> {
    let one = Tensor::new(1.0, CPU)?;
    for (pairs, dim) in [(6, 5), (300, 70)] {
        let (a, b, same) = batch(pairs, dim)?;
        let loss = ContrastiveLoss::default();
        let expected = loss.forward(&a, &b, &same)?.to_scalar::<f64>()?;
        let (of_a, of_b) = loss.gradient(&a, &b, &same, &one)?;
        let transposed = |t: &Tensor| t.t()?.contiguous()?.t();
        let offset = |t: &Tensor| Tensor::cat(&[t, t], 0)?.narrow(0, pairs, pairs);
        let columns = |t: &Tensor| Tensor::cat(&[t, t, t], 1)?.narrow(1, dim, dim);
        for (name, a, b) in [
            ("transposed", transposed(&a)?, transposed(&b)?),
            ("mixed", a.clone(), transposed(&b)?),
            ("rows of a larger tensor", offset(&a)?, offset(&b)?),
            ("columns of a larger tensor", columns(&a)?, columns(&b)?),
        ] {
            let found = loss.forward(&a, &b, &same)?.to_scalar::<f64>()?;
            assert_eq!(found, expected, "{name}");
            let found = loss.gradient(&a, &b, &same, &one)?;
            assert_eq!(found.0.to_vec2::<f64>()?, of_a.to_vec2::<f64>()?, "{name}");
            assert_eq!(found.1.to_vec2::<f64>()?, of_b.to_vec2::<f64>()?, "{name}");
        }
        // One embedding against all: a row with stride 0.
        let anchor = a.narrow(0, 0, 1)?;
        let view = anchor.broadcast_as((pairs, dim))?;
        let copy = view.contiguous()?;
        let found = loss.forward(&view, &b, &same)?.to_scalar::<f64>()?;
        assert_eq!(found, loss.forward(&copy, &b, &same)?.to_scalar::<f64>()?);
        // Every second label of a longer list.
        let labels = Tensor::stack(&[&same, &same.ones_like()?], 1)?
            .narrow(1, 0, 1)?
            .squeeze(1)?;
        assert_eq!(loss.forward(&a, &b, &labels)?.to_scalar::<f64>()?, expected);
    }
    Ok(())
}

#[test]
fn labels_of_any_type_mean_the_same() -> Result<()> {
    let (a, b, same) = batch(20, 3)?;
    let loss = ContrastiveLoss::default();
    let expected = loss.forward(&a, &b, &same)?.to_scalar::<f64>()?;
    for dtype in [DType::U32, DType::F16, DType::BF16, DType::F32, DType::F64] {
        let found = loss
            .forward(&a, &b, &same.to_dtype(dtype)?)?
            .to_scalar::<f64>()?;
        assert_eq!(found, expected, "{dtype:?}");
    }
    Ok(())
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() -> Result<()> {
    for (pairs, dim, dtype) in [
        (5000, 33, DType::F32),
        (40_003, 2, DType::F32),
        (5000, 33, DType::F16),
        (5000, 33, DType::F64),
    ] {
        let (a, b, same) = batch(pairs, dim)?;
        let (a, b) = (a.to_dtype(dtype)?, b.to_dtype(dtype)?);
        let one = Tensor::ones((), dtype, CPU)?;
        let run = |threads: usize| -> Result<[Vec<f64>; 4]> {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let loss = ContrastiveLoss::default();
                let value = loss.forward(&a, &b, &same)?;
                let each = loss.reduction(Reduction::None).forward(&a, &b, &same)?;
                let (of_a, of_b) = loss.gradient(&a, &b, &same, &one)?;
                Ok([value, each, of_a, of_b].map(|t| {
                    let wide = t.to_dtype(DType::F64).and_then(|t| t.flatten_all());
                    wide.unwrap().to_vec1().unwrap()
                }))
            })
        };
        let expected = run(1)?;
        for threads in [2, 5] {
            assert!(run(threads)? == expected, "{pairs}x{dim} {dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn every_remainder_has_the_papers_gradient() -> Result<()> {
    let one = Tensor::new(1.0, CPU)?;
    let loss = ContrastiveLoss::default().reduction(Reduction::Sum);
    for pairs in [1, 15, 63, 64, 65, 130] {
        for dim in [1, 2, 3, 15, 16, 17, 33, 1023, 1024, 1025, 2065] {
            let (a, b, same) = batch(pairs, dim)?;
            // Distances on both sides of the margin.
            let scale = 1.2 / (dim as f64).sqrt();
            let (a, b) = (a.affine(scale, 0.0)?, b.affine(scale, 0.0)?);
            let (of_a, of_b) = loss.gradient(&a, &b, &same, &one)?;
            let [a, b, of_a, of_b] = [&a, &b, &of_a, &of_b].map(|t| t.to_vec2::<f64>().unwrap());
            for (i, y) in same.to_vec1::<u8>()?.into_iter().enumerate() {
                let difference = |k: usize| a[i][k] - b[i][k];
                let d = (0..dim).map(|k| difference(k).powi(2)).sum::<f64>().sqrt();
                let slope = if y == 1 { 1.0 } else { -(1.0 - d).max(0.0) / d };
                for k in 0..dim {
                    let expected = slope * difference(k);
                    for found in [of_a[i][k], -of_b[i][k]] {
                        assert!(
                            (found - expected).abs() <= 1e-13,
                            "pair {i}, component {k} of {pairs}x{dim}: {found} for {expected}"
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_nan_is_not_hidden_by_the_hinge() -> Result<()> {
    let a = Tensor::new(&[[f32::NAN, 0.0]], CPU)?;
    let b = Tensor::new(&[[0f32, 0.0]], CPU)?;
    let one = Tensor::new(1f32, CPU)?;
    for variant in Variant::ALL {
        for same in [0u8, 1] {
            let same = Tensor::new(&[same], CPU)?;
            let loss = ContrastiveLoss::default().variant(variant);
            assert!(
                loss.forward(&a, &b, &same)?.to_scalar::<f32>()?.is_nan(),
                "{variant:?}"
            );
            let (of_a, _) = loss.gradient(&a, &b, &same, &one)?;
            assert!(of_a.to_vec2::<f32>()?[0][0].is_nan(), "{variant:?}");
        }
    }
    Ok(())
}
