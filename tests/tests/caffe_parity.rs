//! Caffe's own four tests of its `ContrastiveLossLayer` (test_contrastive_loss_layer.cpp): 512 pairs
//! of 2-D embeddings uniform in ±1, margin 1, forward and gradient, both versions.
//!
//! Caffe checks its gradients with a step of 1e-2 and a tolerance of 1e-2·max(1, |g|), while no
//! gradient exceeds 4/512: there a gradient of 0 passes. Here they are checked as everywhere else.

use candle_core::{Device, Result, Tensor};
use loss_kernel::{ContrastiveLoss, Variant};
use workspace_tests::compare::{assert_close, values};
use workspace_tests::gradient_check::{Input, check};
use workspace_tests::pairs::{Batch, uniform};

fn batch() -> Result<Batch> {
    uniform(512, 2, 1701)
}

/// The loop of Caffe's forward test.
fn caffe_forward(batch: &Batch, legacy: bool) -> Result<f64> {
    let margin = 1.0;
    let (a, b) = (batch.a.to_vec2::<f64>()?, batch.b.to_vec2::<f64>()?);
    let mut loss = 0.0;
    for (i, same) in batch.same.to_vec1::<u8>()?.into_iter().enumerate() {
        let dist_sq = a[i]
            .iter()
            .zip(&b[i])
            .map(|(a, b)| (a - b) * (a - b))
            .sum::<f64>();
        loss += if same == 1 {
            dist_sq
        } else if legacy {
            f64::max(margin - dist_sq, 0.0)
        } else {
            f64::max(margin - dist_sq.sqrt(), 0.0).powi(2)
        };
    }
    Ok(loss / 512.0 / 2.0)
}

fn forward_agrees(variant: Variant, legacy: bool) -> Result<()> {
    let batch = batch()?;
    let loss = ContrastiveLoss::default().variant(variant);
    let loss = loss.forward(&batch.a, &batch.b, &batch.same)?;
    let expected = Tensor::new(caffe_forward(&batch, legacy)?, &Device::Cpu)?;
    assert_close("loss", &loss, &expected, 1e-14, 0.0);
    Ok(())
}

fn gradient_agrees(variant: Variant) -> Result<()> {
    let batch = batch()?;
    let loss = ContrastiveLoss::default().variant(variant);
    let one = Tensor::new(1.0, &Device::Cpu)?;
    let (of_a, of_b) = loss.gradient(&batch.a, &batch.b, &batch.same, &one)?;
    let inputs = [
        Input::new(&batch.a, &of_a, 1e-6),
        Input::new(&batch.b, &of_b, 1e-6),
    ];
    let decisive = check(&inputs, 1e-5, |sides| {
        Ok(loss.forward(&sides[0], &sides[1], &batch.same)?)
    })?
    .unwrap_or_else(|mismatch| panic!("{mismatch:?}"));
    let sloped = values(&of_a)?.iter().filter(|g| g.abs() > 1e-7).count();
    assert!(
        decisive >= 2 * sloped && sloped > 512,
        "{decisive} of {sloped}"
    );
    Ok(())
}

#[test]
fn forward() -> Result<()> {
    forward_agrees(Variant::Hadsell, false)
}

#[test]
fn gradient() -> Result<()> {
    gradient_agrees(Variant::Hadsell)
}

#[test]
fn forward_legacy() -> Result<()> {
    forward_agrees(Variant::Legacy, true)
}

#[test]
fn gradient_legacy() -> Result<()> {
    gradient_agrees(Variant::Legacy)
}

#[test]
fn caffes_tolerance_accepts_a_zero_gradient() -> Result<()> {
    let batch = batch()?;
    let one = Tensor::new(1.0, &Device::Cpu)?;
    let (of_a, _) = ContrastiveLoss::default().gradient(&batch.a, &batch.b, &batch.same, &one)?;
    let largest = values(&of_a)?
        .into_iter()
        .fold(0.0, |m: f64, g| m.max(g.abs()));
    assert!(
        largest > 0.0 && largest <= 1e-2 * largest.max(1.0),
        "{largest}"
    );
    Ok(())
}
