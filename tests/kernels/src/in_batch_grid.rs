//! Cases for the kernels of the loss over all pairs of a batch, checked as in
//! [`emulator_grid`](crate::emulator_grid): against the CPU op in f64 on the same numbers.

#![expect(unsafe_code, reason = "the kernels are C++")]

use candle_core::{Device, Tensor, Var};
use loss_kernel::{InBatchContrastiveLoss, InBatchReduction, Margin, Miner, Variant};
use rand::Rng;

use crate::emulator::{
    Buffer, Element, IN_BATCH_REDUCTIONS, Kernels, contrastive_batch, contrastive_matrix,
    contrastive_rows, in_batch_reduction_number, miner_number, miners, variant_number,
};
use crate::emulator_grid::{MARGIN, decode, place};
use workspace_tests::compare::{furthest_outside, values};
use workspace_tests::pairs::generator;

/// One run of forward and backward.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Of the embeddings.
    pub element: Element,
    /// The formula.
    pub variant: Variant,
    /// The reduction.
    pub reduction: InBatchReduction,
    /// Whether both kinds of pairs weigh the same.
    pub balanced: bool,
    /// Whether each row is divided by its length.
    pub normalised: bool,
    /// Which pairs count.
    pub miner: Miner,
    /// N.
    pub rows: usize,
    /// M, or 0 for the pairs of one batch.
    pub others: usize,
    /// D.
    pub dim: usize,
    /// Labels there are; row i of a batch has label `i % classes`, times −2³².
    pub classes: usize,
    /// Whether the embeddings lie column after column, from an odd address on.
    pub transposed: bool,
    /// What is added to every component.
    pub offset: f64,
}

const LABEL: i64 = -(1 << 32);

/// One batch's embeddings, as the case's type has them: distances on both sides of the margin, some
/// rows equal to others, one of zeros.
fn embeddings(case: &Case, rows: usize, seed: u64) -> Vec<f64> {
    let mut rng = generator(seed + (rows * 10_007 + case.dim) as u64);
    let edge = match case.variant {
        Variant::Legacy | Variant::Squared => MARGIN.sqrt(),
        _ => MARGIN,
    };
    // Of two rows with components in ±1.
    let mean = match case.variant {
        Variant::ExponentialL1 => 2.0 / 3.0 * case.dim as f64,
        _ => (2.0 / 3.0 * case.dim as f64).sqrt(),
    };
    // Equal distances that are rounded apart, here or there, would have a miner select other pairs.
    let ties = case.miner == Miner::All || !case.normalised;
    let copies = case.miner == Miner::All || ties && case.dim < 16;
    let mut numbers: Vec<f64> = Vec::new();
    for i in 0..rows {
        let length = [0.4, 1.9, 1.0, 0.7, 1.4][i % 5] * edge / mean;
        for k in 0..case.dim {
            let x: f64 = match i {
                9 if ties => 0.0,
                _ if copies && i % 17 == 13 => numbers[(i - 11) * case.dim + k] - case.offset,
                _ => rng.random_range(-length..length),
            };
            numbers.push(case.element.rounded(case.offset + x));
        }
    }
    numbers
}

fn labels(case: &Case, rows: usize) -> Vec<i64> {
    (0..rows)
        .map(|i| (i % case.classes) as i64 * LABEL)
        .collect()
}

/// The memory of one side.
struct Side {
    embeddings: Buffer,
    labels: Buffer,
    rows: contrastive_rows,
}

impl Side {
    fn new(case: &Case, rows: usize, numbers: &[f64]) -> Self {
        let (strides, misalignment) = if case.transposed {
            ((1, rows), case.element.bytes())
        } else {
            ((case.dim, 1), 0)
        };
        let (embeddings, matrix) = place(
            case.element,
            numbers,
            (rows, case.dim),
            strides,
            misalignment,
        );
        let mut of_rows = Buffer::new(rows * 8, 0);
        for (bytes, label) in of_rows
            .contents_mut()
            .chunks_exact_mut(8)
            .zip(labels(case, rows))
        {
            bytes.copy_from_slice(&label.to_ne_bytes());
        }
        let labels = of_rows.address().cast_const().cast();
        Self {
            embeddings,
            labels: of_rows,
            rows: contrastive_rows {
                embeddings: matrix,
                labels,
                rows: rows as i64,
            },
        }
    }
}

/// Loss, and the gradient of each side, as bytes.
type Results = (Vec<u8>, Vec<Vec<u8>>);

