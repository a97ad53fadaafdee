//! All pairs of two blocks of rows: their distances, and what is made of them.
//!
//! In many dimensions the distances are a matrix product, `s = |a|² + |b|² − 2·a·b`, and so are the
//! gradients: `Σ_j slope_ij·(a_i − b_j) = a_i·Σ_j slope_ij − Σ_j slope_ij·b_j`. Both lose digits
//! where `a` and `b` are long beside `a − b`, so
//!
//! - each tile is moved to its own middle first, which changes no difference, and
//! - a pair with `s < NEAR·(|a|² + |b|²)` then is *near*: its `s` is taken again from the
//!   differences of the embeddings as they came, and so is its gradient.
//!
//! Of any other pair `s` is off by at most `(2D + 4)·u/NEAR` of itself, `u` being the unit of rounding,
//! and its part in a gradient by `√(2/NEAR) = 8` roundings. In few dimensions, and for L1, everything
//! is differences.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::matrix::Matrix;
use super::selection::{Anchors, Limits};
use super::source::Source;
use super::totals::Totals;
use super::weigh::{DISSIMILAR, DROPPED, SIMILAR, Weighing, weigh_row};
use crate::element::{Element, Real};
use crate::energy::Norm;
use crate::lanes::{add_component, add_to_each, sum_of};

const NEAR: f64 = 1.0 / 32.0;

/// Dimensions from which on the matrix product is quicker than differences.
const PRODUCT: usize = 16;

/// Of the pairs of a tile, the part that must have a slope for the gradient to be a matrix product;
/// fewer are added one by one.
const DENSE: usize = 32;

/// One side of a tile: which rows, and which of their pairs the miner keeps.
#[derive(Clone)]
pub(super) struct Rows<'a, S: Element> {
    pub(super) source: &'a Source<'a, S>,
    pub(super) places: Range<usize>,
    pub(super) limits: Option<&'a Limits<S::Wide>>,
}

/// The gradient of a block's rows, or nothing where none is asked for.
pub(super) type Gradients<'a, W> = Vec<&'a mut [W]>;

/// What a thread needs to work on a tile.
#[derive(Default)]
pub(super) struct Tile<W> {
    rows: usize,
    columns: usize,
    dimensions: usize,
    diagonal: bool,
    product: bool,
    left: Side<W>,
    right: Side<W>,
    /// By row: dot products, then one row after another `s`, then slopes.
    values: Vec<W>,
    /// Columns of the near pairs of the row in hand.
    near: Vec<usize>,
    /// Of the pairs of the row in hand.
    kinds: Vec<u32>,
}

#[derive(Default)]
struct Side<W> {
    /// As it came, by row; by component for the right side of a tile of differences.
    raw: Vec<W>,
    /// Moved to the tile's middle, and the squared norms there.
    centred: Vec<W>,
    squares: Vec<W>,
    /// The tile's part of the gradient, laid out as `raw`.
    gradient: Vec<W>,
}

impl<W: Real> Tile<W> {
    /// Loss and, where there is a place for it, gradient of all pairs of `left` and `right`; of
    /// `left` alone, its pairs `i < j`.
    pub(super) fn weigh<S: Element<Wide = W>>(
        &mut self,
        weighing: &Weighing<W>,
        (left, of_left): (Rows<S>, &mut Gradients<W>),
        right: Option<(Rows<S>, &mut Gradients<W>)>,
    ) -> Totals {
        let norm = weighing.variant.norm();
        let (other, mut of_right) = match right {
            Some((rows, gradients)) => (Some(rows), Some(gradients)),
            None => (None, None),
        };
        let wanted = !of_left.is_empty() || of_right.as_ref().is_some_and(|g| !g.is_empty());
        self.load(&left, other.as_ref(), norm);
        if wanted {
            for side in [&mut self.left, &mut self.right] {
                side.gradient.clear();
                side.gradient.resize(side.raw.len(), W::zero());
            }
        }
        let right = other.as_ref().unwrap_or(&left);
        let (totals, active) = Arch::new().dispatch(WeighRows {
            tile: self,
            weighing,
            left: &left,
            right,
            wanted,
        });
        if !wanted || active == 0 {
            return totals;
        }
        if self.product {
            self.gradient_of_product(active);
        }
        add_rows(&self.left.gradient, of_left);
        match &mut of_right {
            Some(of_right) => self.add_right(of_right),
            None => self.add_right(of_left),
        }
        totals
    }

