use pulp::{Arch, Simd, WithSimd};

use super::lanes::{Buffer, Real, Registers};
use super::{CUT, Geometry};

/// Vectors of sums that are kept in registers at once.
const WIDEST: usize = 8;

/// The elements under the kernel, in blocks of neighbours.
struct Taps {
    blocks: Vec<Block>,
    /// For each window, where the patches of its four elements start.
    starts: Vec<[u32; 4]>,
    lanes: usize,
    filters: usize,
    patch_len: usize,
}

/// Elements that lie side by side, and as many vectors as hold them.
struct Block {
    vectors: usize,
    len: usize,
    /// Where they are in a filter, (kh, kw, C).
    in_filter: usize,
    /// Where they are in an image, from the patch's first element on.
    in_image: usize,
}

impl Taps {
    /// Over images as they are: a run of (kw, C) for each kernel row.
    fn of_images(lanes: usize, g: &Geometry) -> Self {
        let start = |y, x| y * g.row_len() + x * g.channels;
        Self::new(lanes, g, g.kernel[0], g.run(), start)
    }

    /// Over gathered patches: each is one run.
    fn of_patches(lanes: usize, g: &Geometry) -> Self {
        let start = |y, x| (y * 2 * g.pooled_width() + x) * g.patch_len().next_multiple_of(lanes);
        Self::new(lanes, g, 1, g.patch_len(), start)
    }

    fn new(
        lanes: usize,
        geometry: &Geometry,
        runs: usize,
        run: usize,
        start: impl Fn(usize, usize) -> usize,
    ) -> Self {
        let vectors = run.div_ceil(lanes);
        // As many blocks as the registers ask for, as equal as can be.
        let count = vectors.div_ceil(WIDEST);
        let blocks = (0..runs).flat_map(|a| {
            (0..count).map(move |block| {
                let [first, end] = [block, block + 1].map(|block| block * vectors / count);
                Block {
                    vectors: end - first,
                    len: run.min(end * lanes) - first * lanes,
                    in_filter: a * run + first * lanes,
                    in_image: a * geometry.row_len() + first * lanes,
                }
            })
        });
        let windows = (0..geometry.pooled_height())
            .flat_map(|i| (0..geometry.pooled_width()).map(move |j| (2 * i, 2 * j)));
        let starts = windows.map(|(y, x)| {
            [(y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)].map(|(y, x)| start(y, x) as u32)
        });
        Self {
            blocks: blocks.collect(),
            starts: starts.collect(),
            lanes,
            filters: geometry.filters,
            patch_len: geometry.patch_len(),
        }
    }

    /// Elements of all filters in vectors: block by block, in each filter by filter.
    fn len(&self) -> usize {
        self.blocks.iter().map(|block| self.block_len(block)).sum()
    }

    /// Elements of a block of all filters.
    fn block_len(&self, block: &Block) -> usize {
        block.vectors * self.filters * self.lanes
    }

    /// Filters, (O, kh, kw, C), in vectors, filled up with zeros.
    fn pack<T: Real>(&self, filters: &[T], packed: &mut [T]) {
        packed.fill(T::zero());
        self.for_each(|at, packed_at, len| {
            packed[packed_at..][..len].copy_from_slice(&filters[at..][..len]);
        });
    }

    /// Back again.
    fn unpack<T: Real>(&self, packed: &[T]) -> Vec<T> {
        let mut filters = vec![T::zero(); self.filters * self.patch_len];
        self.for_each(|at, packed_at, len| {
            filters[at..][..len].copy_from_slice(&packed[packed_at..][..len]);
        });
        filters
    }

    /// Calls `visit(place in the filters, place in the vectors, length)` for each block of each
    /// filter.
    fn for_each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let mut packed = 0;
        for block in &self.blocks {
            for filter in 0..self.filters {
                visit(filter * self.patch_len + block.in_filter, packed, block.len);
                packed += block.vectors * self.lanes;
            }
        }
    }
}

/// A window's gradient on its way back, and the place in a source that it multiplies.
#[derive(Clone, Copy)]
struct Hit<T> {
    gradient: T,
    source: u32,
}

/// Lists of hits, all of one capacity.
#[derive(Default)]
struct Hits<T> {
    hits: Vec<Hit<T>>,
    counts: Vec<u32>,
    capacity: usize,
}