fn run(
    kernels: &Kernels,
    case: &Case,
    numbers: &[Vec<f64>],
    grad_output: f64,
    order: u64,
) -> Result<Results, String> {
    let counts = [case.rows, case.others];
    let sides: Vec<Side> = numbers
        .iter()
        .zip(counts)
        .map(|(numbers, rows)| Side::new(case, rows, numbers))
        .collect();
    let nothing = contrastive_rows {
        embeddings: contrastive_matrix {
            data: std::ptr::null(),
            row_stride: 0,
            column_stride: 0,
        },
        labels: std::ptr::null(),
        rows: 0,
    };
    let (negatives, width) = match case.miner {
        Miner::All | Miner::Hard => (0, 0.0),
        Miner::SemiHard { width } => (0, width.get()),
        Miner::Hardest { negatives } => (negatives.get().into(), 0.0),
    };
    let batch = contrastive_batch {
        rows: sides[0].rows,
        others: sides.get(1).map_or(nothing, |side| side.rows),
        dim: case.dim as i64,
        type_: case.element as i32,
        variant: variant_number(case.variant),
        reduction: in_batch_reduction_number(case.reduction),
        balanced: case.balanced.into(),
        normalised: case.normalised.into(),
        miner: miner_number(case.miner),
        negatives,
        width,
        margin: MARGIN,
    };
    let before: Vec<_> = sides
        .iter()
        .map(|side| side.embeddings.contents().to_vec())
        .collect();
    let (grad_output, grad_output_matrix) = place(case.element, &[grad_output], (1, 1), (0, 0), 0);
    let mut loss = Buffer::new(case.element.bytes(), 0);
    let mut gradients = Vec::new();
    let stream = std::ptr::null_mut();
    // SAFETY: the structs are those of the C interface, and all buffers have the sizes it asks for.
    unsafe {
        kernels.probe_thread_order(order);
        let bytes = kernels.contrastive_in_batch_workspace_bytes(&batch);
        if bytes <= 0 {
            return Err(format!("a workspace of {bytes} bytes"));
        }
        let mut workspace = Buffer::new(bytes as usize, 0);
        let code = kernels.contrastive_in_batch_forward(
            &batch,
            loss.address(),
            workspace.address(),
            stream,
        );
        kernels.outcome("forward", code)?;
        for (of, rows) in counts.into_iter().take(sides.len()).enumerate() {
            let mut gradient = Buffer::new(rows * case.dim * wide(case.element).bytes(), 0);
            let code = kernels.contrastive_in_batch_backward(
                &batch,
                grad_output_matrix,
                of as i32,
                gradient.address(),
                workspace.address(),
                stream,
            );
            kernels.outcome("backward", code)?;
            gradient.check_guards("gradient")?;
            gradients.push(gradient.contents().to_vec());
        }
        workspace.check_guards("workspace")?;
    }
    for (side, before) in sides.iter().zip(before) {
        side.embeddings.check_guards("embeddings")?;
        side.labels.check_guards("labels")?;
        if side.embeddings.contents() != before {
            return Err("the embeddings were written".into());
        }
    }
    grad_output.check_guards("grad_output")?;
    loss.check_guards("loss")?;
    Ok((loss.contents().to_vec(), gradients))
}

fn wide(element: Element) -> Element {
    match element {
        Element::F64 => Element::F64,
        _ => Element::F32,
    }
}

/// Loss, and the gradient of each side, as numbers.
type Expected = (f64, Vec<Vec<f64>>);

/// Loss and gradients of the CPU op in f64.
fn expected(
    case: &Case,
    numbers: &[Vec<f64>],
    grad_output: f64,
) -> Result<Expected, Box<dyn std::error::Error>> {
    let op = InBatchContrastiveLoss::new(Margin::new(MARGIN)?)
        .variant(case.variant)
        .reduction(case.reduction)
        .balanced(case.balanced)
        .normalised(case.normalised)
        .miner(case.miner);
    let side = |numbers: &[f64], rows| -> candle_core::Result<(Var, Tensor)> {
        Ok((
            Var::from_slice(numbers, (rows, case.dim), &Device::Cpu)?,
            Tensor::new(labels(case, rows), &Device::Cpu)?,
        ))
    };
    let (rows, row_labels) = side(&numbers[0], case.rows)?;
    let (loss, sides) = match numbers.get(1) {
        None => (op.forward(&rows, &row_labels)?, vec![rows]),
        Some(others) => {
            let (others, other_labels) = side(others, case.others)?;
            let loss = op.forward_against(&rows, &row_labels, &others, &other_labels)?;
            (loss, vec![rows, others])
        }
    };
    let gradients = loss.backward()?;
    let of = |side: &Var| -> candle_core::Result<Vec<f64>> {
        values(&(gradients.get(side).expect("it is tracked") * grad_output)?)
    };
    let gradients = sides.iter().map(of).collect::<candle_core::Result<_>>()?;
    Ok((loss.to_scalar()?, gradients))
}

/// What the sums may be off by, of the largest result. Those of f16, bf16 and f32 are taken in f32.
fn tolerance(element: Element) -> f64 {
    match element {
        Element::F64 => 1e-12,
        _ => 1e-5,
    }
}

