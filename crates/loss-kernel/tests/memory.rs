//! What the loss and its gradient allocate. A test binary of its own, since it counts for the whole
//! process.

mod allocation;

use allocation::peak;
use candle_core::{DType, Device, Result, Tensor, Var};
use loss_kernel::{ContrastiveLoss, Reduction};

#[test]
fn gradients_allocate_their_result_and_an_untracked_loss_next_to_nothing() -> Result<()> {
    const SLACK: usize = 64 * 1024; // task queues and the chunks' sums
    let (n, d) = (20_000, 64);
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        let a = Tensor::rand(-1f32, 1., (n, d), &Device::Cpu)?.to_dtype(dtype)?;
        let b = Tensor::rand(-1f32, 1., (n, d), &Device::Cpu)?.to_dtype(dtype)?;
        let same = Tensor::zeros(n, DType::U8, &Device::Cpu)?;
        let one = Tensor::ones((), dtype, &Device::Cpu)?;
        let loss = ContrastiveLoss::default();
        loss.gradient(&a, &b, &same, &one)?; // starts the threads
        let result = 2 * n * d * dtype.size_in_bytes();
        for (a, b) in [
            (a.clone(), b.clone()),
            (a.reshape((d, n))?.t()?, b.reshape((d, n))?.t()?),
        ] {
            let (bytes, _) = peak(|| Ok(loss.forward(&a, &b, &same)?))?;
            assert!(bytes < SLACK, "{dtype:?} forward: {bytes}");
            let (bytes, gradients) = peak(|| Ok(loss.gradient(&a, &b, &same, &one)?))?;
            assert_eq!(gradients.0.dims(), [n, d]);
            assert!(
                (result..result + SLACK).contains(&bytes),
                "{dtype:?}: {bytes} for {result}"
            );
            drop(gradients);
            let (bytes, _) = peak(|| Ok(loss.loss_and_gradient(&a, &b, &same)?))?;
            assert!(
                (result..result + SLACK).contains(&bytes),
                "{dtype:?} both: {bytes} for {result}"
            );
        }
        let vars = [Var::from_tensor(&a)?, Var::from_tensor(&b)?];
        let (bytes, _) = peak(|| Ok(loss.forward(&vars[0], &vars[1], &same)?))?;
        assert!(
            (result..result + SLACK).contains(&bytes),
            "{dtype:?} tracked: {bytes} for {result}"
        );
        let each = loss.reduction(Reduction::None);
        let (bytes, _) = peak(|| Ok(each.forward(&a, &b, &same)?))?;
        assert!(
            bytes < n * dtype.size_in_bytes() + SLACK,
            "{dtype:?} each: {bytes}"
        );
    }
    Ok(())
}
