//! What the loss and its gradient allocate. A test binary of its own, since it counts for the whole
//! process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use candle_core::{DType, Device, Result, Tensor};
use loss_kernel::{ContrastiveLoss, Reduction};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only counters are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(
            HELD.fetch_add(layout.size(), Relaxed) + layout.size(),
            Relaxed,
        );
        // SAFETY: the caller's layout, as the caller must have made it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes held at once beyond what was held before.
fn peak<T>(work: impl FnOnce() -> Result<T>) -> Result<(usize, T)> {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = work()?;
    Ok((PEAK.load(Relaxed) - before, result))
}

#[test]
fn the_gradient_allocates_its_result_and_the_loss_next_to_nothing() -> Result<()> {
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
        }
        let each = loss.reduction(Reduction::None);
        let (bytes, _) = peak(|| Ok(each.forward(&a, &b, &same)?))?;
        assert!(
            bytes < n * dtype.size_in_bytes() + SLACK,
            "{dtype:?} each: {bytes}"
        );
    }
    Ok(())
}