impl<T: Real> Hits<T> {
    /// Makes room, and returns each list with its count, to be written.
    fn lists_mut(
        &mut self,
        lists: usize,
        capacity: usize,
    ) -> impl Iterator<Item = (&mut [Hit<T>], &mut u32)> {
        let none = Hit {
            gradient: T::zero(),
            source: 0,
        };
        self.hits.resize(lists * capacity, none);
        self.counts.resize(lists, 0);
        self.capacity = capacity;
        self.hits.chunks_exact_mut(capacity).zip(&mut self.counts)
    }

    fn list(&self, list: usize) -> &[Hit<T>] {
        &self.hits[list * self.capacity..][..self.counts[list] as usize]
    }

    fn lists(&self) -> impl Iterator<Item = &[Hit<T>]> {
        let lists = self.hits.chunks_exact(self.capacity);
        lists
            .zip(&self.counts)
            .map(|(list, &count)| &list[..count as usize])
    }
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Scratch<T> {
    image: Buffer<T>,
    patches: Buffer<T>,
    hits: Hits<T>,
}

/// Patches of an image are gathered where they have at most this many elements: 4 MiB of f32.
const PATCHES: usize = 1 << 20;

/// What all images' backward passes share.
pub(super) struct Plan<'a, T> {
    geometry: &'a Geometry,
    /// For the gradient of the filters.
    filter_taps: Taps,
    /// Whether these are over gathered patches.
    gathers: bool,
    /// For the gradient of the images.
    image_taps: Taps,
    /// In the order of `image_taps`.
    filters: Buffer<T>,
    /// The order in which positions give their gradient to the image. Neighbours in a row overlap
    /// in the image, and to load what was stored a moment ago from another start stalls; so the
    /// order is down the columns.
    by_column: Vec<usize>,
}

impl<'a, T: Real> Plan<'a, T> {
    pub(super) fn new(arch: Arch, g: &'a Geometry, filters: &[T]) -> Self {
        let lanes = Registers::of::<T>(arch).lanes;
        let image_taps = Taps::of_images(lanes, g);
        let mut packed = Buffer::default();
        image_taps.pack(filters, packed.first_mut(image_taps.len()));
        let (height, width) = (g.pooled_height(), g.pooled_width());
        // A run shorter than a vector would leave some of it unused.
        let gathers = g.run() < lanes
            && 4 * height * width * g.patch_len().next_multiple_of(lanes) <= PATCHES;
        let column = |x: usize| {
            (0..2 * height).map(move |y| 4 * (y / 2 * width + x / 2) + 2 * (y % 2) + x % 2)
        };
        Self {
            geometry: g,
            filter_taps: match gathers {
                true => Taps::of_patches(lanes, g),
                false => Taps::of_images(lanes, g),
            },
            gathers,
            image_taps,
            filters: packed,
            by_column: (0..2 * width).flat_map(column).collect(),
        }
    }

    /// Elements of a sum of the filters' gradients.
    pub(super) fn filters_len(&self) -> usize {
        self.filter_taps.len()
    }

    /// Such a sum as (O, kh, kw, C).
    pub(super) fn filters_gradient(&self, sum: &[T]) -> Vec<T> {
        self.filter_taps.unpack(sum)
    }
}

/// The gradients of some images.
///
/// A window's gradient belongs to one of its four elements, so that of the four products that a
/// dense backward pass computes for it three are by zero. Here there is only the one.
pub(super) struct Backward<'a, T> {
    pub(super) plan: &'a Plan<'a, T>,
    pub(super) images: &'a [T],
    pub(super) gradient: &'a [T],
    pub(super) winners: &'a [u8],
    /// Zeros, where wanted.
    pub(super) of_images: Option<&'a mut [T]>,
    /// A sum to add to, in the plan's order, where wanted.
    pub(super) of_filters: Option<&'a mut [T]>,
    pub(super) of_bias: Option<&'a mut [T]>,
    pub(super) scratch: &'a mut Scratch<T>,
}

/// Calls a function for as many vectors as a block has.
macro_rules! with_width {
    ($width:expr, $function:ident, $arguments:tt) => {
        match $width {
            1 => with_width!(@call $function, 1, $arguments),
            2 => with_width!(@call $function, 2, $arguments),
            3 => with_width!(@call $function, 3, $arguments),
            4 => with_width!(@call $function, 4, $arguments),
            5 => with_width!(@call $function, 5, $arguments),
            6 => with_width!(@call $function, 6, $arguments),
            7 => with_width!(@call $function, 7, $arguments),
            WIDEST => with_width!(@call $function, WIDEST, $arguments),
            _ => unreachable!("a block has 1 to {WIDEST} vectors"),
        }
    };
    (@call $function:ident, $width:expr, ($($argument:expr),*)) => {
        $function::<S, T, $width>($($argument),*)
    };
}

