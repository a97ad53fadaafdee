//! What the loss refuses, and in which words.

use candle_core::{DType, Device, Result, Tensor};
use loss_kernel::{ContrastiveLoss, LossError, Margin, Reduction};

const CPU: &Device = &Device::Cpu;

fn ones(rows: usize, columns: usize) -> Result<Tensor> {
    Tensor::ones((rows, columns), DType::F32, CPU)
}

fn labels(n: usize) -> Result<Tensor> {
    Tensor::ones(n, DType::U8, CPU)
}

fn refusal(a: &Tensor, b: &Tensor, same: &Tensor) -> LossError {
    let loss = ContrastiveLoss::default();
    let one = Tensor::ones((), a.dtype(), CPU).unwrap();
    let refused = loss
        .gradient(a, b, same, &one)
        .expect_err("the gradient must refuse it too");
    let error = loss
        .forward(a, b, same)
        .expect_err("the loss must refuse it");
    assert_eq!(error.to_string(), refused.to_string());
    error
}

fn assert_says(error: &LossError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

#[test]
fn mismatched_sides_are_named() -> Result<()> {
    let error = refusal(&ones(4, 2)?, &ones(4, 3)?, &labels(4)?);
    assert!(matches!(error, LossError::Shape(_)));
    assert_says(&error, &["[4, 2]", "[4, 3]"]);
    assert_says(
        &refusal(&ones(4, 2)?, &ones(5, 2)?, &labels(4)?),
        &["[4, 2]", "[5, 2]"],
    );
    let flat = Tensor::ones(4, DType::F32, CPU)?;
    assert_says(
        &refusal(&flat, &flat, &labels(4)?),
        &["(pairs, dimensions)", "[4]"],
    );
    Ok(())
}

#[test]
fn a_label_for_every_pair_is_asked_for() -> Result<()> {
    let error = refusal(&ones(4, 2)?, &ones(4, 2)?, &labels(3)?);
    assert!(matches!(error, LossError::Shape(_)));
    assert_says(&error, &["[4, 2]", "[3]"]);
    let matrix = labels(4)?.reshape((4, 1))?;
    assert_says(&refusal(&ones(4, 2)?, &ones(4, 2)?, &matrix), &["[4, 1]"]);
    Ok(())
}

#[test]
fn empty_batches_are_refused() -> Result<()> {
    for (rows, columns) in [(0, 2), (2, 0)] {
        let empty = Tensor::zeros((rows, columns), DType::F32, CPU)?;
        let same = Tensor::zeros(rows, DType::U8, CPU)?;
        let error = refusal(&empty, &empty, &same);
        assert!(matches!(error, LossError::Shape(_)), "{error}");
        assert_says(&error, &["at least one pair"]);
    }
    Ok(())
}

#[test]
fn types_are_named() -> Result<()> {
    let wide = ones(4, 2)?.to_dtype(DType::F64)?;
    let error = refusal(&ones(4, 2)?, &wide, &labels(4)?);
    assert!(matches!(error, LossError::DType(_)));
    assert_says(&error, &["F32", "F64"]);
    let whole = ones(4, 2)?.to_dtype(DType::U32)?;
    assert_says(&refusal(&whole, &whole, &labels(4)?), &["U32"]);
    let error = refusal(
        &ones(4, 2)?,
        &ones(4, 2)?,
        &labels(4)?.to_dtype(DType::I64)?,
    );
    assert!(matches!(error, LossError::DType(_)));
    assert_says(&error, &["labels", "I64"]);
    Ok(())
}

#[test]
fn labels_other_than_0_and_1_are_refused_where_caffe_casts_them() -> Result<()> {
    for bad in [0.75f32, -1.0, 2.0, f32::NAN] {
        let same = Tensor::new(&[1f32, 0.0, bad, 1.0], CPU)?;
        let error = refusal(&ones(4, 2)?, &ones(4, 2)?, &same);
        assert_says(&error, &["label 2", &bad.to_string()]);
    }
    let same = Tensor::new(&[7u8, 1], CPU)?;
    assert_says(
        &refusal(&ones(2, 2)?, &ones(2, 2)?, &same),
        &["label 0 is 7"],
    );
    Ok(())
}

#[test]
fn a_margin_is_positive_and_finite() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(
            matches!(Margin::new(bad), Err(LossError::Margin(_))),
            "{bad}"
        );
    }
    assert_eq!(Margin::new(0.25).unwrap().get(), 0.25);
}

#[test]
fn the_results_gradient_must_have_its_shape_and_type() -> Result<()> {
    let (a, same) = (ones(4, 2)?, labels(4)?);
    let one = Tensor::new(1f32, CPU)?;
    let loss = ContrastiveLoss::default();
    assert!(loss.gradient(&a, &a, &same, &one.broadcast_as(4)?).is_err());
    assert!(
        loss.gradient(&a, &a, &same, &one.to_dtype(DType::F64)?)
            .is_err()
    );
    let each = loss.reduction(Reduction::None);
    assert!(each.gradient(&a, &a, &same, &one).is_err());
    assert!(each.gradient(&a, &a, &same, &one.broadcast_as(4)?).is_ok());
    Ok(())
}
