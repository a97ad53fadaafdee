//! The CUDA kernels, compiled for the CPU, against the CPU op in f64.

use kernel_tests::emulator::{Element, Kernels};
use kernel_tests::emulator_grid::{Case, check, formulas, shapes};

fn check_all(cases: &[Case]) {
    for (index, case) in cases.iter().enumerate() {
        check(&Kernels::LINKED, case, index as u64).unwrap();
    }
}

#[test]
fn f16_agrees_with_the_cpu_for_every_shape_and_placement() {
    check_all(&shapes(Element::F16));
}

#[test]
fn bf16_agrees_with_the_cpu_for_every_shape_and_placement() {
    check_all(&shapes(Element::BF16));
}

#[test]
fn f32_agrees_with_the_cpu_for_every_shape_and_placement() {
    check_all(&shapes(Element::F32));
}

#[test]
fn f64_agrees_with_the_cpu_for_every_shape_and_placement() {
    check_all(&shapes(Element::F64));
}

#[test]
fn every_variant_reduction_and_label_type_agrees_with_the_cpu() {
    check_all(&formulas());
}
