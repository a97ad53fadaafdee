//! The CUDA kernels of the loss over all pairs of a batch, compiled for the CPU, against the CPU op in
//! f64.

use kernel_tests::emulator::{Element, Kernels, miners};
use kernel_tests::in_batch_grid::{Case, check, formulas, results, shapes};
use loss_kernel::{InBatchReduction, Miner, Variant};

const KERNELS: Kernels = Kernels::LINKED;

const CASE: Case = Case {
    element: Element::F32,
    variant: Variant::Hadsell,
    reduction: InBatchReduction::Mean,
    balanced: false,
    normalised: false,
    miner: Miner::All,
    rows: 130,
    others: 0,
    dim: 20,
    classes: 6,
    transposed: false,
    offset: 0.0,
};

fn check_all(cases: &[Case]) {
    assert!(!cases.is_empty());
    for (index, case) in cases.iter().enumerate() {
        check(&KERNELS, case, index as u64).unwrap();
    }
}

#[test]
fn f16_agrees_with_the_cpu_for_every_shape() {
    check_all(&shapes(Element::F16));
}

#[test]
fn bf16_agrees_with_the_cpu_for_every_shape() {
    check_all(&shapes(Element::BF16));
}

#[test]
fn f32_agrees_with_the_cpu_for_every_shape() {
    check_all(&shapes(Element::F32));
}

#[test]
fn f64_agrees_with_the_cpu_for_every_shape() {
    check_all(&shapes(Element::F64));
}

#[test]
fn every_setting_agrees_with_the_cpu() {
    check_all(&formulas());
}

/// The bound is the one of all cases: 1e-5 of the largest entry.
#[test]
fn far_from_the_origin_nothing_is_cancelled() {
    for variant in Variant::ALL {
        for offset in [1000.0, -1000.0] {
            let case = Case {
                variant,
                offset,
                ..CASE
            };
            check_all(&[case]);
        }
    }
}

#[test]
fn one_row_has_no_pair_no_loss_and_no_gradient() {
    for miner in miners() {
        for normalised in [false, true] {
            let case = Case {
                miner,
                normalised,
                balanced: true,
                rows: 1,
                dim: 3,
                ..CASE
            };
            let (loss, gradient) = results(&KERNELS, &case, &[1.0, -2.0, 0.5]).unwrap();
            assert_eq!((loss, gradient), (0.0, vec![0.0; 3]), "{case:?}");
        }
    }
}

#[test]
fn nan_reaches_every_loss() {
    for variant in Variant::ALL {
        for miner in miners() {
            for normalised in [false, true] {
                for reduction in [InBatchReduction::Mean, InBatchReduction::MeanNonZero] {
                    let case = Case {
                        variant,
                        miner,
                        normalised,
                        reduction,
                        rows: 9,
                        dim: 3,
                        classes: 3,
                        ..CASE
                    };
                    let mut numbers: Vec<f64> = (0..27).map(|i| f64::from(i * i % 7)).collect();
                    let (loss, gradient) = results(&KERNELS, &case, &numbers).unwrap();
                    assert!(loss.is_finite(), "{case:?}: {loss}");
                    assert!(gradient.iter().all(|g| g.is_finite()), "{case:?}");
                    numbers[13] = f64::NAN;
                    let (loss, _) = results(&KERNELS, &case, &numbers).unwrap();
                    assert!(loss.is_nan(), "{case:?}: {loss}");
                }
            }
        }
    }
}
