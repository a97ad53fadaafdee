//! A loss that leaves its gradients for the backward pass has the bits of one that does not.

use candle_core::{DType, Device, Result, Tensor, Var};
use loss_kernel::{ContrastiveLoss, Reduction, Variant};

const CPU: &Device = &Device::Cpu;

/// Pairs on both sides of the margin, in more chunks than one.
fn batch(dim: usize, dtype: DType) -> Result<(Tensor, Tensor, Tensor)> {
    let pairs = 40_000 / dim + 3;
    let scale = 2.4 / (dim as f64).sqrt();
    let value = |i: usize| ((i as f64 * 0.618_033_988_749_895).fract() - 0.5) * scale;
    let side = |from: usize| {
        Tensor::from_iter((0..pairs * dim).map(|i| value(from + i)), CPU)?
            .reshape((pairs, dim))?
            .to_dtype(dtype)
    };
    let same = Tensor::from_iter((0..pairs).map(|i| u8::from(i % 3 == 0)), CPU)?;
    Ok((side(1)?, side(1_000_003)?, same))
}

/// Its numbers; f64 holds those of every type.
fn flat(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn assert_same(found: &Tensor, expected: &Tensor, case: &str) -> Result<()> {
    assert_eq!(found.dims(), expected.dims(), "{case}");
    assert_eq!(found.dtype(), expected.dtype(), "{case}");
    // Not `assert_eq`, which would print them all.
    assert!(flat(found)? == flat(expected)?, "{case}");
    Ok(())
}

#[test]
fn value_and_gradients_are_those_of_the_two_operations() -> Result<()> {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        for dim in [2, 33, 1500] {
            let (a, b, same) = batch(dim, dtype)?;
            for variant in Variant::ALL {
                for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                    for normalised in [false, true] {
                        let loss = ContrastiveLoss::default().variant(variant);
                        let loss = loss.reduction(reduction).normalised(normalised);
                        let case = format!("{loss:?} {dtype:?} {dim}");
                        let value = loss.forward(&a, &b, &same)?;
                        let (of_a, of_b) = loss.gradient(&a, &b, &same, &value.ones_like()?)?;
                        let (found, gradients) = loss.loss_and_gradient(&a, &b, &same)?;
                        assert_same(&found, &value, &case)?;
                        assert_same(&gradients.0, &of_a, &case)?;
                        assert_same(&gradients.1, &of_b, &case)?;

                        let vars = [Var::from_tensor(&a)?, Var::from_tensor(&b)?];
                        let found = loss.forward(&vars[0], &vars[1], &same)?;
                        assert_same(&found, &value, &case)?;
                        // As candle adds them to zeros, where a subnormal bf16 becomes 0.
                        let [of_a, of_b] = [of_a, of_b].map(|of| of.zeros_like()? + of);
                        let (of_a, of_b) = (of_a?, of_b?);
                        // The second time, nothing is left from the forward pass.
                        for _ in 0..2 {
                            let gradients = found.backward()?;
                            assert_same(gradients.get(&vars[0]).unwrap(), &of_a, &case)?;
                            assert_same(gradients.get(&vars[1]).unwrap(), &of_b, &case)?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// As with a loss scaled up so that the gradients of halves do not vanish: what is rounded is the
/// product, not one of its factors.
#[test]
fn a_weighted_loss_has_the_gradients_of_its_weight() -> Result<()> {
    for dtype in [DType::F16, DType::F32] {
        let (a, b, same) = batch(2, dtype)?;
        let vars = [Var::from_tensor(&a)?, Var::from_tensor(&b)?];
        let loss = ContrastiveLoss::default();
        let weighted = (loss.forward(&vars[0], &vars[1], &same)? * 1000.0)?;
        let weight = Tensor::new(1000f32, CPU)?.to_dtype(dtype)?;
        let (of_a, of_b) = loss.gradient(&a, &b, &same, &weight)?;
        let gradients = weighted.backward()?;
        assert_same(gradients.get(&vars[0]).unwrap(), &of_a, "a")?;
        assert_same(gradients.get(&vars[1]).unwrap(), &of_b, "b")?;
        // Were the gradients for 1 multiplied instead, they would not be the same.
        let one = Tensor::ones((), dtype, CPU)?;
        let (unweighted, _) = loss.gradient(&a, &b, &same, &one)?;
        assert!(flat(&(unweighted * 1000.0)?)? != flat(&of_a)?, "{dtype:?}");
    }
    Ok(())
}

#[test]
fn one_side_alone_can_be_tracked_in_any_layout() -> Result<()> {
    let (a, b, same) = batch(33, DType::F32)?;
    let loss = ContrastiveLoss::default();
    let one = Tensor::new(1f32, CPU)?;
    let (of_a, _) = loss.gradient(&a, &b, &same, &one)?;
    let transposed = Var::from_tensor(&a.t()?.contiguous()?)?;
    let value = loss.forward(&transposed.t()?, &b, &same)?;
    let gradients = value.backward()?;
    assert_same(gradients.get(&transposed).unwrap(), &of_a.t()?, "a")?;
    assert!(gradients.get(&b).is_none());
    Ok(())
}
