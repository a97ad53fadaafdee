//! The contrastive loss's gradient against finite differences in f64, and proof that the check
//! refuses wrong ones.

use candle_core::{DType, Device, Result, Tensor, Var};
use loss_kernel::{ContrastiveLoss, Margin, Reduction, Variant};
use workspace_tests::compare::{assert_close, values};
use workspace_tests::gradient_check::{Input, Mismatch, check};
use workspace_tests::pairs::{Batch, at_distances, generator, uniform};

const RELATIVE: f64 = 1e-6;
const MARGIN: f64 = 1.2;

fn loss(variant: Variant) -> ContrastiveLoss {
    ContrastiveLoss::new(Margin::new(MARGIN).unwrap()).variant(variant)
}

fn norm(variant: Variant) -> u32 {
    if variant == Variant::ExponentialL1 {
        1
    } else {
        2
    }
}

/// The distance at which a dissimilar pair's hinge opens.
fn edge(variant: Variant) -> f64 {
    match variant {
        Variant::Legacy | Variant::Squared => MARGIN.sqrt(),
        _ => MARGIN,
    }
}

/// Both sides of the margin, within 1e-3 of it, far off, nearly and exactly together.
fn distances(variant: Variant) -> [f64; 8] {
    let edge = edge(variant);
    [
        0.4 * edge,
        edge - 5e-4,
        edge + 5e-4,
        0.9 * edge,
        1.5 * edge,
        1e-8,
        0.0,
        1e-3,
    ]
}

fn has_gradient(variant: Variant, distance: f64, same: bool) -> bool {
    let hinged = !matches!(variant, Variant::ExponentialL1 | Variant::ExponentialL2);
    distance > 0.0 && (same || !hinged || distance < edge(variant))
}

/// The gradients that candle's backward pass gives.
fn backward(loss: ContrastiveLoss, batch: &Batch) -> Result<(Tensor, Tensor)> {
    let (a, b) = (Var::from_tensor(&batch.a)?, Var::from_tensor(&batch.b)?);
    let gradients = scalar(loss, &a, &b, &batch.same)?.backward()?;
    Ok((
        gradients.get(&a).unwrap().clone(),
        gradients.get(&b).unwrap().clone(),
    ))
}

/// The loss as one number: losses that are not reduced are weighted, each differently.
fn scalar(loss: ContrastiveLoss, a: &Tensor, b: &Tensor, same: &Tensor) -> Result<Tensor> {
    let losses = loss.forward(a, b, same)?;
    match losses.dims() {
        [] => Ok(losses),
        &[n] => (losses * weights(n)?)?.sum_all(),
        dims => unreachable!("a loss of shape {dims:?}"),
    }
}

fn weights(n: usize) -> Result<Tensor> {
    Tensor::arange(1.0, n as f64 + 1.0, &Device::Cpu)? / 7.0
}

/// Whether a pair's loss is a polynomial in `a − b` inside the margin: no root is taken.
fn polynomial(variant: Variant) -> bool {
    matches!(variant, Variant::Legacy | Variant::Squared)
}

fn check_claim(
    variant: Variant,
    loss: ContrastiveLoss,
    batch: &Batch,
    (of_a, of_b): &(Tensor, Tensor),
) -> Result<std::result::Result<usize, Mismatch>> {
    let step = |nearest: &f64| {
        // A polynomial up to its margin, or a cone at its very tip, bears any step; elsewhere no
        // kink may lie within two of them.
        if polynomial(variant) || *nearest == 0.0 {
            1e-4
        } else {
            (nearest / 100.0).min(1e-4)
        }
    };
    let steps: Vec<f64> = batch.nearest.iter().map(step).collect();
    let input = |at, claimed| Input {
        steps: steps.clone(),
        ..Input::new(at, claimed, 0.0)
    };
    check(
        &[input(&batch.a, of_a), input(&batch.b, of_b)],
        RELATIVE,
        |sides| scalar(loss, &sides[0], &sides[1], &batch.same),
    )
}

