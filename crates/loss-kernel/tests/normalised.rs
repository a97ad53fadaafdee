//! Given pairs of embeddings that the loss divides by their lengths.

use candle_core::{DType, Device, Result, Tensor, Var};
use loss_kernel::{ContrastiveLoss, InBatchContrastiveLoss, Margin, Reduction, Variant};

const CPU: &Device = &Device::Cpu;

fn loss(variant: Variant) -> ContrastiveLoss {
    ContrastiveLoss::new(Margin::new(2.5).unwrap()).variant(variant)
}

/// Sides of very different lengths, and labels.
fn batch(pairs: usize, dim: usize) -> Result<(Tensor, Tensor, Tensor)> {
    let value = |i: usize| (i as f64 * 0.618_033_988_749_895).fract() * 2.0 - 1.0;
    let side = |from: usize| {
        Tensor::from_iter((0..pairs * dim).map(|i| value(from + i)), CPU)?.reshape((pairs, dim))
    };
    let same = Tensor::from_iter((0..pairs).map(|i| u8::from(i % 3 == 0)), CPU)?;
    Ok(((side(1)? * 30.0)?, (side(1_000_003)? * 0.2)?, same))
}

fn unit(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&x.sqr()?.sum_keepdim(1)?.sqrt()?)
}

fn flat(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn assert_close(found: &Tensor, expected: &Tensor, relative: f64, context: &str) -> Result<()> {
    let (found, expected) = (flat(found)?, flat(expected)?);
    let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let off = (found - expected).abs();
        assert!(
            off <= relative * largest,
            "{context}: element {i} is {found:e}, expected {expected:e}"
        );
    }
    Ok(())
}

#[test]
fn value_and_gradients_are_those_of_unit_vectors_and_the_chain_rule() -> Result<()> {
    let types = [
        (DType::F16, 2e-3),
        (DType::BF16, 1.6e-2),
        (DType::F32, 2e-6),
        (DType::F64, 1e-12),
    ];
    for (dtype, relative) in types {
        for (pairs, dim) in [(7, 2), (70, 3), (65, 16), (40, 128), (3, 1500)] {
            let (a, b, same) = batch(pairs, dim)?;
            let (a, b) = (a.to_dtype(dtype)?, b.to_dtype(dtype)?);
            for variant in Variant::ALL {
                for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                    let context = format!("{dtype:?} {pairs}x{dim} {variant:?} {reduction:?}");
                    let plain = loss(variant).reduction(reduction);
                    let sides = [&a, &b].map(|side| Var::from_tensor(&side.to_dtype(DType::F64)?));
                    let [wide_a, wide_b] = sides;
                    let (wide_a, wide_b) = (wide_a?, wide_b?);
                    let expected = plain.forward(&unit(&wide_a)?, &unit(&wide_b)?, &same)?;
                    let gradients = expected.backward()?;

                    let (a, b) = (Var::from_tensor(&a)?, Var::from_tensor(&b)?);
                    let found = plain.normalised(true).forward(&a, &b, &same)?;
                    assert_eq!(found.dtype(), dtype);
                    assert_close(&found, &expected, relative, &context)?;
                    let found = found.backward()?;
                    for (side, wide) in [(&a, &wide_a), (&b, &wide_b)] {
                        let (found, expected) = (found.get(side), gradients.get(wide));
                        assert_close(found.unwrap(), expected.unwrap(), relative, &context)?;
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn two_embeddings_have_the_loss_that_they_have_as_a_batch() -> Result<()> {
    for variant in Variant::ALL {
        for (same, labels) in [(1u8, [5u32, 5]), (0, [5, 6])] {
            let embeddings = Tensor::new(&[[3f64, -4.0, 1.0], [0.1, 0.2, 0.3]], CPU)?;
            let (value, gradient) = InBatchContrastiveLoss::new(Margin::new(2.5).unwrap())
                .variant(variant)
                .normalised(true)
                .loss_and_gradient(&embeddings, &Tensor::new(&labels, CPU)?)?;
            let (a, b) = (embeddings.narrow(0, 0, 1)?, embeddings.narrow(0, 1, 1)?);
            let (loss, same) = (loss(variant).normalised(true), Tensor::new(&[same], CPU)?);
            let context = format!("{variant:?} {labels:?}");
            assert_close(&loss.forward(&a, &b, &same)?, &value, 1e-14, &context)?;
            let (of_a, of_b) = loss.gradient(&a, &b, &same, &value.ones_like()?)?;
            let found = Tensor::cat(&[of_a, of_b], 0)?;
            assert_close(&found, &gradient, 1e-13, &context)?;
        }
    }
    Ok(())
}

#[test]
fn an_embedding_of_zeros_stays_zero_and_has_gradient_zero() -> Result<()> {
    for variant in Variant::ALL {
        let a = Tensor::new(&[[0f32, 0.0], [0.0, 0.0], [0.0, 0.0]], CPU)?;
        let b = Tensor::new(&[[3f32, 4.0], [1e-30, 1e-30], [0.0, 0.0]], CPU)?;
        let same = Tensor::new(&[1u8, 0, 0], CPU)?;
        let loss = loss(variant).reduction(Reduction::None);
        let found = loss.normalised(true).forward(&a, &b, &same)?;
        let half = 0.5f32.sqrt();
        let on_the_circle = Tensor::new(&[[0.6f32, 0.8], [half, half], [0.0, 0.0]], CPU)?;
        let expected = loss.forward(&a, &on_the_circle, &same)?;
        assert_close(&found, &expected, 1e-6, &format!("{variant:?}"))?;
        let ones = found.ones_like()?;
        let (of_a, of_b) = loss.normalised(true).gradient(&a, &b, &same, &ones)?;
        assert!(flat(&of_a)?.iter().all(|&g| g == 0.0), "{variant:?}");
        let of_b = flat(&of_b)?;
        assert!(of_b.iter().all(|g| g.is_finite()), "{variant:?} {of_b:?}");
        assert_eq!(of_b[4..], [0.0, 0.0]);
    }
    Ok(())
}

#[test]
fn layouts_and_threads_do_not_change_a_bit() -> Result<()> {
    for (pairs, dim, dtype) in [
        (5000, 33, DType::F32),
        (40_003, 2, DType::F16),
        (40, 1500, DType::F64),
    ] {
        let (a, b, same) = batch(pairs, dim)?;
        let (a, b) = (a.to_dtype(dtype)?, b.to_dtype(dtype)?);
        let loss = loss(Variant::Hadsell).normalised(true);
        let one = Tensor::ones((), dtype, CPU)?;
        let run = |threads: usize, a: &Tensor, b: &Tensor| -> Result<[Vec<f64>; 3]> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let value = loss.forward(a, b, &same)?;
                let (of_a, of_b) = loss.gradient(a, b, &same, &one)?;
                Ok([flat(&value)?, flat(&of_a)?, flat(&of_b)?])
            })
        };
        let expected = run(1, &a, &b)?;
        let turned = |side: &Tensor| side.t()?.contiguous()?.t();
        for threads in [2, 5] {
            assert!(run(threads, &a, &b)? == expected, "{pairs}x{dim} {dtype:?}");
        }
        assert!(run(2, &turned(&a)?, &b)? == expected);
        assert!(run(2, &a, &turned(&b)?)? == expected);
    }
    Ok(())
}
