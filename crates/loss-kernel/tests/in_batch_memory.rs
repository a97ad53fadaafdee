//! What the loss over all pairs allocates. A test binary of its own, since it counts for the whole
//! process.

mod allocation;

use std::num::NonZeroU8;

use allocation::peak;
use candle_core::{DType, Device, Result, Tensor};
use loss_kernel::{InBatchContrastiveLoss, InBatchReduction, Miner, Variant};

#[test]
fn memory_grows_with_the_rows_and_not_with_the_pairs() -> Result<()> {
    const THREADS: usize = 2;
    // Of each row: label, class, place, norm, bounds and statistics of a miner, and where its
    // gradient lies.
    const ROW: usize = 128;
    // Of each thread: 256 × 256 values, six blocks of 256 rows, packed operands of a product.
    let tile = |dim: usize| 8 * (256 * 256 + 8 * 256 * dim) + (1 << 20);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(THREADS)
        .build()
        .unwrap();
    let all = InBatchContrastiveLoss::default();
    let mined = all
        .miner(Miner::Hardest {
            negatives: NonZeroU8::new(4).unwrap(),
        })
        .reduction(InBatchReduction::MeanNonZero)
        .balanced(true)
        .normalised(true);
    for (loss, rows, dim) in [
        (all, 6000, 2),
        (mined, 6000, 16),
        (all.variant(Variant::Squared), 6000, 128),
    ] {
        let x = Tensor::rand(-1f32, 1., (rows, dim), &Device::Cpu)?;
        let labels = Tensor::from_iter((0..rows as u32).map(|i| i % 100), &Device::Cpu)?;
        pool.install(|| -> Result<()> {
            let few = |t: &Tensor| t.narrow(0, 0, 300);
            loss.loss_and_gradient(&few(&x)?, &few(&labels)?)?; // starts the threads
            let bound = ROW * rows + THREADS * tile(dim);
            // A byte a pair would not pass, nor one for each unordered pair.
            assert!(bound + rows * dim * 4 < rows * rows / 2);
            let (bytes, _) = peak(|| Ok(loss.forward(&x, &labels)?))?;
            assert!(bytes < bound, "N={rows} D={dim} loss: {bytes} of {bound}");
            let (bytes, _) = peak(|| Ok(loss.loss_and_gradient(&x, &labels)?))?;
            let gradient = rows * dim * DType::F32.size_in_bytes();
            assert!(
                (gradient..gradient + bound).contains(&bytes),
                "N={rows} D={dim} gradient: {bytes} of {bound} + {gradient}"
            );
            Ok(())
        })?;
        // At N = 65,536 and D = 128 these bounds are below 32 MiB.
        assert!(ROW * 65_536 + THREADS * tile(128) < 32 << 20);
    }
    Ok(())
}