impl<T: Real> WithSimd for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let g = self.plan.geometry;
        let images = self
            .gradient
            .chunks_exact(g.pooled_len())
            .zip(self.winners.chunks_exact(g.pooled_len()));
        for (image, (gradient, winners)) in images.enumerate() {
            // As of every dissimilar pair beyond the margin.
            if gradient.iter().all(|&gradient| gradient == T::zero()) {
                continue;
            }
            if self.of_filters.is_some() || self.of_bias.is_some() {
                let hits = &mut self.scratch.hits;
                hits.collect_by_filter(&self.plan.filter_taps, gradient, winners);
                self.add_to_bias();
                self.add_to_filters(simd, image);
            }
            if self.of_images.is_some() {
                let hits = &mut self.scratch.hits;
                hits.collect_by_position(&self.plan.image_taps, gradient, winners);
                self.add_to_image(simd, image);
            }
        }
    }
}

impl<T: Real> Backward<'_, T> {
    fn add_to_bias(&mut self) {
        for (of_bias, hits) in self
            .of_bias
            .iter_mut()
            .flat_map(|of| of.iter_mut())
            .zip(self.scratch.hits.lists())
        {
            *of_bias += hits.iter().fold(T::zero(), |sum, hit| sum + hit.gradient);
        }
    }

    #[inline(always)]
    fn add_to_filters<S: Simd>(&mut self, simd: S, image: usize) {
        let Some(mut of_filters) = self.of_filters.as_deref_mut() else {
            return;
        };
        let (plan, g) = (self.plan, self.plan.geometry);
        let Scratch {
            image: padded,
            patches,
            hits,
        } = &mut *self.scratch;
        let image = &self.images[image * g.image_len()..][..g.image_len()];
        let padded = copy(image, T::lanes::<S>(), padded);
        let source = match plan.gathers {
            true => gather::<S, T>(g, padded, patches),
            false => padded,
        };
        for block in &plan.filter_taps.blocks {
            let (of_block, others) = of_filters.split_at_mut(plan.filter_taps.block_len(block));
            of_filters = others;
            with_width!(
                block.vectors,
                add_patches,
                (simd, block, hits, source, of_block)
            );
        }
    }

    #[inline(always)]
    fn add_to_image<S: Simd>(&mut self, simd: S, image: usize) {
        let Some(of_images) = self.of_images.as_deref_mut() else {
            return;
        };
        let (plan, g) = (self.plan, self.plan.geometry);
        let of_image = &mut of_images[image * g.image_len()..][..g.image_len()];
        let mut filters = plan.filters.first(plan.image_taps.len());
        for block in &plan.image_taps.blocks {
            let (of_block, others) = filters.split_at(plan.image_taps.block_len(block));
            filters = others;
            let hits = &self.scratch.hits;
            with_width!(
                block.vectors,
                add_filters,
                (simd, block, plan, hits, of_block, of_image)
            );
        }
    }
}

impl<T: Real> Hits<T> {
    /// For each filter its gradients, with the starts of the patches that they multiply. Those that
    /// are 0 end here.
    #[inline(always)]
    fn collect_by_filter(&mut self, taps: &Taps, gradient: &[T], winners: &[u8]) {
        let filters = taps.filters;
        let lists = self.lists_mut(filters, taps.starts.len());
        for (filter, (list, count)) in lists.enumerate() {
            let gradient = gradient.chunks_exact(filters);
            let winners = winners.chunks_exact(filters);
            let mut hits = 0;
            for ((gradient, winners), starts) in gradient.zip(winners).zip(&taps.starts) {
                let (gradient, winner) = (gradient[filter], winners[filter]);
                list[hits] = Hit {
                    gradient,
                    source: starts[usize::from(winner % 4)],
                };
                // Without a branch: no processor foresees which windows count.
                hits += usize::from((winner != CUT) & (gradient != T::zero()));
            }
            *count = hits as u32;
        }
    }

    /// For each position, window by window, its gradients, with the filters that they multiply.
    #[inline(always)]
    fn collect_by_position(&mut self, taps: &Taps, gradient: &[T], winners: &[u8]) {
        let filters = taps.filters;
        let mut lists = self.lists_mut(4 * taps.starts.len(), filters);
        let windows = gradient
            .chunks_exact(filters)
            .zip(winners.chunks_exact(filters));
        for (gradient, winners) in windows {
            let mut of_window: [_; 4] = std::array::from_fn(|_| lists.next());
            for list in of_window.iter_mut().flatten() {
                *list.1 = 0;
            }
            for (filter, (&gradient, &winner)) in gradient.iter().zip(winners).enumerate() {
                if let Some(Some((list, count))) = of_window.get_mut(usize::from(winner))
                    && gradient != T::zero()
                {
                    list[**count as usize] = Hit {
                        gradient,
                        source: filter as u32,
                    };
                    **count += 1;
                }
            }
        }
    }
}

