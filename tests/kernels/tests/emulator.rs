//! The emulator that runs the CUDA kernels: it does what a device does, and refuses what a device
//! would not survive.

#![expect(unsafe_code, reason = "the kernels are C++")]

use half::{bf16, f16};
use kernel_tests::emulator::{
    CONTRASTIVE_VARIANTS, Kernels, interface_numbers, linked, variant_number,
};
use loss_kernel::Variant;
use rand::Rng;
use workspace_tests::pairs::generator;

#[test]
fn rust_and_c_agree_on_the_interface() {
    let mut numbers = [0; 64];
    // SAFETY: it writes at most as many numbers as it is told.
    let count = unsafe { linked::probe_interface(numbers.as_mut_ptr(), numbers.len()) };
    assert_eq!(interface_numbers(), numbers[..count]);
    let variants: Vec<i32> = Variant::ALL.map(variant_number).into();
    assert_eq!(variants, Vec::from_iter(0..CONTRASTIVE_VARIANTS));
}

#[test]
fn halves_widen_exactly() {
    for bits in 0..=u16::MAX {
        // SAFETY: pure functions.
        let (half, bfloat) = unsafe {
            (
                linked::probe_from_half(bits),
                linked::probe_from_bfloat16(bits),
            )
        };
        let same = |x: f32, y: f32| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
        assert!(same(half, f16::from_bits(bits).to_f32()), "f16 {bits:#x}");
        assert!(
            same(bfloat, bf16::from_bits(bits).to_f32()),
            "bf16 {bits:#x}"
        );
    }
}

/// f64 is wide enough for the numbers between two halves, so the right answer is the neighbour that
/// is nearer, and the even one of two that are equally near.
#[test]
fn halves_round_to_nearest_and_ties_to_even() {
    let check = |narrow: &dyn Fn(f64) -> u16, wide: &dyn Fn(u16) -> f64, infinity: u16| {
        for bits in 0..infinity - 1 {
            let (low, high) = (wide(bits), wide(bits + 1));
            let middle = (low + high) / 2.0;
            let even = bits + (bits & 1);
            let near = (high - low) * 1e-6;
            assert_eq!(narrow(low), bits);
            assert_eq!(narrow(middle), even, "{middle:e}");
            assert_eq!(narrow(middle - near), bits, "{middle:e} − {near:e}");
            assert_eq!(narrow(middle + near), bits + 1, "{middle:e} + {near:e}");
            assert_eq!(narrow(-middle), 0x8000 | even);
        }
        let largest = wide(infinity - 1);
        let half_step = (largest - wide(infinity - 2)) / 2.0;
        assert_eq!(narrow(largest + 0.999 * half_step), infinity - 1);
        assert_eq!(narrow(largest + half_step), infinity);
        assert_eq!(narrow(f64::INFINITY), infinity);
        assert_eq!(narrow(f64::MAX), infinity);
        assert_eq!(narrow(5e-324), 0);
        assert!(wide(narrow(f64::NAN)).is_nan());
    };
    // SAFETY: pure functions.
    check(
        &|x| unsafe { linked::probe_half(x) },
        &|bits| f16::from_bits(bits).to_f64(),
        0x7c00,
    );
    // SAFETY: as above.
    check(
        &|x| unsafe { linked::probe_bfloat16(x) },
        &|bits| bf16::from_bits(bits).to_f64(),
        0x7f80,
    );
}

#[test]
fn floats_round_to_halves_as_the_half_crate_has_it() {
    let mut rng = generator(1);
    for _ in 0..1_000_000 {
        let x = f32::from_bits(rng.random());
        if x.is_nan() {
            continue;
        }
        // SAFETY: pure functions.
        let (half, bfloat) = unsafe {
            (
                linked::probe_half(x.into()),
                linked::probe_bfloat16(x.into()),
            )
        };
        assert_eq!(half, f16::from_f32(x).to_bits(), "f16 of {x:e}");
        assert_eq!(bfloat, bf16::from_f32(x).to_bits(), "bf16 of {x:e}");
    }
}

