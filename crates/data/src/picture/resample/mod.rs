//! Pictures of another size.
//!
//! Models are trained and calibrated on these bytes. They are those of [`image::imageops::resize`], which was used
//! before and is many times slower: the sums are taken in the same order and precision. A test holds them to it.

#[cfg(test)]
mod tests;

use std::f32::consts::PI;

use pulp::{Arch, NullaryFnOnce};

use super::{Filter, Size};

/// Rows of the result that are computed together, so that the pass along rows has vectors to work on.
const BAND: usize = 16;

/// Numbers in a band of rows at most, unless a single row is longer: 64 MiB.
const MOST_IN_BAND: usize = 1 << 24;

/// A value of a pixel.
pub(super) trait Level: Copy + Default + Into<f32> + 'static {
    /// The nearest level; halves are rounded away from 0.
    fn nearest(value: f32) -> Self;
}

impl Level for u8 {
    #[inline(always)]
    fn nearest(value: f32) -> Self {
        value.round() as Self
    }
}

impl Level for u16 {
    #[inline(always)]
    fn nearest(value: f32) -> Self {
        value.round() as Self
    }
}

/// A change of size, and the part of the result that is wanted.
#[derive(Debug)]
pub(super) struct Scaling {
    pub from: Size,
    pub to: Size,
    pub filter: Filter,
    /// What is skipped of the result at the left and at the top.
    pub skip: Size,
    pub keep: Size,
}

impl Scaling {
    /// All of the result is wanted.
    pub fn whole(from: Size, to: Size, filter: Filter) -> Self {
        Self {
            from,
            to,
            filter,
            skip: Size(0, 0),
            keep: to,
        }
    }

    /// Scales `pixels`, whose `channels` lie side by side; the result has planes.
    ///
    /// The filter is widened where the picture becomes smaller. Its sums are f32, over columns and then
    /// over rows, and rounded once.
    pub fn run<T: Level>(&self, pixels: &[T], channels: usize) -> Vec<T> {
        // Of a picture that keeps its size this takes each pixel itself, as Lanczos's sines do not quite.
        let filter = match self.from == self.to {
            true => Filter::Nearest,
            false => self.filter,
        };
        let taps = |from, to, skip, keep| -> Vec<Taps> {
            let places = skip..skip + keep;
            places.map(|at| Taps::of(filter, from, to, at)).collect()
        };
        let mut across = taps(self.from.0, self.to.0, self.skip.0, self.keep.0);
        let down = taps(self.from.1, self.to.1, self.skip.1, self.keep.1);
        let left = across.iter().map(|taps| taps.first).min().unwrap_or(0);
        let right = across.iter().map(Taps::end).max().unwrap_or(0);
        for taps in &mut across {
            taps.first -= left;
        }
        Arch::new().dispatch(Passes {
            pixels: &pixels[left * channels..],
            stride: self.from.0 * channels,
            columns: right - left,
            channels,
            across,
            down,
        })
    }
}

/// The places of which one of the result is the weighted mean.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    /// Those of place `at`, of `to` places made of `from`.
    fn of(filter: Filter, from: usize, to: usize, at: usize) -> Self {
        let ratio = from as f32 / to as f32;
        let widened = ratio.max(1.0);
        let support = filter.support() * widened;
        let centre = (at as f32 + 0.5) * ratio;
        let first = ((centre - support).floor() as usize).min(from - 1);
        let end = ((centre + support).ceil() as usize).clamp(first + 1, from);
        let weight = |i| filter.weight((i as f32 - (centre - 0.5)) / widened);
        let mut weights: Vec<f32> = (first..end).map(weight).collect();
        let total: f32 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= total;
        }
        Self { first, weights }
    }

    fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

impl Filter {
    /// How far from its middle it is not 0.
    fn support(self) -> f32 {
        match self {
            Self::Nearest => 0.0,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f32) -> f32 {
        let x = x.abs();
        match self {
            Self::Nearest => 1.0,
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => (9.0 * (x * x * x) - 15.0 * (x * x) + 6.0) / 6.0,
            Self::Bicubic if x < 2.0 => {
                (-3.0 * (x * x * x) + 15.0 * (x * x) - 24.0 * x + 12.0) / 6.0
            }
            Self::Bicubic => 0.0,
            Self::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f32) -> f32 {
    let angle = x * PI;
    if x == 0.0 { 1.0 } else { angle.sin() / angle }
}

/// Both passes, compiled for each set of vector instructions.
struct Passes<'a, T> {
    pixels: &'a [T],
    /// Values from one row to the next.
    stride: usize,
    /// Those that the result depends on.
    columns: usize,
    channels: usize,
    across: Vec<Taps>,
    down: Vec<Taps>,
}

impl<T: Level> NullaryFnOnce for Passes<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn call(self) -> Vec<T> {
        let (width, height) = (self.across.len(), self.down.len());
        let values = self.columns * self.channels;
        let rows = (MOST_IN_BAND / values.max(1)).clamp(1, BAND.min(height.max(1)));
        let mut result = vec![T::default(); self.channels * width * height];
        let mut row = vec![0.0; values];
        // Of each column its channels, of each of these its rows.
        let mut band = vec![0.0; values * rows];
        let mut pixel = vec![0.0; self.channels * rows];
        for (top, taps) in (0..).step_by(rows).zip(self.down.chunks(rows)) {
            for (i, taps) in taps.iter().enumerate() {
                let lines = &self.pixels[taps.first * self.stride..];
                blend(lines, self.stride, &taps.weights, &mut row);
                for (place, &value) in band[i..].iter_mut().step_by(rows).zip(&row) {
                    *place = value;
                }
            }
            for (x, across) in self.across.iter().enumerate() {
                let lines = &band[across.first * pixel.len()..];
                blend(lines, pixel.len(), &across.weights, &mut pixel);
                for (channel, values) in pixel.chunks_exact(rows).enumerate() {
                    let places = &mut result[(channel * height + top) * width + x..];
                    let places = places.iter_mut().step_by(width).take(taps.len());
                    for (place, &value) in places.zip(values) {
                        *place = T::nearest(value);
                    }
                }
            }
        }
        result
    }
}

/// The sum of lines, `stride` apart, each times its weight; added up in their order.
#[inline(always)]
fn blend<T: Copy + Into<f32>>(lines: &[T], stride: usize, weights: &[f32], sums: &mut [f32]) {
    let length = sums.len();
    let line = |i: usize| &lines[i * stride..][..length];
    sums.fill(0.0);
    // Four at a time, so that the sums are fetched and stored a quarter as often.
    let (fours, rest) = weights.as_chunks::<4>();
    for (i, [p, q, r, s]) in fours.iter().enumerate() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j| line(4 * i + j));
        for ((((sum, &a), &b), &c), &d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *sum = *sum + a.into() * p + b.into() * q + c.into() * r + d.into() * s;
        }
    }
    for (i, weight) in (4 * fours.len()..).zip(rest) {
        for (sum, &value) in sums.iter_mut().zip(line(i)) {
            *sum += value.into() * weight;
        }
    }
}
