//! Cases for the kernels, and what is checked of each: loss and gradients against the CPU op in f64
//! on the same numbers, every byte written that must be and no other, and the same bits for any
//! order of threads.

#![expect(unsafe_code, reason = "the kernels are C++")]

use candle_core::{DType, Device, Tensor};
use loss_kernel::{ContrastiveLoss, Margin, Reduction, Variant};
use rand::Rng;

use crate::emulator::{
    Buffer, Element, Kernels, contrastive_matrix, contrastive_pairs, reduction_number,
    variant_number,
};
use workspace_tests::compare::{furthest_outside, values};
use workspace_tests::pairs::generator;

/// How the embeddings lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Row after row, aligned to 16 bytes.
    Contiguous,
    /// Row after row, all buffers one element behind an address that 16 divides.
    Misaligned,
    /// Row after row; the results alone are one element behind an address that 16 divides.
    MisalignedResults,
    /// Gaps between the rows, of a multiple of 16 bytes after `dim` rounded up to it.
    RowGaps,
    /// Gaps between the rows that leave every other row misaligned.
    OddGaps,
    /// Column after column.
    Transposed,
    /// Two elements from column to column, the rows 16 bytes apart times a whole number.
    Spread,
    /// `a` row after row; `b` is one row, repeated with a stride of 0.
    Repeated,
}

impl Placement {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Contiguous,
        Self::Misaligned,
        Self::MisalignedResults,
        Self::RowGaps,
        Self::OddGaps,
        Self::Transposed,
        Self::Spread,
        Self::Repeated,
    ];
}

/// One run of forward and backward.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Of the embeddings.
    pub element: Element,
    /// Of the labels.
    pub label: Element,
    /// The formula.
    pub variant: Variant,
    /// The reduction.
    pub reduction: Reduction,
    /// Whether each embedding is divided by its length.
    pub normalised: bool,
    /// How the embeddings lie in memory.
    pub placement: Placement,
    /// N.
    pub pairs: usize,
    /// D.
    pub dim: usize,
}

/// Chosen so that it isn't exact in any type.
pub const MARGIN: f64 = 1.2;

/// Distances over the one at which a dissimilar pair's hinge opens: on both sides of it, none so
/// near that rounding the embeddings to bf16 could carry a pair across.
const DISTANCES: [f64; 7] = [0.3, 1.5, 0.6, 0.0, 0.8, 1.25, 0.45];

/// Embeddings, labels and the gradient of the output, with values that the case's types have.
struct Numbers {
    a: Vec<f64>,
    b: Vec<f64>,
    same: Vec<f64>,
    grad_output: Vec<f64>,
}

