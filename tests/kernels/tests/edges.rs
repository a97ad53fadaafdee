//! The CUDA kernels where something is special: the margin, no distance, NaN, labels, sizes.

#![expect(unsafe_code, reason = "the kernels are C++")]

use std::ffi::c_void;
use std::ptr::null_mut;

use candle_core::{Device, Tensor};
use kernel_tests::emulator::{
    Buffer, Element, Kernels, contrastive_matrix, contrastive_pairs, linked, reduction_number,
    variant_number,
};
use loss_kernel::{ContrastiveLoss, Margin, Reduction, Variant};
use workspace_tests::compare::values;

const KERNELS: Kernels = Kernels::LINKED;

/// One type, row after row, and 1 as the gradient of the output.
struct Batch<'a> {
    element: Element,
    variant: Variant,
    reduction: Reduction,
    margin: f64,
    normalised: bool,
    dim: usize,
    a: &'a [f64],
    b: &'a [f64],
    label: Element,
    same: &'a [f64],
}

fn buffer(element: Element, numbers: &[f64]) -> Buffer {
    let mut buffer = Buffer::new(numbers.len() * element.bytes(), 0);
    for (bytes, &number) in buffer
        .contents_mut()
        .chunks_exact_mut(element.bytes())
        .zip(numbers)
    {
        element.encode(number, bytes);
    }
    buffer
}

fn numbers(element: Element, buffer: &Buffer) -> Vec<f64> {
    buffer
        .contents()
        .chunks_exact(element.bytes())
        .map(|bytes| element.decode(bytes))
        .collect()
}

fn matrix(buffer: &mut Buffer, row_stride: usize, column_stride: usize) -> contrastive_matrix {
    contrastive_matrix {
        data: buffer.address(),
        row_stride: row_stride as i64,
        column_stride: column_stride as i64,
    }
}

impl Batch<'_> {
    /// Losses, and the gradients of both sides.
    fn run(&self) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let n = self.same.len();
        let (mut a, mut b) = (buffer(self.element, self.a), buffer(self.element, self.b));
        let mut same = buffer(self.label, self.same);
        let results = if self.reduction == Reduction::None {
            n
        } else {
            1
        };
        let mut grad_output = buffer(self.element, &vec![1.0; results]);
        let pairs = contrastive_pairs {
            a: matrix(&mut a, self.dim, 1),
            b: matrix(&mut b, self.dim, 1),
            same: matrix(&mut same, 1, 0),
            pairs: n as i64,
            dim: self.dim as i64,
            type_: self.element as i32,
            label_type: self.label as i32,
            variant: variant_number(self.variant),
            reduction: reduction_number(self.reduction),
            margin: self.margin,
            normalised: self.normalised.into(),
        };
        let mut loss = Buffer::new(results * self.element.bytes(), 0);
        let mut gradients = Buffer::new(2 * n * self.dim * self.element.bytes(), 0);
        let grad_output = matrix(&mut grad_output, usize::from(results > 1), 0);
        forward(&pairs, loss.address()).unwrap();
        backward(&pairs, grad_output, gradients.address()).unwrap();
        let mut of_a = numbers(self.element, &gradients);
        let of_b = of_a.split_off(n * self.dim);
        (numbers(self.element, &loss), of_a, of_b)
    }
}

fn forward(pairs: &contrastive_pairs, loss: *mut c_void) -> Result<(), String> {
    // SAFETY: the callers' buffers have the sizes that the interface asks for.
    unsafe {
        let bytes = KERNELS.contrastive_workspace_bytes(pairs);
        let mut workspace = Buffer::new(bytes.max(1) as usize, 0);
        let code = KERNELS.contrastive_forward(pairs, loss, workspace.address(), null_mut());
        workspace.check_guards("workspace")?;
        KERNELS.outcome("forward", code)
    }
}

fn backward(
    pairs: &contrastive_pairs,
    grad_output: contrastive_matrix,
    gradients: *mut c_void,
) -> Result<(), String> {
    // SAFETY: as in `forward`.
    unsafe {
        KERNELS.outcome(
            "backward",
            KERNELS.contrastive_backward(pairs, grad_output, gradients, null_mut()),
        )
    }
}

fn pair(variant: Variant, margin: f64, a: &[f64], b: &[f64], same: f64) -> (f64, Vec<f64>) {
    let (loss, of_a, of_b) = Batch {
        element: Element::F32,
        variant,
        reduction: Reduction::None,
        margin,
        normalised: false,
        dim: a.len(),
        a,
        b,
        label: Element::U8,
        same: &[same],
    }
    .run();
    assert_eq!(of_a, of_b.iter().map(|x| -x).collect::<Vec<_>>());
    (loss[0], of_a)
}