#[test]
fn shuffles_follow_the_programming_guide() {
    let mut out = [[0i32; 32]; 7];
    // SAFETY: it writes 7 × 32 numbers.
    let code = unsafe { linked::probe_shuffles(out.as_mut_ptr().cast()) };
    Kernels::LINKED.outcome("a probe", code).unwrap();
    for lane in 0..32 {
        let group_of_8 = lane / 8 * 8;
        let expected = [
            5,
            group_of_8 + 3,
            if lane % 16 < 2 { lane } else { lane - 2 },
            if lane % 8 + 3 < 8 { lane + 3 } else { lane },
            lane ^ 16,
            // Groups in front can be read, those behind not.
            if (lane ^ 9) < group_of_8 + 8 {
                lane ^ 9
            } else {
                lane
            },
            if lane < 16 { lane ^ 1 } else { -1 },
        ];
        let actual = out.map(|row| row[lane as usize]);
        assert_eq!(actual, expected, "lane {lane}");
    }
}

fn barriers(first: bool, second: bool, order: u64) -> Vec<f32> {
    let mut out = vec![0.0; 128];
    // SAFETY: it writes 2 × 64 numbers.
    let code = unsafe {
        linked::probe_thread_order(order);
        linked::probe_barriers(out.as_mut_ptr(), first, second)
    };
    Kernels::LINKED.outcome("a probe", code).unwrap();
    out
}

#[test]
fn a_missing_barrier_shows_in_any_order_of_threads() {
    let right: Vec<f32> = (0..2)
        .flat_map(|round| (0..64).map(move |thread| ((63 - thread) * (round + 1)) as f32))
        .collect();
    let same = |numbers: &[f32]| numbers.iter().zip(&right).all(|(x, y)| x == y);
    for order in 0..20 {
        assert!(same(&barriers(true, true, order)), "order {order}");
        assert!(
            !same(&barriers(false, true, order)),
            "reads before all have written, order {order}"
        );
        assert!(
            !same(&barriers(true, false, order)),
            "writes before all have read, order {order}"
        );
    }
}

#[test]
fn what_a_device_would_not_survive_is_refused_and_named() {
    let mistakes = [
        "divergent barrier",
        "has ended",
        "lanes that never come",
        "not in its own mask",
        "takes no part",
        "takes no part",
        "shuffles with mask",
        "not aligned to 8 bytes",
    ];
    for (which, what) in mistakes.iter().enumerate() {
        for order in 0..4 {
            let mut out = [0u64; 2];
            // SAFETY: it writes within `out`.
            let code = unsafe {
                linked::probe_thread_order(order);
                linked::probe_mistake(which as i32, out.as_mut_ptr().cast())
            };
            let error = Kernels::LINKED.outcome("a probe", code).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        // And the next launch on this thread is none the worse for it.
        assert_eq!(barriers(true, true, 0)[0], 63.0);
    }
}

#[test]
fn shared_memory_starts_as_nan() {
    let mut out = 0.0;
    // SAFETY: it writes one number.
    let code = unsafe { linked::probe_shared(&mut out) };
    Kernels::LINKED.outcome("a probe", code).unwrap();
    assert!(out.is_nan());
}

#[test]
fn every_thread_of_every_block_runs_once_in_any_order() {
    const THREADS: usize = 11 * 2 * 2;
    let expected: Vec<u32> = (0..60).flat_map(|_| 1..=THREADS as u32).collect();
    for order in 0..4 {
        let mut out = vec![0u32; 60 * THREADS];
        // SAFETY: it writes one number a thread.
        let code = unsafe {
            linked::probe_thread_order(order);
            linked::probe_where(out.as_mut_ptr(), 11)
        };
        Kernels::LINKED.outcome("a probe", code).unwrap();
        assert_eq!(out, expected);
    }
}

#[test]
fn a_block_that_no_device_takes_is_refused() {
    let mut out = [0u32];
    // SAFETY: nothing runs.
    let code = unsafe { linked::probe_where(out.as_mut_ptr(), 257) };
    let error = Kernels::LINKED.outcome("a probe", code).unwrap_err();
    assert!(error.contains("a block of (257, 2, 2)"), "{error}");
}
