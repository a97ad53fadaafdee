//! Counts what the process allocates, so a test that uses it is a binary of its own.

#![expect(unsafe_code, reason = "an allocator is unsafe to be")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use candle_core::Result;

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

/// The most bytes held at once beyond what was held before, and what the work returned.
pub fn peak<T>(work: impl FnOnce() -> Result<T>) -> Result<(usize, T)> {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = work()?;
    Ok((PEAK.load(Relaxed) - before, result))
}
