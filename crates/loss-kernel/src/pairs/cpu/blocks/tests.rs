#![expect(unsafe_code, reason = "as the code under test")]

use candle_core::{Layout, WithDType};
use half::f16;

use super::*;
use crate::{Reduction, Variant, pairs::cpu::uninit};

/// The sum of the losses and both gradients, with the vectors of this processor or with those that
/// every processor of its kind has.
fn run<S: Element>(variant: Variant, n: usize, d: usize, plain: bool) -> (u64, Vec<S>) {
    let value = |i: usize| (i as f64 * 0.618_033_988_749_895).fract() / (d as f64).sqrt();
    let side = |from: usize| {
        S::to_cpu_storage_owned((0..n * d).map(|i| S::from_f64(value(from + i))).collect())
    };
    let matrix = &Layout::contiguous((n, d));
    let (vector, scalar) = (&Layout::contiguous(n), &Layout::contiguous(()));
    let (a, b) = (side(1), side(1_000_003));
    let same = u8::to_cpu_storage_owned((0..n).map(|i| u8::from(i % 3 == 0)).collect());
    let one = S::to_cpu_storage_owned(vec![S::from_f64(1.0)]);
    let pairs = &Pairs::<S>::new(
        ContrastiveLoss::default().variant(variant),
        (&a, matrix),
        (&b, matrix),
        (&same, vector),
    )
    .unwrap();
    let grad_output = &GradOutput::new(Reduction::Mean, n, (&one, scalar)).unwrap();
    let sum = Sum { pairs, range: 0..n };
    let sum = if plain {
        sum.call()
    } else {
        Arch::new().dispatch(sum)
    };
    let write = |both: &mut [MaybeUninit<S>]| {
        let (of_a, of_b) = both.split_at_mut(n * d);
        let gradients = Gradients {
            pairs,
            first: 0,
            grad_output,
            sum: None,
            of_a,
            of_b,
        };
        if plain {
            gradients.call()
        } else {
            Arch::new().dispatch(gradients)
        }
    };
    // SAFETY: `Gradients` writes every element of its slices.
    let gradients = unsafe { uninit::filled(2 * n * d, write) };
    (sum.unwrap().to_bits(), gradients.unwrap())
}

fn assert_the_same_bits<S: Element>(n: usize, d: usize) {
    for variant in Variant::ALL {
        let (wide, plain) = (
            run::<S>(variant, n, d, false),
            run::<S>(variant, n, d, true),
        );
        assert!(wide == plain, "{:?} {variant:?} {n}x{d}", S::DTYPE);
    }
}

#[test]
fn any_processor_gives_the_same_bits() {
    for n in [1, 7, 16, 63, 64, 65, 130] {
        for d in (1..=35).chain([127, 128, 129]) {
            assert_the_same_bits::<f32>(n, d);
            assert_the_same_bits::<f64>(n, d);
            assert_the_same_bits::<f16>(n, d);
        }
    }
    for d in [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 17] {
        assert_the_same_bits::<f32>(3, d);
    }
}