/// energy.cuh beside energy.rs, through the public op: with D = 1 and b = 0, a² or |a| is `s` and the
/// gradient is the slope times a or its sign.
#[test]
fn formulas_are_those_of_the_cpu() {
    let mut compared = 0;
    for variant in Variant::ALL {
        for margin in [0.3, 1.0, 1.2, 7.0] {
            for similar in [false, true] {
                for step in 0..400 {
                    let x = match step {
                        0 => 0.0,
                        1 => margin,
                        2 => f64::sqrt(margin),
                        3 => 1e-160,
                        4 => 1e-8,
                        5 => f64::from_bits(margin.to_bits() - 1),
                        _ => f64::from(step) * 0.01 * margin,
                    };
                    let at = |x: f64| Tensor::new(&[[x]], &Device::Cpu).unwrap();
                    let op = ContrastiveLoss::new(Margin::new(margin).unwrap())
                        .variant(variant)
                        .reduction(Reduction::None);
                    let (a, b) = (at(x), at(0.0));
                    let same = Tensor::new(&[u8::from(similar)], &Device::Cpu).unwrap();
                    let one = Tensor::new(&[1f64], &Device::Cpu).unwrap();
                    let loss = values(&op.forward(&a, &b, &same).unwrap()).unwrap()[0];
                    let (of_a, _) = op.gradient(&a, &b, &same, &one).unwrap();
                    let gradient = values(&of_a).unwrap()[0];

                    let l1 = variant == Variant::ExponentialL1;
                    let s = if l1 { x } else { x * x };
                    let (mut cuda_loss, mut slope) = (f64::NAN, f64::NAN);
                    // SAFETY: it writes the two numbers.
                    unsafe {
                        linked::probe_energy(
                            variant_number(variant),
                            s,
                            similar,
                            margin,
                            &mut cuda_loss,
                            &mut slope,
                        );
                    }
                    let direction = if l1 && x > 0.0 { 1.0 } else { x };
                    let near = |x: f64, y: f64| (x - y).abs() <= 1e-15 * y.abs();
                    let what = format!("{variant:?}, m {margin}, similar {similar}, x {x:e}");
                    assert!(
                        near(cuda_loss, loss),
                        "{what}: loss {cuda_loss:e}, {loss:e}"
                    );
                    let cuda = slope * direction;
                    assert!(near(cuda, gradient), "{what}: {cuda:e}, {gradient:e}");
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, Variant::ALL.len() * 4 * 2 * 400);
}

#[test]
fn a_variant_that_the_cpu_does_not_have_is_refused() {
    let batch = |change: &dyn Fn(&mut contrastive_pairs)| {
        let mut numbers = buffer(Element::F32, &[1.0]);
        let mut same = buffer(Element::U8, &[0.0]);
        let mut pairs = contrastive_pairs {
            a: matrix(&mut numbers, 1, 1),
            b: matrix(&mut numbers, 1, 1),
            same: matrix(&mut same, 1, 0),
            pairs: 1,
            dim: 1,
            type_: Element::F32 as i32,
            label_type: Element::U8 as i32,
            variant: variant_number(Variant::Hadsell),
            reduction: reduction_number(Reduction::Mean),
            margin: 1.0,
            normalised: 0,
        };
        change(&mut pairs);
        let mut out = Buffer::new(8, 0);
        let grad_output = matrix(&mut numbers, 0, 0);
        let results = [
            forward(&pairs, out.address()),
            backward(&pairs, grad_output, out.address()),
        ];
        assert_eq!(results[0].is_ok(), results[1].is_ok());
        results[0].is_ok()
    };
    assert!(batch(&|_| ()));
    assert!(!batch(&|pairs| pairs.variant = Variant::ALL.len() as i32));
    assert!(!batch(&|pairs| pairs.variant = -1));
    assert!(!batch(&|pairs| pairs.type_ = Element::U8 as i32));
    assert!(!batch(&|pairs| pairs.label_type = 6));
    assert!(!batch(&|pairs| pairs.reduction = 3));
    assert!(!batch(&|pairs| pairs.pairs = 0));
    assert!(!batch(&|pairs| pairs.dim = 0));
}

#[test]
fn nothing_is_left_at_the_margin_and_all_is_exact_beside_it() {
    // √1.5625 = 1.25, and 0.75² + 1² = 1.25².
    for (variant, margin) in [
        (Variant::Hadsell, 1.25),
        (Variant::Legacy, 1.5625),
        (Variant::Squared, 1.5625),
    ] {
        let (loss, gradient) = pair(variant, margin, &[0.75, -1.0], &[0.0, 0.0], 0.0);
        assert_eq!((loss, gradient), (0.0, vec![0.0, 0.0]), "{variant:?}");
    }
    let inside = 1.25 - 0.5f64.powi(10);
    let gap = 0.5f64.powi(10);
    let (loss, gradient) = pair(Variant::Hadsell, 1.25, &[inside], &[0.0], 0.0);
    assert_eq!(
        (loss, gradient),
        (
            0.5 * gap * gap,
            vec![-f64::from((gap / inside) as f32 * inside as f32)]
        )
    );
    // Legacy has a kink: its slope is −1 up to the margin.
    let (loss, gradient) = pair(Variant::Legacy, 1.5625, &[inside], &[0.0], 0.0);
    assert_eq!(gradient, [-inside]);
    assert!(loss > 0.0);
}

#[test]
fn equal_embeddings_have_the_limit_of_the_loss_and_no_gradient() {
    for element in Element::FLOATS {
        for variant in Variant::ALL {
            for same in [0.0, 1.0] {
                let (loss, of_a, of_b) = Batch {
                    element,
                    variant,
                    reduction: Reduction::Sum,
                    margin: 0.5,
                    normalised: false,
                    dim: 5,
                    a: &[0.25; 5],
                    b: &[0.25; 5],
                    label: Element::U8,
                    same: &[same],
                }
                .run();
                let expected = match variant {
                    _ if same == 1.0 => 0.0,
                    Variant::Hadsell | Variant::Squared => 0.125,
                    Variant::Legacy => 0.25,
                    Variant::ExponentialL1 | Variant::ExponentialL2 => 1.0,
                };
                assert_eq!(loss, [expected], "{variant:?}");
                assert!(of_a.iter().chain(&of_b).all(|&x| x == 0.0), "{variant:?}");
            }
        }
    }
}

#[test]
fn a_tiny_distance_is_pushed_with_full_force() {
    let (_, gradient) = pair(Variant::Hadsell, 1.0, &[1e-15], &[0.0], 0.0);
    assert!((gradient[0] + 1.0).abs() < 1e-6, "{gradient:?}");
}

#[test]
fn nan_goes_through_every_loss() {
    for variant in Variant::ALL {
        for same in [0.0, 1.0] {
            for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                let mut a = [0.5; 9];
                a[4] = f64::NAN;
                let (loss, of_a, _) = Batch {
                    element: Element::F32,
                    variant,
                    reduction,
                    margin: 1.0,
                    normalised: false,
                    dim: 3,
                    a: &a,
                    b: &[0.25; 9],
                    label: Element::F32,
                    same: &[same; 3],
                }
                .run();
                let nan: Vec<bool> = loss.iter().map(|x| x.is_nan()).collect();
                let expected: &[bool] = match reduction {
                    Reduction::None => &[false, true, false],
                    _ => &[true],
                };
                assert_eq!(nan, expected, "{variant:?} {reduction:?}");
                assert!(of_a[4].is_nan());
                assert!([0, 1, 2, 6, 7, 8].iter().all(|&k| of_a[k].is_finite()));
            }
        }
    }
}

#[test]
fn a_label_other_than_0_and_1_is_nan_in_its_pair_alone() {
    let just_above = |element| match element {
        Element::F16 => 1.0 + 0.5f64.powi(10),
        Element::BF16 => 1.0 + 0.5f64.powi(7),
        Element::F32 => 1.0 + f64::from(f32::EPSILON),
        Element::F64 => 1.0 + f64::EPSILON,
        Element::U8 | Element::U32 => 2.0,
    };
    let mut wrong = Vec::new();
    for label in Element::ALL {
        wrong.push((label, just_above(label)));
        wrong.push((label, 255.0));
        if Element::FLOATS.contains(&label) {
            wrong.extend([(label, 0.5), (label, -1.0), (label, f64::NAN)]);
        }
    }
    wrong.push((Element::U32, f64::from(u32::MAX)));
    wrong.push((Element::U32, 256.0));
    for (label, value) in wrong {
        for variant in Variant::ALL {
            let batch = Batch {
                element: Element::F32,
                variant,
                reduction: Reduction::None,
                margin: 1.0,
                normalised: false,
                dim: 2,
                a: &[0.5; 6],
                // The wrong pair has one component of no distance, where L1's gradient is else 0.
                b: &[0.25, 0.25, 0.5, 0.25, 0.25, 0.25],
                label,
                same: &[1.0, value, 0.0],
            };
            let (loss, of_a, of_b) = batch.run();
            let nan = |numbers: &[f64]| numbers.iter().map(|x| x.is_nan()).collect::<Vec<_>>();
            let what = format!("{label:?} {value} {variant:?}");
            assert_eq!(nan(&loss), [false, true, false], "{what}");
            let expected = [false, false, true, true, false, false];
            assert_eq!(nan(&of_a), expected, "{what}");
            assert_eq!(nan(&of_b), expected, "{what}");
            let reduction = Reduction::Mean;
            let (loss, ..) = Batch { reduction, ..batch }.run();
            assert!(loss[0].is_nan(), "{what}");
        }
    }
}

#[test]
fn a_mean_is_rounded_once() {
    // Each loss, ½·d² with d² = 2049, is halfway between two f16 numbers, and their sum beyond f16.
    let (loss, ..) = Batch {
        element: Element::F16,
        variant: Variant::Hadsell,
        reduction: Reduction::Mean,
        margin: 1.0,
        normalised: false,
        dim: 2,
        a: &[45.0, 4.9].repeat(100),
        b: &[0.0; 200],
        label: Element::U8,
        same: &[1.0; 100],
    }
    .run();
    let d = Element::F16.rounded(4.9);
    assert_eq!(loss, [Element::F16.rounded(0.5 * (45.0 * 45.0 + d * d))]);
}

#[test]
fn zeros_and_parallel_embeddings_have_no_gradient_if_normalised() {
    for element in Element::FLOATS {
        for variant in Variant::ALL {
            for same in [0.0, 1.0] {
                let batch = Batch {
                    element,
                    variant,
                    reduction: Reduction::None,
                    margin: 1.5,
                    normalised: true,
                    dim: 2,
                    a: &[0.0, 0.0, 0.75, -1.0, 0.0, 0.0],
                    b: &[0.0, 0.0, 1.5, -2.0, 0.75, -1.0],
                    label: Element::U8,
                    same: &[same; 3],
                };
                let (loss, of_a, of_b) = batch.run();
                let what = format!("{element:?} {variant:?} {same}");
                assert_eq!(loss[0], loss[1], "{what}");
                assert!(loss[0] != loss[2], "{what}");
                assert_eq!(of_a, [0.0; 6], "{what}");
                assert_eq!(of_b[..4], [0.0; 4], "{what}");
                // In one dimension all numbers of a sign are the same.
                let (loss, of_a, of_b) = Batch {
                    dim: 1,
                    same: &[same; 6],
                    ..batch
                }
                .run();
                assert_eq!(loss[2], loss[3], "{what}");
                let largest = |g: &[f64]| g.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
                assert!(largest(&of_a).max(largest(&of_b)) < 1e-5, "{what}");
            }
        }
    }
}

/// Losses of ½ each: 256 teams a block, 4096 blocks at most, so a second turn for the last pairs.
#[test]
fn more_pairs_than_threads_in_the_grid_take_turns() {
    let n = 4096 * 256 + 300;
    let (a, b, same) = (vec![1.0; n], vec![0.0; n], vec![1.0; n]);
    let batch = Batch {
        element: Element::F32,
        variant: Variant::Hadsell,
        reduction: Reduction::Sum,
        margin: 1.0,
        normalised: false,
        dim: 1,
        a: &a,
        b: &b,
        label: Element::U8,
        same: &same,
    };
    let (loss, of_a, of_b) = batch.run();
    assert_eq!(loss, [0.5 * n as f64]);
    assert!(of_a.iter().all(|&x| x == 1.0) && of_b.iter().all(|&x| x == -1.0));
}

/// 4 GiB of address space each, of which a few pages are touched.
#[test]
fn strides_beyond_32_bits_are_followed() {
    let far = (1usize << 31) + 8;
    let mut a = vec![0u16; far + 8];
    let mut same = vec![0u8; far + 1];
    (a[0], a[far]) = (0x3c00, 0x4000); // 1 and 2 in f16
    (same[0], same[far]) = (1, 1);
    let mut b = buffer(Element::F16, &[0.0; 8]);
    for dim in [1, 8] {
        let pairs = contrastive_pairs {
            a: contrastive_matrix {
                data: a.as_ptr().cast(),
                row_stride: far as i64,
                column_stride: 1,
            },
            b: matrix(&mut b, 0, 1),
            same: contrastive_matrix {
                data: same.as_ptr().cast(),
                row_stride: far as i64,
                column_stride: 0,
            },
            pairs: 2,
            dim,
            type_: Element::F16 as i32,
            label_type: Element::U8 as i32,
            variant: 0,
            reduction: reduction_number(Reduction::None),
            margin: 1.0,
            normalised: 0,
        };
        let mut loss = Buffer::new(4, 0);
        forward(&pairs, loss.address()).unwrap();
        assert_eq!(numbers(Element::F16, &loss), [0.5, 2.0]);
        let mut gradients = Buffer::new(4 * dim as usize * 2, 0);
        let mut one = buffer(Element::F16, &[1.0]);
        backward(&pairs, matrix(&mut one, 0, 0), gradients.address()).unwrap();
        let gradients = numbers(Element::F16, &gradients);
        let d = dim as usize;
        assert_eq!(
            [0, d, 2 * d, 3 * d].map(|at| gradients[at]),
            [1.0, 2.0, -1.0, -2.0]
        );
    }
}
