//! Memory for a result that is not written before the result is.

#![expect(unsafe_code, reason = "memory that is written once, as results")]

use std::mem::MaybeUninit;

use candle_core::{Result, bail};

/// From here on (32 MiB) glibc, unless told otherwise, gives every allocation new pages and takes them
/// back when it ends; below, it hands out pages that the process already holds.
#[cfg(target_os = "linux")]
const ALWAYS_NEW_PAGES: usize = 32 << 20;

/// A vector of `len` elements that `write` writes.
///
/// `vec![0; len]` would write them all first, wherever the allocator hands out memory that was used
/// before.
///
/// # Safety
///
/// Where `write` returns `Ok` it must have written every element.
pub(super) unsafe fn filled<T>(
    len: usize,
    write: impl FnOnce(&mut [MaybeUninit<T>]) -> Result<()>,
) -> Result<Vec<T>> {
    let mut values = Vec::new();
    if values.try_reserve_exact(len).is_err() {
        bail!("no memory for a result of {len} elements");
    }
    let room = &mut values.spare_capacity_mut()[..len];
    #[cfg(target_os = "linux")]
    if size_of_val(room) >= ALWAYS_NEW_PAGES {
        ask_for_huge_pages(room);
    }
    write(room)?;
    // SAFETY: `len` elements have room, and the caller has `write` write them all.
    unsafe { values.set_len(len) };
    Ok(values)
}

/// The kernel hands out new memory page by page, on the first write to each: filling 1 GiB from
/// another took 750 ms with 4 KiB pages and 310 ms with pages of 2 MiB, where memory that was there
/// already took 120 ms (one thread of an EPYC 9004). Where the system leaves the choice to
/// programs, this asks for the large ones. It is advice: refused, all works as without.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages<T>(room: &mut [MaybeUninit<T>]) {
    use rustix::{
        mm::{Advice, madvise},
        param::page_size,
    };

    let start = room.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(page_size());
    let bytes = size_of_val(room).saturating_sub(skipped);
    // SAFETY: the range is inside `room`, and this advice does not change what memory holds.
    let _ = unsafe { madvise(start.add(skipped).cast(), bytes, Advice::LinuxHugepage) };
}