    /// Shows every pair to the anchors of both sides.
    pub(super) fn measure<S: Element<Wide = W>>(
        &mut self,
        norm: Norm,
        (left, of_left): (Rows<S>, &mut Anchors<W>),
        right: Option<(Rows<S>, &mut Anchors<W>)>,
    ) {
        let (other, of_right) = match right {
            Some((rows, anchors)) => (Some(rows), Some(anchors)),
            None => (None, None),
        };
        self.load(&left, other.as_ref(), norm);
        let right = other.as_ref().unwrap_or(&left);
        Arch::new().dispatch(Measure {
            tile: self,
            norm,
            left: (&left, of_left),
            right: (right, of_right),
        });
    }

    /// The rows that row `i` makes pairs with.
    #[inline(always)]
    fn partners(&self, i: usize) -> Range<usize> {
        if self.diagonal {
            i + 1..self.columns
        } else {
            0..self.columns
        }
    }

    fn load<S: Element<Wide = W>>(&mut self, left: &Rows<S>, right: Option<&Rows<S>>, norm: Norm) {
        self.diagonal = right.is_none();
        let right = right.unwrap_or(left);
        self.rows = left.places.len();
        self.columns = right.places.len();
        self.dimensions = left.source.columns();
        self.product = norm == Norm::L2 && self.dimensions >= PRODUCT;
        self.values.resize(self.rows * self.columns, W::zero());
        self.kinds.resize(self.columns, DROPPED);
        Arch::new().dispatch(Load {
            tile: self,
            left,
            right,
        });
        if self.product {
            let d = self.dimensions;
            let left = Matrix::by_row(&self.left.centred, self.rows, d);
            let right = Matrix::by_row(&self.right.centred, self.columns, d);
            left.times(right.transposed(), &mut self.values);
        }
    }

    #[inline(always)]
    fn centre(&mut self) {
        let d = self.dimensions;
        let mut middle = vec![W::zero(); d];
        for row in [&self.left, &self.right]
            .into_iter()
            .flat_map(|side| side.raw.chunks_exact(d))
        {
            for (middle, &x) in middle.iter_mut().zip(row) {
                *middle += x;
            }
        }
        let share = W::one() / W::from_f64((self.rows + self.columns) as f64);
        for middle in &mut middle {
            *middle *= share;
        }
        self.left.centre(&middle);
        self.right.centre(&middle);
    }

    /// Makes row `i` of `values` the row's `s`.
    #[inline(always)]
    fn separate(&mut self, i: usize, norm: Norm) {
        let partners = self.partners(i);
        let (d, columns) = (self.dimensions, self.columns);
        let a = &self.left.raw[i * d..][..d];
        let row = &mut self.values[i * columns..][..columns];
        self.near.clear();
        if !self.product {
            row.fill(W::zero());
            for (&a, right) in a.iter().zip(self.right.raw.chunks_exact(columns)) {
                norm.fixed(
                    #[inline(always)]
                    |norm| {
                        add_to_each(
                            row,
                            right,
                            #[inline(always)]
                            |b| norm.term(a - b),
                        );
                    },
                );
            }
            return;
        }
        let square = self.left.squares[i];
        let two = W::one() + W::one();
        let mut any = 0u32;
        for (s, &other) in row[partners.clone()]
            .iter_mut()
            .zip(&self.right.squares[partners.clone()])
        {
            let both = square + other;
            *s = both - two * *s;
            any += u32::from(is_near(*s, both));
        }
        if any == 0 {
            return;
        }
        for j in partners {
            if is_near(row[j], square + self.right.squares[j]) {
                row[j] = sum_of(
                    a,
                    &self.right.raw[j * d..][..d],
                    #[inline(always)]
                    |a, b| Norm::L2.term(a - b),
                );
                self.near.push(j);
            }
        }
    }