impl Numbers {
    fn new(case: &Case) -> Self {
        let mut rng = generator((case.pairs * 10_007 + case.dim) as u64);
        let edge = match case.variant {
            Variant::Legacy | Variant::Squared => MARGIN.sqrt(),
            _ => MARGIN,
        };
        let l1 = case.variant == Variant::ExponentialL1;
        let rounded = |value| case.element.rounded(value);
        let origin: Vec<f64> = (0..case.dim)
            .map(|_| rounded(rng.random_range(-0.1..0.1)))
            .collect();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let mut same = Vec::new();
        for i in 0..case.pairs {
            let direction: Vec<f64> = (0..case.dim)
                .map(|_| rng.random_range(0.5..1.0) * if rng.random() { 1.0 } else { -1.0 })
                .collect();
            let length = match l1 {
                true => direction.iter().map(|x| x.abs()).sum::<f64>(),
                false => direction.iter().map(|x| x * x).sum::<f64>().sqrt(),
            };
            let distance = edge * DISTANCES[i % DISTANCES.len()];
            if case.normalised {
                // The smaller the more components an L1 norm adds up; it has no hinge to hit.
                let chord = distance * dot(&direction, &direction).sqrt() / length;
                let scale = if i % 11 == 10 { 0.0 } else { 1.0 };
                let turned = turned(&origin, &direction, chord);
                a.extend(turned.into_iter().map(|x| rounded(scale * x)));
            } else {
                let by = distance / length;
                a.extend(
                    origin
                        .iter()
                        .zip(&direction)
                        .map(|(from, x)| rounded(from + by * x)),
                );
            }
            b.extend_from_slice(&origin);
            same.push(f64::from(u8::from(rng.random_bool(0.4))));
        }
        let results = if case.reduction == Reduction::None {
            case.pairs
        } else {
            1
        };
        let grad_output = (0..results)
            .map(|_| rounded(rng.random_range(-3.0..3.0)))
            .collect();
        Self {
            a,
            b,
            same,
            grad_output,
        }
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// Twice `origin`, turned so that of length 1 the two are `distance` apart.
fn turned(origin: &[f64], direction: &[f64], distance: f64) -> Vec<f64> {
    // Not by rounded sine and cosine, so that the distance is 0 in every type.
    if distance == 0.0 {
        return origin.iter().map(|x| 2.0 * x).collect();
    }
    let along = dot(origin, direction) / dot(origin, origin);
    let across: Vec<f64> = origin
        .iter()
        .zip(direction)
        .map(|(x, y)| y - along * x)
        .collect();
    let longer = (dot(origin, origin) / dot(&across, &across)).sqrt();
    let (sin, cos) = (2.0 * (distance / 2.0).asin()).sin_cos();
    origin
        .iter()
        .zip(&across)
        .map(|(x, y)| 2.0 * (cos * x + sin * longer * y))
        .collect()
}

/// Puts (rows, columns) numbers into a buffer of just the size that its strides need.
pub(crate) fn place(
    element: Element,
    numbers: &[f64],
    (rows, columns): (usize, usize),
    (row_stride, column_stride): (usize, usize),
    misalignment: usize,
) -> (Buffer, contrastive_matrix) {
    let bytes = element.bytes();
    let last = (rows - 1) * row_stride + (columns - 1) * column_stride;
    let mut buffer = Buffer::new((last + 1) * bytes, misalignment);
    let contents = buffer.contents_mut();
    for (at, &number) in numbers.iter().enumerate() {
        let (i, k) = (at / columns, at % columns);
        let to = (i * row_stride + k * column_stride) * bytes;
        element.encode(number, &mut contents[to..]);
    }
    let matrix = contrastive_matrix {
        data: buffer.address(),
        row_stride: row_stride as i64,
        column_stride: column_stride as i64,
    };
    (buffer, matrix)
}

pub(crate) fn decode(element: Element, bytes: &[u8]) -> Vec<f64> {
    bytes
        .chunks_exact(element.bytes())
        .map(|bytes| element.decode(bytes))
        .collect()
}

/// Loss and gradients as bytes.
fn run(
    kernels: &Kernels,
    case: &Case,
    numbers: &Numbers,
    order: u64,
) -> Result<(Vec<u8>, Vec<u8>), String> {
    let Case {
        element,
        pairs: n,
        dim: d,
        ..
    } = *case;
    let bytes = element.bytes();
    let pack = 16 / bytes;
    let strides = match case.placement {
        Placement::Contiguous
        | Placement::Misaligned
        | Placement::MisalignedResults
        | Placement::Repeated => (d, 1),
        Placement::RowGaps => (d.next_multiple_of(pack) + pack, 1),
        Placement::OddGaps => (d + 3, 1),
        Placement::Transposed => (1, n),
        Placement::Spread => ((2 * d).next_multiple_of(pack), 2),
    };
    let misalignment = match case.placement {
        Placement::Misaligned => bytes,
        _ => 0,
    };
    let misalignment_of_results = match case.placement {
        Placement::MisalignedResults => bytes,
        _ => misalignment,
    };
    let strides_of_b = match case.placement {
        Placement::Repeated => (0, 1),
        _ => strides,
    };
    let label_stride = match case.placement {
        Placement::RowGaps | Placement::Transposed => 3,
        _ => 1,
    };
    let grad_output_stride = match (case.reduction, case.placement) {
        (Reduction::None, Placement::Transposed) => 2,
        (Reduction::None, _) => 1,
        _ => 0,
    };
    let (a, a_matrix) = place(element, &numbers.a, (n, d), strides, misalignment);
    let (b, b_matrix) = place(element, &numbers.b, (n, d), strides_of_b, misalignment);
    let (same, mut same_matrix) = place(case.label, &numbers.same, (n, 1), (label_stride, 0), 0);
    let (grad_output, grad_output_matrix) = place(
        element,
        &numbers.grad_output,
        (numbers.grad_output.len(), 1),
        (grad_output_stride, 0),
        misalignment,
    );
    same_matrix.column_stride = 0;
    let inputs = [
        ("a", &a),
        ("b", &b),
        ("labels", &same),
        ("grad_output", &grad_output),
    ]
    .map(|(what, buffer)| (what, buffer, buffer.contents().to_vec()));
    let pairs = contrastive_pairs {
        a: a_matrix,
        b: b_matrix,
        same: same_matrix,
        pairs: n as i64,
        dim: d as i64,
        type_: element as i32,
        label_type: case.label as i32,
        variant: variant_number(case.variant),
        reduction: reduction_number(case.reduction),
        margin: MARGIN,
        normalised: case.normalised.into(),
    };
    let mut loss = Buffer::new(numbers.grad_output.len() * bytes, misalignment_of_results);
    let mut gradients = Buffer::new(2 * n * d * bytes, misalignment_of_results);
    let stream = std::ptr::null_mut();
    // SAFETY: the structs are those of the C interface, and all buffers have the sizes it asks for.
    unsafe {
        kernels.probe_thread_order(order);
        let workspace_bytes = kernels.contrastive_workspace_bytes(&pairs);
        if (workspace_bytes == 0) != (case.reduction == Reduction::None) {
            return Err(format!("a workspace of {workspace_bytes} bytes"));
        }
        let mut workspace = Buffer::new(workspace_bytes.max(1) as usize, 0);
        let code = kernels.contrastive_forward(&pairs, loss.address(), workspace.address(), stream);
        kernels.outcome("forward", code)?;
        workspace.check_guards("workspace")?;
        let code =
            kernels.contrastive_backward(&pairs, grad_output_matrix, gradients.address(), stream);
        kernels.outcome("backward", code)?;
    }
    for (what, buffer, before) in inputs {
        buffer.check_guards(what)?;
        if buffer.contents() != before {
            return Err(format!("{what}: an input was written"));
        }
    }
    loss.check_guards("loss")?;
    gradients.check_guards("gradients")?;
    Ok((loss.contents().to_vec(), gradients.contents().to_vec()))
}

/// Loss and gradients of the CPU op in f64.
fn expected(case: &Case, numbers: &Numbers) -> candle_core::Result<(Vec<f64>, Vec<f64>)> {
    let side = |values: &[f64]| Tensor::from_slice(values, (case.pairs, case.dim), &Device::Cpu);
    let (a, b) = (side(&numbers.a)?, side(&numbers.b)?);
    let same = Tensor::from_slice(&numbers.same, case.pairs, &Device::Cpu)?;
    let grad_output = match case.reduction {
        Reduction::None => Tensor::from_slice(&numbers.grad_output, case.pairs, &Device::Cpu)?,
        _ => Tensor::new(numbers.grad_output[0], &Device::Cpu)?,
    };
    assert_eq!(grad_output.dtype(), DType::F64);
    let op = ContrastiveLoss::new(Margin::new(MARGIN).unwrap())
        .variant(case.variant)
        .reduction(case.reduction)
        .normalised(case.normalised);
    let loss = op.forward(&a, &b, &same).unwrap();
    let (of_a, of_b) = op.gradient(&a, &b, &same, &grad_output).unwrap();
    let mut gradients = values(&of_a)?;
    gradients.extend(values(&of_b)?);
    Ok((values(&loss)?, gradients))
}

/// Relative, and absolute for what is subnormal in f16. The sums of f16, bf16 and f32 are taken in
/// f32, in which s is off by a few 1e-7, and the nearest pairs to the margin (0.8 of it) multiply that
/// by up to 10; the result is rounded once more.
fn tolerance(element: Element) -> (f64, f64) {
    let sums = if element == Element::F64 { 1e-13 } else { 1e-5 };
    let subnormal = if element == Element::F16 {
        0.5f64.powi(25)
    } else {
        0.0
    };
    (sums + element.rounding(), subnormal)
}

fn compare(
    what: &str,
    (relative, absolute): (f64, f64),
    actual: &[f64],
    expected: &[f64],
) -> Result<(), String> {
    match furthest_outside(actual, expected, relative, absolute) {
        Some(i) => Err(format!(
            "{what}: element {i} of {} is {:e}, expected {:e}",
            expected.len(),
            actual[i],
            expected[i]
        )),
        None => Ok(()),
    }
}

/// Runs the case in two orders of threads; `seed` chooses the second.
///
/// # Errors
///
/// What is wrong, with the case.
pub fn check(kernels: &Kernels, case: &Case, seed: u64) -> Result<(), String> {
    let named = |error: String| format!("{case:?}: {error}");
    let numbers = Numbers::new(case);
    let (loss, gradients) = run(kernels, case, &numbers, 0).map_err(named)?;
    let again = run(kernels, case, &numbers, 1 + seed).map_err(named)?;
    if (&loss, &gradients) != (&again.0, &again.1) {
        return Err(named("other bits in another order of threads".into()));
    }
    let (expected_loss, expected_gradients) =
        expected(case, &numbers).map_err(|error| named(error.to_string()))?;
    let element = case.element;
    let (relative, mut absolute) = tolerance(element);
    let loss = decode(element, &loss);
    compare("loss", (relative, absolute), &loss, &expected_loss).map_err(named)?;
    if case.normalised {
        // What the projection takes away, all of it where the other side is parallel, is rounded too.
        let largest = expected_gradients
            .iter()
            .fold(0.0, |largest: f64, g| largest.max(g.abs()));
        absolute += (relative - element.rounding()) * largest;
    }
    let gradients = decode(element, &gradients);
    compare(
        "gradients",
        (relative, absolute),
        &gradients,
        &expected_gradients,
    )
    .map_err(named)
}

/// Under the sanitizers, which make a switch of threads ten times as long, as many as reach each bound.
const PAIRS: &[usize] = if cfg!(kernels_sanitized) {
    &[1, 2, 31, 33]
} else {
    &[1, 2, 31, 32, 33, 255, 1000]
};
/// At 8200 a row in packs no longer fits into the registers of a block.
const DIMS: [usize; 11] = [1, 2, 3, 31, 32, 33, 127, 128, 1000, 4099, 8200];
const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

/// Every N, D and placement, in one element type. Variant, reduction and label type touch only the
/// pair's scalar, so they take turns. The largest shapes, most of the time, have one placement.
pub fn shapes(element: Element) -> Vec<Case> {
    let mut cases = Vec::new();
    for &pairs in PAIRS {
        for dim in DIMS {
            let placements = if pairs * dim >= 100_000 {
                &Placement::ALL[cases.len() % Placement::ALL.len()..][..1]
            } else {
                &Placement::ALL[..]
            };
            for &placement in placements {
                let turn = cases.len();
                cases.push(Case {
                    element,
                    label: Element::ALL[turn / 3 % 6],
                    variant: Variant::ALL[turn % Variant::ALL.len()],
                    reduction: REDUCTIONS[turn / 5 % 3],
                    normalised: false,
                    placement,
                    pairs,
                    dim,
                });
            }
        }
    }
    and_normalised(cases, 3)
}

/// Every variant, reduction, element type and label type, at one shape for each way to the sum: a
/// thread, lanes and the whole block, by elements and by packs.
pub fn formulas() -> Vec<Case> {
    let mut cases = Vec::new();
    for dim in [257, 16, 3, 1, 33] {
        for variant in Variant::ALL {
            for reduction in REDUCTIONS {
                for element in Element::FLOATS {
                    for label in Element::ALL {
                        cases.push(Case {
                            element,
                            label,
                            variant,
                            reduction,
                            normalised: false,
                            placement: Placement::Contiguous,
                            pairs: if cfg!(kernels_sanitized) { 3 } else { 33 },
                            dim,
                        });
                    }
                }
            }
        }
    }
    and_normalised(cases, 7)
}

/// The cases, and every `step`th again with embeddings divided by their lengths. In one dimension
/// these have no gradient to compare.
fn and_normalised(mut cases: Vec<Case>, step: usize) -> Vec<Case> {
    let longer = cases.iter().filter(|case| case.dim > 1);
    let normalised = |case: &Case| Case {
        normalised: true,
        ..*case
    };
    let again: Vec<Case> = longer.step_by(step).map(normalised).collect();
    cases.extend(again);
    cases
}