#[test]
fn gradients_are_those_of_the_loss() -> Result<()> {
    for variant in Variant::ALL {
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            let loss = loss(variant).reduction(reduction);
            for dim in [1, 2, 10, 128] {
                let cases: Vec<(f64, bool)> = distances(variant)
                    .into_iter()
                    .flat_map(|distance| [(distance, true), (distance, false)])
                    .collect();
                for pairs in [1, 4, 16] {
                    for (seed, chosen) in cases.chunks(pairs).enumerate() {
                        let batch = at_distances(chosen, dim, norm(variant), seed as u64)?;
                        let claimed = backward(loss, &batch)?;
                        let context = format!("{variant:?} {reduction:?} D={dim} {chosen:?}");
                        let decisive = check_claim(variant, loss, &batch, &claimed)?
                            .unwrap_or_else(|mismatch| panic!("{context}: {mismatch:?}"));
                        // Beside other pairs a gradient of 1e-8 is below the rounding of their
                        // sum; alone it is not.
                        let hidden =
                            |d: f64, same| same && d == 1e-8 && pairs > 1 && !polynomial(variant);
                        let sloped = chosen.iter().filter(|&&(d, same)| {
                            has_gradient(variant, d, same) && !hidden(d, same)
                        });
                        assert_eq!(decisive, 2 * dim * sloped.count(), "{context}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_check_refuses_wrong_gradients() -> Result<()> {
    for variant in Variant::ALL {
        for (pairs, dim) in [(1, 1), (4, 2), (16, 10), (512, 2)] {
            // Dissimilar pairs inside the margin, where every variant has a gradient.
            let cases: Vec<(f64, bool)> = (0..pairs)
                .map(|i| (0.3 + 0.4 * i as f64 / pairs as f64, false))
                .collect();
            let batch = at_distances(&cases, dim, norm(variant), 3)?;
            let loss = loss(variant);
            let right = backward(loss, &batch)?;
            assert!(check_claim(variant, loss, &batch, &right)?.is_ok());
            let refused = |what: &str, of_a: Tensor, of_b: Tensor| -> Result<()> {
                let verdict = check_claim(variant, loss, &batch, &(of_a, of_b))?;
                assert!(
                    verdict.is_err(),
                    "{variant:?} N={pairs} D={dim}: {what} passed"
                );
                Ok(())
            };
            let (of_a, of_b) = &right;
            refused("zero", of_a.zeros_like()?, of_b.zeros_like()?)?;
            refused("the wrong sign", of_a.neg()?, of_b.neg()?)?;
            refused("one side zeroed", of_a.clone(), of_b.zeros_like()?)?;
            refused(
                "one part in a hundred thousand",
                (of_a * 1.00001)?,
                (of_b * 1.00001)?,
            )?;
            // Caffe's GPU code for `legacy_version` writes ∓1/N where ∓(a − b)/N is right.
            let factorless = (of_a / (&batch.a - &batch.b)?)?;
            refused(
                "a missing factor (a − b)",
                factorless.clone(),
                factorless.neg()?,
            )?;
            // Caffe divides by d + 1e-4.
            let d = (&batch.a - &batch.b)?.sqr()?.sum_keepdim(1)?.sqrt()?;
            let biased = of_a.broadcast_mul(&(&d / (&d + 1e-4)?)?)?;
            refused(
                "an epsilon below the fraction",
                biased.clone(),
                biased.neg()?,
            )?;
        }
    }
    Ok(())
}

/// A batch whose embeddings have many lengths, and a loss of them that is nowhere flat.
fn of_many_lengths(variant: Variant, pairs: usize, dim: usize) -> Result<(ContrastiveLoss, Batch)> {
    let batch = uniform(pairs, dim, 17)?;
    let batch = Batch {
        a: (batch.a * 3.0)?,
        b: (batch.b * 0.2)?,
        // A component of a, one of b, and their difference each move by less.
        nearest: vec![1e-3; pairs * dim],
        ..batch
    };
    // Unit vectors are at most 2 apart, their squares 4.
    let loss = ContrastiveLoss::new(Margin::new(4.5).unwrap()).variant(variant);
    Ok((loss.normalised(true), batch))
}

#[test]
fn gradients_go_through_the_division_by_the_length() -> Result<()> {
    for variant in Variant::ALL {
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for (pairs, dim) in [(1, 2), (5, 10), (3, 128), (1, 1100)] {
                let (loss, batch) = of_many_lengths(variant, pairs, dim)?;
                let loss = loss.reduction(reduction);
                let claimed = backward(loss, &batch)?;
                let context = format!("{variant:?} {reduction:?} N={pairs} D={dim}");
                let decisive = check_claim(Variant::Hadsell, loss, &batch, &claimed)?
                    .unwrap_or_else(|mismatch| panic!("{context}: {mismatch:?}"));
                // A few entries may be too near 0 to tell.
                assert!(
                    decisive * 100 >= 2 * pairs * dim * 98,
                    "{context}: {decisive}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_check_refuses_gradients_that_do_not_go_through_the_division() -> Result<()> {
    for variant in Variant::ALL {
        for (pairs, dim) in [(1, 2), (4, 3), (16, 10)] {
            let (loss, batch) = of_many_lengths(variant, pairs, dim)?;
            let verdict = |sides: [Tensor; 2]| {
                let [of_a, of_b] = sides;
                check_claim(Variant::Hadsell, loss, &batch, &(of_a, of_b))
            };
            let lengths = [&batch.a, &batch.b].map(|x| x.sqr()?.sum_keepdim(1)?.sqrt());
            let [of_a, of_b] = lengths;
            let lengths = [of_a?, of_b?];
            let units = [
                batch.a.broadcast_div(&lengths[0])?,
                batch.b.broadcast_div(&lengths[1])?,
            ];
            let one = Tensor::new(1.0, &Device::Cpu)?;
            let (of_a, of_b) =
                loss.normalised(false)
                    .gradient(&units[0], &units[1], &batch.same, &one)?;
            let of_units = [of_a, of_b];
            let project = |side: usize| -> Result<Tensor> {
                let along = (&of_units[side] * &units[side])?.sum_keepdim(1)?;
                &of_units[side] - units[side].broadcast_mul(&along)?
            };
            let projected = [project(0)?, project(1)?];
            let divided = |gradients: &[Tensor; 2]| -> Result<[Tensor; 2]> {
                Ok([
                    gradients[0].broadcast_div(&lengths[0])?,
                    gradients[1].broadcast_div(&lengths[1])?,
                ])
            };
            assert!(
                verdict(divided(&projected)?)?.is_ok(),
                "{variant:?} N={pairs} D={dim}"
            );
            assert!(
                verdict(divided(&of_units)?)?.is_err(),
                "no projection passed"
            );
            assert!(verdict(projected)?.is_err(), "no division passed");
            assert!(
                verdict(of_units)?.is_err(),
                "the gradient of the unit vectors passed"
            );
        }
    }
    Ok(())
}

#[test]
fn a_pair_at_distance_zero_has_gradient_zero() -> Result<()> {
    for variant in Variant::ALL {
        let batch = at_distances(&[(0.0, true), (0.0, false)], 3, norm(variant), 1)?;
        let (of_a, of_b) = backward(loss(variant), &batch)?;
        assert_eq!(values(&of_a)?, [0.0; 6], "{variant:?}");
        assert_eq!(values(&of_b)?, [0.0; 6].map(|x: f64| -x), "{variant:?}");
    }
    Ok(())
}

#[test]
fn a_dissimilar_pair_at_the_margin_or_beyond_has_gradient_zero() -> Result<()> {
    let a = Tensor::new(&[[0.0, 0.0], [0.0, 0.0]], &Device::Cpu)?;
    let b = Tensor::new(&[[1.0, 0.0], [0.0, 2.0]], &Device::Cpu)?;
    let same = Tensor::new(&[0u8, 0], &Device::Cpu)?;
    for variant in [Variant::Hadsell, Variant::Legacy, Variant::Squared] {
        let loss = ContrastiveLoss::default().variant(variant);
        let one = Tensor::new(1.0, &Device::Cpu)?;
        let (of_a, of_b) = loss.gradient(&a, &b, &same, &one)?;
        for gradient in [of_a, of_b] {
            assert!(values(&gradient)?.iter().all(|&g| g == 0.0), "{variant:?}");
        }
    }
    Ok(())
}

#[test]
fn a_loss_weight_scales_the_gradient() -> Result<()> {
    let batch = uniform(8, 3, 5)?;
    let (a, b) = (Var::from_tensor(&batch.a)?, Var::from_tensor(&batch.b)?);
    let plain = loss(Variant::Hadsell).forward(&a, &b, &batch.same)?;
    let weighted = (&plain * 3.0)?.backward()?;
    let plain = plain.backward()?;
    for side in [&a, &b] {
        let expected = (plain.get(side).unwrap() * 3.0)?;
        assert_close(
            "weighted",
            weighted.get(side).unwrap(),
            &expected,
            1e-15,
            0.0,
        );
    }
    Ok(())
}

#[test]
fn narrow_types_give_the_gradient_of_f64_to_their_precision() -> Result<()> {
    // (type, unit roundoff with a margin of 2, absolute: the smallest step of the type near 0 and,
    // for f32, the distance's own rounding at the hinge)
    let types = [
        (DType::F16, 2f64.powi(-10), 1.2e-7),
        (DType::BF16, 2f64.powi(-7), 1e-9),
        (DType::F32, 1e-6, 1e-8),
    ];
    for variant in Variant::ALL {
        for (dtype, relative, absolute) in types {
            for (pairs, dim) in [(1, 1), (16, 10), (300, 128)] {
                let batch = uniform(pairs, dim, 11)?;
                let (a, b) = (batch.a.to_dtype(dtype)?, batch.b.to_dtype(dtype)?);
                // The same numbers for both, so that only the arithmetic differs.
                let wide = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
                let loss = loss(variant);
                let what = format!("{variant:?} {dtype:?} N={pairs} D={dim}");
                let narrow_loss = loss.forward(&a, &b, &batch.same)?;
                assert_eq!(narrow_loss.dtype(), dtype);
                let wide_loss = loss.forward(&wide.0, &wide.1, &batch.same)?;
                assert_close(&what, &narrow_loss, &wide_loss, relative, 0.0);
                let one = |dtype| Tensor::ones((), dtype, &Device::Cpu);
                let narrow = loss.gradient(&a, &b, &batch.same, &one(dtype)?)?;
                let wide = loss.gradient(&wide.0, &wide.1, &batch.same, &one(DType::F64)?)?;
                assert_close(&what, &narrow.0, &wide.0, relative, absolute);
                assert_close(&what, &narrow.1, &wide.1, relative, absolute);
            }
        }
    }
    Ok(())
}

#[test]
fn training_pulls_similar_pairs_together_and_pushes_dissimilar_ones_to_the_margin() -> Result<()> {
    let mut rng = generator(2);
    let batch = at_distances(
        &[(2.0, true), (0.1, false), (3.0, false)],
        2,
        2,
        rand::Rng::random(&mut rng),
    )?;
    let (a, b) = (Var::from_tensor(&batch.a)?, Var::from_tensor(&batch.b)?);
    for _ in 0..400 {
        let gradients = loss(Variant::Hadsell)
            .forward(&a, &b, &batch.same)?
            .backward()?;
        for side in [&a, &b] {
            side.set(&(side.as_tensor() - (gradients.get(side).unwrap() * 0.1)?)?)?;
        }
    }
    let distances = values(&(a.as_tensor() - b.as_tensor())?.sqr()?.sum(1)?.sqrt()?)?;
    assert!(distances[0] < 1e-3, "{distances:?}");
    assert!((distances[1] - MARGIN).abs() < 1e-3, "{distances:?}");
    assert!((distances[2] - 3.0).abs() < 1e-12, "{distances:?}");
    Ok(())
}
