//! Broken copies of the kernels of the loss over all pairs of a batch: the checks must refuse each.

use kernel_tests::emulator::Element;
use kernel_tests::in_batch_grid::{Case, check, formulas, shapes};
use kernel_tests::mutant::{Change, assert_refused, compiled};

const fn in_batch(from: &'static str, to: &'static str) -> Change {
    ("in_batch.cu", from, to)
}

/// What is broken, and how.
const MUTANTS: &[(&str, Change)] = &[
    (
        "no barrier before a slab is written",
        in_batch(
            "    __syncthreads();\n    load<S>(tiles.left, tiles.dim, place.row",
            "    load<S>(tiles.left, tiles.dim, place.row",
        ),
    ),
    (
        "no barrier before a slab is read",
        in_batch(
            "start, memory.right);\n    __syncthreads();",
            "start, memory.right);",
        ),
    ),
    (
        "no barrier before the gradient's slab is written",
        in_batch(
            "      __syncthreads();\n      load<S>(tiles.left",
            "      load<S>(tiles.left",
        ),
    ),
    (
        "no barrier before the miner reads the distances",
        in_batch(
            "    __syncthreads();\n    for (int c = 0; anchor",
            "    for (int c = 0; anchor",
        ),
    ),
    (
        "a row too many",
        in_batch("row >= side.rows.rows || k", "row > side.rows.rows || k"),
    ),
    (
        "a component too many",
        in_batch("|| k >= dim) return 0", "|| k > dim) return 0"),
    ),
    (
        "pairs counted from both ends",
        in_batch("i == j && row > column", "i == j && row > column + TILE"),
    ),
    (
        "the tile opposite met twice",
        in_batch("2 * j == rows && i >= j", "2 * j == rows && i >= rows"),
    ),
    (
        "a tile never met",
        in_batch("columns / 2 + 1", "(columns + 1) / 2"),
    ),
    (
        "a row's pair with itself",
        in_batch("!(tiles.within && row == column)", "true"),
    ),
    (
        "distances by the matrix product",
        in_batch(
            "part[r][c] += term(NORM, a[r] - b[c])",
            "part[r][c] += NORM == Norm::L1 ? term(NORM, a[r] - b[c]) \
             : a[r] * a[r] + b[c] * b[c] - 2 * a[r] * b[c]",
        ),
    ),
    (
        "labels cut to 32 bits",
        in_batch(
            "tiles.left.rows.labels[row] == tiles.right.rows.labels[column]",
            "int32_t(tiles.left.rows.labels[row]) == int32_t(tiles.right.rows.labels[column])",
        ),
    ),
    (
        "one end alone selects",
        in_batch(" || selects(tiles.right, column, s, similar)", ""),
    ),
    (
        "bounds not strict",
        in_batch(
            "limits.dissimilar_above < s &&",
            "limits.dissimilar_above <= s &&",
        ),
    ),
    (
        "the last of the hardest left out",
        in_batch("next_up(last_of_hardest)", "last_of_hardest"),
    ),
    (
        "the hardest out of order",
        in_batch("nearest[n - 1] > s; n--", "nearest[n - 1] > 2 * s; n--"),
    ),
    (
        "a width in units of s",
        in_batch(
            "std::sqrt(farthest_similar) + width",
            "std::sqrt(farthest_similar + width)",
        ),
    ),
    (
        "a mean over all pairs where it is over those that are not 0",
        in_batch("? totals.positive[kind]", "? totals.pairs[kind]"),
    ),
    (
        "kinds that swap their weights",
        in_batch(
            "(similar ? factors[0] : factors[1])",
            "(similar ? factors[1] : factors[0])",
        ),
    ),
    (
        "the last tile's gradient alone",
        in_batch("of = first ? sum : of + sum", "of = sum"),
    ),
    (
        "no gradient through the length",
        ("length.cuh", "(g - along * unit) * inverse", "g * inverse"),
    ),
    (
        "no gradient of the output",
        in_batch("static_cast<T>(g * grad_output)", "static_cast<T>(g)"),
    ),
    (
        "the others' gradient from pairs of their own",
        in_batch("tiles.right = left;", "tiles.right = tiles.left;"),
    ),
    (
        "limits too small a part of the workspace",
        in_batch(
            "rows * int64_t(sizeof(Limits<T>))",
            "rows * int64_t(sizeof(T))",
        ),
    ),
];

/// Copies that are right: the checks must not refuse what is only different.
const EQUIVALENTS: &[(&str, Change)] = &[
    (
        "two blocks that take turns",
        in_batch("MAX_BLOCKS = 4096", "MAX_BLOCKS = 2"),
    ),
    (
        "no tile of slopes is skipped",
        in_batch("== 0 && column > 0", "< 0 && column > 0"),
    ),
];

fn cases() -> Vec<Case> {
    let far = Case {
        offset: 1000.0,
        miner: loss_kernel::Miner::All,
        normalised: false,
        element: Element::F32,
        dim: 20,
        ..formulas()[0]
    };
    let opposite = Case { rows: 128, ..far };
    let shapes = shapes(Element::F32)
        .into_iter()
        .filter(|case| case.dim <= 17 && case.rows <= 129);
    [far, opposite]
        .into_iter()
        .chain(formulas().into_iter().step_by(3))
        .chain(shapes)
        .collect()
}

fn checked(change: Change, cases: &[Case]) -> Result<(), String> {
    let kernels = compiled("in_batch.cu", change);
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