    /// Makes `values` slopes; also returns how many are not 0, near pairs aside.
    #[inline(always)]
    fn weigh_rows<S: Element<Wide = W>>(
        &mut self,
        weighing: &Weighing<W>,
        left: &Rows<S>,
        right: &Rows<S>,
        wanted: bool,
    ) -> (Totals, usize) {
        let mut totals = Totals::default();
        let mut active = 0;
        let norm = weighing.variant.norm();
        let classes = &right.source.classes.of[right.places.clone()];
        for i in 0..self.rows {
            self.separate(i, norm);
            let partners = self.partners(i);
            let row = &mut self.values[i * self.columns..][..self.columns];
            row[..partners.start].fill(W::zero());
            let place = left.places.start + i;
            let class = left.source.classes.of[place];
            let kinds = &mut self.kinds[..self.columns];
            for (kind, &other) in kinds.iter_mut().zip(classes) {
                *kind = if other == class { SIMILAR } else { DISSIMILAR };
            }
            if let Some(limits) = left.limits {
                for j in partners.clone() {
                    let similar = kinds[j] == SIMILAR;
                    let kept = limits.keeps(place, row[j], similar)
                        || right
                            .limits
                            .is_some_and(|of| of.keeps(right.places.start + j, row[j], similar));
                    if !kept {
                        kinds[j] = DROPPED;
                    }
                }
            }
            let sloped = weigh_row(
                weighing,
                &kinds[partners.clone()],
                &mut row[partners.clone()],
                &mut totals,
            );
            active += sloped;
            if !wanted || sloped == 0 {
                continue;
            }
            if self.product {
                for n in 0..self.near.len() {
                    let j = self.near[n];
                    let slope = &mut self.values[i * self.columns + j];
                    let slope = std::mem::replace(slope, W::zero());
                    self.add_pair(i, j, slope);
                }
            } else {
                self.add_differences(i, norm);
            }
        }
        (totals, active)
    }

    /// The gradient of one pair, from its embeddings as they came.
    #[inline(always)]
    fn add_pair(&mut self, i: usize, j: usize, slope: W) {
        let d = self.dimensions;
        let a = self.left.raw[i * d..][..d].iter();
        let b = self.right.raw[j * d..][..d].iter();
        let of_a = self.left.gradient[i * d..][..d].iter_mut();
        let of_b = self.right.gradient[j * d..][..d].iter_mut();
        for ((&a, &b), (of_a, of_b)) in a.zip(b).zip(of_a.zip(of_b)) {
            let gradient = slope * (a - b);
            *of_a += gradient;
            *of_b -= gradient;
        }
    }

    /// The gradient of row `i`'s pairs, component by component.
    #[inline(always)]
    fn add_differences(&mut self, i: usize, norm: Norm) {
        let (d, columns) = (self.dimensions, self.columns);
        let slopes = &self.values[i * columns..][..columns];
        for k in 0..d {
            let a = self.left.raw[i * d + k];
            let right = &self.right.raw[k * columns..][..columns];
            let of_right = &mut self.right.gradient[k * columns..][..columns];
            let sum = norm.fixed(
                #[inline(always)]
                |norm| {
                    add_component(
                        slopes,
                        right,
                        of_right,
                        #[inline(always)]
                        |b| norm.direction(a - b),
                    )
                },
            );
            self.left.gradient[i * d + k] += sum;
        }
    }

    fn gradient_of_product(&mut self, active: usize) {
        let (d, rows, columns) = (self.dimensions, self.rows, self.columns);
        let dense = active * DENSE >= rows * columns;
        Arch::new().dispatch(AddRows { tile: self, dense });
        if dense {
            let slopes = Matrix::by_row(&self.values, rows, columns);
            let left = Matrix::by_row(&self.left.centred, rows, d);
            let right = Matrix::by_row(&self.right.centred, columns, d);
            slopes.subtract_product(right, &mut self.left.gradient);
            slopes
                .transposed()
                .subtract_product(left, &mut self.right.gradient);
        }
    }

    fn add_right(&self, rows: &mut Gradients<W>) {
        if self.product {
            add_rows(&self.right.gradient, rows);
            return;
        }
        for (k, gradient) in self.right.gradient.chunks_exact(self.columns).enumerate() {
            for (row, &gradient) in rows.iter_mut().zip(gradient) {
                row[k] += gradient;
            }
        }
    }
}

// What of a tile is worth the processor's widest vectors. These are no closures: between a closure
// and its caller stands a function that is not inlined, and the loops would stay narrow.

struct Load<'t, 'a, S: Element> {
    tile: &'t mut Tile<S::Wide>,
    left: &'t Rows<'a, S>,
    right: &'t Rows<'a, S>,
}

impl<S: Element> WithSimd for Load<'_, '_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, _: V) {
        let tile = self.tile;
        tile.left.read(self.left);
        tile.right.read(self.right);
        if tile.product {
            tile.centre();
        } else {
            tile.right.turn(tile.columns, tile.dimensions);
        }
    }
}

struct WeighRows<'t, 'a, S: Element> {
    tile: &'t mut Tile<S::Wide>,
    weighing: &'t Weighing<S::Wide>,
    left: &'t Rows<'a, S>,
    right: &'t Rows<'a, S>,
    wanted: bool,
}

impl<S: Element> WithSimd for WeighRows<'_, '_, S> {
    type Output = (Totals, usize);

    #[inline(always)]
    fn with_simd<V: Simd>(self, _: V) -> (Totals, usize) {
        self.tile
            .weigh_rows(self.weighing, self.left, self.right, self.wanted)
    }
}

