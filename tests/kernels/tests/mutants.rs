//! Broken copies of the kernels: the checks must refuse each of them, and pass copies that are only
//! built otherwise.

use kernel_tests::emulator::Element;
use kernel_tests::emulator_grid::{Case, check, formulas, shapes};
use kernel_tests::mutant::{Change, assert_refused, compiled};

/// What is broken, and how.
const MUTANTS: &[(&str, Change)] = &[
    (
        "no barrier before the warps' sums are read",
        ("team.cuh", "  __syncthreads();\n  T all", "  T all"),
    ),
    (
        "no barrier after the warps' sums are read",
        ("team.cuh", "  __syncthreads();\n  return", "  return"),
    ),
    (
        "a barrier that not all reach",
        (
            "team.cuh",
            "  __syncthreads();\n  T all",
            "  if (threadIdx.x < 128) __syncthreads();\n  T all",
        ),
    ),
    (
        "the last warp dropped",
        ("team.cuh", "warp < BLOCK / WARP", "warp < BLOCK / WARP - 1"),
    ),
    (
        "half of a team's lanes dropped",
        ("team.cuh", ": WARP) / 2", ": WARP) / 4"),
    ),
    (
        "lanes of the next team added",
        ("team.cuh", "(team < WARP ? team : WARP) / 2", "WARP / 2"),
    ),
    (
        "columns side by side whatever the stride",
        ("element.cuh", "k * matrix.column_stride", "k"),
    ),
    (
        "rows a column stride apart",
        (
            "element.cuh",
            "i * matrix.row_stride + k",
            "i * matrix.column_stride + k",
        ),
    ),
    (
        "packs of the first row only",
        (
            "element.cuh",
            "(matrix.data) + i * matrix.row_stride;",
            "(matrix.data);",
        ),
    ),
    (
        "packs from a misaligned start",
        (
            "element.cuh",
            "reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0",
            "true",
        ),
    ),
    (
        "packs from misaligned rows",
        ("element.cuh", "matrix.row_stride % PACK<S> == 0", "true"),
    ),
    (
        "packs across columns",
        ("element.cuh", "matrix.column_stride == 1", "true"),
    ),
    (
        "packs of a row that they do not fill",
        ("pairs.cu", "pairs.dim % PACK<S> == 0", "true"),
    ),
    (
        "packs written to a misaligned start",
        (
            "pairs.cu",
            "reinterpret_cast<uintptr_t>(gradients) % 16 == 0",
            "true",
        ),
    ),
    (
        "one pack too many read",
        ("pairs.cu", "if (v < packs)", "if (v <= packs)"),
    ),
    (
        "one pack too many written",
        ("pairs.cu", "if (v >= packs)", "if (v > packs)"),
    ),
    (
        "the last pack not written",
        ("pairs.cu", "if (v >= packs)", "if (v >= packs - 1)"),
    ),
    (
        "the tiles behind the first not summed",
        ("pairs.cu", "first += STEPS<V> * team", "first += packs"),
    ),
    (
        "the first tile written for the next ones",
        (
            "pairs.cu",
            "if (start > 0) tile = read",
            "if (start < 0) tile = read",
        ),
    ),
    (
        "the last pair left out",
        (
            "pairs.cu",
            "active = i < pairs.pairs;\n    Sides inverse",
            "active = i < pairs.pairs - 1;\n    Sides inverse",
        ),
    ),
    (
        "one pair too many",
        (
            "pairs.cu",
            "active = i < pairs.pairs;\n    Sides inverse",
            "active = i <= pairs.pairs;\n    Sides inverse",
        ),
    ),
    (
        "each lane's loss counted",
        ("pairs.cu", "if (active && lane == 0)", "if (active)"),
    ),
    (
        "the last block's sum dropped",
        ("pairs.cu", "block < blocks;", "block < blocks - 1;"),
    ),
    (
        "a mean that is not divided",
        (
            "pairs.cu",
            "sum /= static_cast<double>(pairs.pairs)",
            "sum /= 1",
        ),
    ),
    (
        "a mean's gradient that is not divided",
        (
            "pairs.cu",
            "Wide<S>(1.0 / static_cast<double>(pairs.pairs))",
            "Wide<S>(1)",
        ),
    ),
    (
        "the gradient of the first pair's output for all",
        (
            "pairs.cu",
            "element<S>(grad_output, i, 0)",
            "element<S>(grad_output, 0, 0)",
        ),
    ),
    (
        "no gradient of the output",
        (
            "pairs.cu",
            "energy(pairs, i, s).slope * grad_loss",
            "energy(pairs, i, s).slope * scale",
        ),
    ),
    (
        "the same sign on both sides",
        ("pairs.cu", "narrow(-gradient)", "narrow(gradient)"),
    ),
    (
        "both sides' gradients in one place",
        ("pairs.cu", "(pairs.pairs + i) * pairs.dim", "i * pairs.dim"),
    ),
    (
        "the factor a − b missing, as in Caffe's GPU code for `legacy`",
        ("energy.cuh", "return difference;\n", "return T(1);\n"),
    ),
    (
        "the derivative of Caffe, with 1e-4 below the fraction",
        ("energy.cuh", "-gap / d", "-gap / (d + T(1e-4))"),
    ),
    (
        "no gradient through the length",
        ("length.cuh", "(g - along * unit) * inverse", "g * inverse"),
    ),
    (
        "a length of each lane's own components",
        ("length.cuh", "squares = team_sum(squares, team);", ""),
    ),
    (
        "one side's length for both",
        (
            "pairs.cu",
            "(b[step].element[k], inverse.b)",
            "(b[step].element[k], inverse.a)",
        ),
    ),
    (
        "the projection of the other side's gradient",
        ("pairs.cu", "along.b -= g", "along.b += g"),
    ),
];

/// Copies that are right: the checks must not refuse what is only different.
const EQUIVALENTS: &[(&str, Change)] = &[
    (
        "as it is",
        ("pairs.cu", "MAX_BLOCKS = 4096", "MAX_BLOCKS = 4096"),
    ),
    (
        "three blocks that take turns",
        ("pairs.cu", "MAX_BLOCKS = 4096", "MAX_BLOCKS = 3"),
    ),
];

/// Small shapes first, since a broken copy is done with at its first failure.
fn cases() -> Vec<Case> {
    let small = |case: &Case| case.pairs <= if case.dim < 1000 { 33 } else { 2 };
    let shapes = Element::FLOATS.into_iter().flat_map(shapes).filter(small);
    formulas()
        .into_iter()
        .filter(|case| case.label == Element::U8)
        .chain(shapes)
        .collect()
}

/// Compiles the changed kernels as a library and runs the checks.
fn checked(change: Change, cases: &[Case]) -> Result<(), String> {
    let kernels = compiled("pairs.cu", change);
    cases
        .iter()
        .enumerate()
        .try_for_each(|(index, case)| check(&kernels, case, index as u64))
}

#[test]
fn broken_kernels_are_refused() {
    let cases = cases();
    assert_refused(MUTANTS, 0, |change| checked(change, &cases));
}

#[test]
fn more_broken_kernels_are_refused() {
    let cases = cases();
    assert_refused(MUTANTS, 1, |change| checked(change, &cases));
}

#[test]
fn kernels_that_are_only_built_otherwise_pass() {
    for (what, change) in EQUIVALENTS {
        checked(*change, &cases()).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}