/// The image, with room behind it for a vector that starts at its last element.
#[inline(always)]
fn copy<'a, T: Real>(image: &[T], lanes: usize, buffer: &'a mut Buffer<T>) -> &'a [T] {
    let copy = buffer.first_mut(image.len() + lanes);
    copy[..image.len()].copy_from_slice(image);
    copy
}

/// im2col: the patch under the kernel at each position, filled up to whole vectors with anything.
/// `image` has room behind it, as [`copy`] makes it.
#[inline(always)]
fn gather<'a, S: Simd, T: Real>(g: &Geometry, image: &[T], buffer: &'a mut Buffer<T>) -> &'a [T] {
    let lanes = T::lanes::<S>();
    let stride = g.patch_len().next_multiple_of(lanes);
    let (height, width) = (2 * g.pooled_height(), 2 * g.pooled_width());
    let gathered = buffer.first_mut(height * width * stride + lanes);
    let mut patch = 0;
    for y in 0..height {
        for x in 0..width {
            let start = y * g.row_len() + x * g.channels;
            for a in 0..g.kernel[0] {
                // A whole vector each, faster than just the run; what is too much of it is
                // overwritten by the next.
                let run = &image[start + a * g.row_len()..][..lanes];
                let to = &mut gathered[patch + a * g.run()..][..lanes];
                T::vectors_mut::<S>(to).copy_from_slice(T::vectors::<S>(run));
            }
            patch += stride;
        }
    }
    gathered
}

/// `of_filter += Σ gradient · patch`, for every filter.
#[inline(always)]
fn add_patches<S: Simd, T: Real, const V: usize>(
    simd: S,
    block: &Block,
    hits: &Hits<T>,
    image: &[T],
    of_filters: &mut [T],
) {
    let image = &image[block.in_image..];
    let of_filters = of_filters.chunks_exact_mut(V * T::lanes::<S>());
    for (hits, of_filter) in hits.lists().zip(of_filters) {
        let of_filter = T::vectors_mut::<S>(of_filter);
        let sums = std::array::from_fn(|v| of_filter[v]);
        let patches = hits.iter().map(|hit| (hit.gradient, hit.source as usize));
        of_filter.copy_from_slice(&accumulate::<S, T, V>(simd, sums, patches, image));
    }
}

/// `of_patch += Σ gradient · filter`, for every position.
#[inline(always)]
fn add_filters<S: Simd, T: Real, const V: usize>(
    simd: S,
    block: &Block,
    plan: &Plan<T>,
    hits: &Hits<T>,
    filters: &[T],
    of_image: &mut [T],
) {
    let lanes = T::lanes::<S>();
    let starts = plan.image_taps.starts.as_flattened();
    for &position in &plan.by_column {
        let hits = hits.list(position);
        if hits.is_empty() {
            continue;
        }
        let zeros = [T::splat(simd, T::zero()); V];
        let sources = hits
            .iter()
            .map(|hit| (hit.gradient, hit.source as usize * V * lanes));
        let sums = accumulate::<S, T, V>(simd, zeros, sources, filters);
        let start = starts[position] as usize + block.in_image;
        let of_patch = &mut of_image[start..][..block.len];
        let (whole, part) = of_patch.split_at_mut(block.len / lanes * lanes);
        for (of_patch, &sum) in T::vectors_mut::<S>(whole).iter_mut().zip(&sums) {
            *of_patch = T::sum(simd, *of_patch, sum);
        }
        if !part.is_empty() {
            let sum = T::sum(simd, T::load_part(simd, part), sums[V - 1]);
            T::store_part(simd, part, sum);
        }
    }
}

/// `sums + Σ gradient · source`.
#[inline(always)]
fn accumulate<S: Simd, T: Real, const V: usize>(
    simd: S,
    mut sums: [T::Vector<S>; V],
    hits: impl Iterator<Item = (T, usize)>,
    source: &[T],
) -> [T::Vector<S>; V] {
    for (gradient, start) in hits {
        let gradient = T::splat(simd, gradient);
        let source = T::vectors::<S>(&source[start..][..V * T::lanes::<S>()]);
        for v in 0..V {
            sums[v] = T::mul_add(simd, gradient, source[v], sums[v]);
        }
    }
    sums
}
