//! Stores that go past the caches.
//!
//! An ordinary store first reads the line that it writes to, so that a result too large for the
//! caches crosses the memory bus twice. With 2²⁰ pairs of 128 dimensions that read is a third of
//! what the backward pass moves.

#![allow(unsafe_code, reason = "stores of one processor")]

use std::mem::MaybeUninit;

use crate::element::Element;

/// Where both gradients take at least so many bytes, they are streamed: they would not stay in the
/// last level of cache until they are read anyway.
const LARGE: usize = 64 << 20;

/// How one thread stores its part of a result. Until this is dropped, what was written must not be
/// read or written by any other way.
pub(super) struct Stores {
    streamed: bool,
}

impl Stores {
    /// For a result of `elements` in all.
    pub(super) fn of<S>(elements: usize) -> Self {
        Self {
            streamed: cfg!(target_arch = "x86_64") && elements * size_of::<S>() >= LARGE,
        }
    }

    #[inline(always)]
    pub(super) fn write<S: Element>(&self, values: &[S], to: &mut [MaybeUninit<S>]) {
        assert_eq!(values.len(), to.len());
        if self.streamed {
            write_streamed(values, to);
        } else {
            write_cached(values, to);
        }
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.streamed {
            // SAFETY: every x86-64 processor has SSE. Streamed stores are ordered by this alone.
            unsafe { std::arch::x86_64::_mm_sfence() };
        }
    }
}

#[inline(always)]
fn write_cached<S: Element>(values: &[S], to: &mut [MaybeUninit<S>]) {
    for (to, value) in to.iter_mut().zip(values) {
        to.write(*value);
    }
}

#[cfg(not(target_arch = "x86_64"))]
use write_cached as write_streamed;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn write_streamed<S: Element>(values: &[S], to: &mut [MaybeUninit<S>]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};

    const LANES: usize = size_of::<__m128i>();
    let to_the_boundary = to.as_ptr().align_offset(LANES).min(to.len());
    let (head, to) = to.split_at_mut(to_the_boundary);
    let (first, values) = values.split_at(head.len());
    write_cached(first, head);
    let mut to = to.chunks_exact_mut(LANES / size_of::<S>());
    let mut from = values.chunks_exact(LANES / size_of::<S>());
    for (to, from) in (&mut to).zip(&mut from) {
        // SAFETY: every x86-64 processor has SSE2; both slices are 16 bytes of floats, of which any
        // bits are valid, and `to` begins at a multiple of 16 bytes.
        unsafe {
            _mm_stream_si128(
                to.as_mut_ptr().cast(),
                _mm_loadu_si128(from.as_ptr().cast()),
            )
        };
    }
    write_cached(from.remainder(), to.into_remainder());
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    /// Every length and every place that a slice can begin at, with what lies around it.
    fn assert_written<S: Element + PartialEq>(number: impl Fn(usize) -> S) {
        const LONGEST: usize = 40;
        let values: Vec<S> = (0..LONGEST).map(&number).collect();
        let untouched = number(LONGEST);
        for from in 0..16 {
            for length in 0..=LONGEST {
                let mut room = vec![MaybeUninit::new(untouched); from + LONGEST + 1];
                let stores = Stores { streamed: true };
                stores.write(&values[..length], &mut room[from..from + length]);
                drop(stores);
                // SAFETY: all were written at first.
                let room: Vec<S> = room.iter().map(|x| unsafe { x.assume_init() }).collect();
                assert!(room[from..from + length] == values[..length]);
                let around = room[..from].iter().chain(&room[from + length..]);
                assert!(
                    around.into_iter().all(|x| *x == untouched),
                    "{from} {length}"
                );
            }
        }
    }

    #[test]
    fn streamed_values_arrive_whole_and_nowhere_else() {
        assert_written(|i| i as f32 + 0.5);
        assert_written(|i| i as f64 + 0.5);
        assert_written(|i| f16::from_f64(i as f64 + 0.5));
    }

    #[test]
    fn only_results_too_large_for_the_caches_are_streamed() {
        let large = LARGE / size_of::<f32>();
        assert!(!Stores::of::<f32>(large - 1).streamed);
        assert_eq!(
            Stores::of::<f32>(large).streamed,
            cfg!(target_arch = "x86_64")
        );
    }
}