struct Measure<'t, 'a, S: Element> {
    tile: &'t mut Tile<S::Wide>,
    norm: Norm,
    left: (&'t Rows<'a, S>, &'t mut Anchors<S::Wide>),
    /// No anchors of its own: those of the left.
    right: (&'t Rows<'a, S>, Option<&'t mut Anchors<S::Wide>>),
}

impl<S: Element> WithSimd for Measure<'_, '_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, _: V) {
        let tile = self.tile;
        let (left, of_left) = self.left;
        let (right, mut of_right) = self.right;
        let classes = &right.source.classes.of[right.places.clone()];
        for i in 0..tile.rows {
            tile.separate(i, self.norm);
            let class = left.source.classes.of[left.places.start + i];
            for j in tile.partners(i) {
                let s = tile.values[i * tile.columns + j];
                let similar = classes[j] == class;
                of_left.observe(i, s, similar);
                match &mut of_right {
                    Some(of_right) => of_right.observe(j, s, similar),
                    None => of_left.observe(j, s, similar),
                }
            }
        }
    }
}

/// What the gradient is made of beside the products: all of it where they are not worth it.
struct AddRows<'t, W> {
    tile: &'t mut Tile<W>,
    dense: bool,
}

impl<W: Real> WithSimd for AddRows<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, _: V) {
        let tile = self.tile;
        let (d, columns) = (tile.dimensions, tile.columns);
        if !self.dense {
            for i in 0..tile.rows {
                for j in tile.partners(i) {
                    let slope = tile.values[i * columns + j];
                    if slope != W::zero() {
                        tile.add_pair(i, j, slope);
                    }
                }
            }
            return;
        }
        let mut of_columns = vec![W::zero(); columns];
        for (i, slopes) in tile.values.chunks_exact(columns).enumerate() {
            for (of_column, &slope) in of_columns.iter_mut().zip(slopes) {
                *of_column += slope;
            }
            let of_row = sum_of(
                slopes,
                slopes,
                #[inline(always)]
                |slope, _| slope,
            );
            tile.left.add_multiple(i, of_row, d);
        }
        for (j, &of_column) in of_columns.iter().enumerate() {
            tile.right.add_multiple(j, of_column, d);
        }
    }
}

impl<W: Real> Side<W> {
    #[inline(always)]
    fn read<S: Element<Wide = W>>(&mut self, rows: &Rows<S>) {
        let d = rows.source.columns();
        self.raw.resize(rows.places.len() * d, W::zero());
        for (place, row) in rows.places.clone().zip(self.raw.chunks_exact_mut(d)) {
            rows.source.read(place, row);
        }
    }

    #[inline(always)]
    fn centre(&mut self, middle: &[W]) {
        let d = middle.len();
        self.centred.resize(self.raw.len(), W::zero());
        self.squares.clear();
        for (centred, raw) in self
            .centred
            .chunks_exact_mut(d)
            .zip(self.raw.chunks_exact(d))
        {
            for ((centred, &raw), &middle) in centred.iter_mut().zip(raw).zip(middle) {
                *centred = raw - middle;
            }
            self.squares.push(sum_of(
                centred,
                centred,
                #[inline(always)]
                |x, _| x * x,
            ));
        }
    }

    /// From by row to by component.
    #[inline(always)]
    fn turn(&mut self, rows: usize, d: usize) {
        self.centred.clear();
        for k in 0..d {
            self.centred
                .extend((0..rows).map(|row| self.raw[row * d + k]));
        }
        std::mem::swap(&mut self.raw, &mut self.centred);
    }

    #[inline(always)]
    fn add_multiple(&mut self, row: usize, factor: W, d: usize) {
        let gradient = &mut self.gradient[row * d..][..d];
        for (gradient, &x) in gradient.iter_mut().zip(&self.centred[row * d..][..d]) {
            *gradient += factor * x;
        }
    }
}

fn add_rows<W: Real>(gradient: &[W], rows: &mut Gradients<W>) {
    let Some(d) = rows.first().map(|row| row.len()) else {
        return;
    };
    for (row, gradient) in rows.iter_mut().zip(gradient.chunks_exact(d)) {
        for (sum, &part) in row.iter_mut().zip(gradient) {
            *sum += part;
        }
    }
}

/// Whether `s` has lost too many digits in a matrix product; `squares` is `|a|² + |b|²`. A NaN has,
/// be it from the overflow of a square.
#[inline(always)]
fn is_near<W: Real>(s: W, squares: W) -> bool {
    s < W::from_f64(NEAR) * squares || s.is_nan()
}