/// Runs the case in two orders of threads; `seed` chooses the second.
///
/// # Errors
///
/// What is wrong, with the case.
pub fn check(kernels: &Kernels, case: &Case, seed: u64) -> Result<(), String> {
    let named = |error: String| format!("{case:?}: {error}");
    let mut numbers = vec![embeddings(case, case.rows, 1)];
    if case.others > 0 {
        numbers.push(embeddings(case, case.others, 2));
    }
    let grad_output = case.element.rounded(-1.7);
    let (loss, gradients) = run(kernels, case, &numbers, grad_output, 0).map_err(named)?;
    let again = run(kernels, case, &numbers, grad_output, 1 + seed).map_err(named)?;
    if (&loss, &gradients) != (&again.0, &again.1) {
        return Err(named("other bits in another order of threads".into()));
    }
    let (expected_loss, expected_gradients) =
        expected(case, &numbers, grad_output).map_err(|error| named(error.to_string()))?;
    let element = case.element;
    let bound = tolerance(element);
    let loss = decode(element, &loss);
    // Absolute for what is subnormal in f16.
    let subnormal = if element == Element::F16 {
        0.5f64.powi(25)
    } else {
        0.0
    };
    let relative = bound + element.rounding();
    if furthest_outside(&loss, &[expected_loss], relative, subnormal).is_some() {
        return Err(named(format!(
            "the loss is {:e}, expected {expected_loss:e}",
            loss[0]
        )));
    }
    for (side, (actual, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
        let actual = decode(wide(element), actual);
        let largest = expected
            .iter()
            .fold(0.0, |largest: f64, g| largest.max(g.abs()));
        if let Some(i) = furthest_outside(&actual, expected, 0.0, bound * largest) {
            return Err(named(format!(
                "gradient of side {side}: element {i} of {} is {:e}, expected {:e}, the largest {largest:e}",
                expected.len(),
                actual[i],
                expected[i]
            )));
        }
    }
    Ok(())
}

/// Loss and gradient that the kernels give for numbers of one's own, with 1 as the gradient of the output.
///
/// # Errors
///
/// Where they cannot be launched or write where they must not.
pub fn results(kernels: &Kernels, case: &Case, numbers: &[f64]) -> Result<(f64, Vec<f64>), String> {
    let (loss, gradients) = run(kernels, case, &[numbers.to_vec()], 1.0, 0)?;
    let gradient = decode(wide(case.element), &gradients[0]);
    Ok((decode(case.element, &loss)[0], gradient))
}

/// The settings that touch only a pair's scalar, all of them: they take turns over the other cases.
fn settings() -> Vec<Case> {
    let mut cases = Vec::new();
    for miner in miners() {
        for reduction in IN_BATCH_REDUCTIONS {
            for balanced in [false, true] {
                for normalised in [false, true] {
                    for variant in Variant::ALL {
                        cases.push(Case {
                            element: Element::FLOATS[cases.len() % 4],
                            variant,
                            reduction,
                            balanced,
                            normalised,
                            miner,
                            rows: 67,
                            others: 0,
                            dim: 5,
                            classes: 7,
                            transposed: false,
                            offset: 0.0,
                        });
                    }
                }
            }
        }
    }
    cases
}

/// Every variant, reduction, miner, balanced and normalised or not, within a batch and across two.
pub fn formulas() -> Vec<Case> {
    let within = settings();
    let across = settings().into_iter().enumerate().map(|(turn, case)| Case {
        element: Element::FLOATS[turn / 3 % 4],
        rows: 66,
        others: 9,
        ..case
    });
    // Under the sanitizers a switch of threads takes ten times as long.
    let step = if cfg!(kernels_sanitized) { 17 } else { 1 };
    within.into_iter().chain(across).step_by(step).collect()
}

/// Every bound of tiles and slabs, in one element type. Settings take turns.
pub fn shapes(element: Element) -> Vec<Case> {
    // One tile, an odd and an even number of them, and each bound.
    let rows: &[usize] = if cfg!(kernels_sanitized) {
        &[2, 65, 129]
    } else {
        &[2, 3, 63, 64, 65, 128, 129, 200]
    };
    let dims: &[usize] = if cfg!(kernels_sanitized) {
        &[1, 17]
    } else {
        &[1, 2, 3, 8, 16, 17, 128, 300]
    };
    let settings = settings();
    let mut cases = Vec::new();
    for &rows in rows {
        for &dim in dims {
            let turn = cases.len();
            let setting = settings[turn * 37 % settings.len()];
            cases.push(Case {
                element,
                // All rows of one or two components have nearly the same lengths and directions.
                normalised: setting.normalised && dim > 2,
                rows,
                others: if turn % 5 == 3 { 131 - rows / 2 } else { 0 },
                dim,
                classes: [7, 1, rows, 2, 30][turn % 5],
                transposed: turn % 3 == 1,
                ..setting
            });
        }
    }
    cases
}
