use std::ops::Range;

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, Pixel};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// One channel of `pixels`.
fn plane<T: Level>(pixels: &[T], channels: usize, channel: usize) -> Vec<T> {
    let values = pixels[channel..].iter().step_by(channels);
    values.copied().collect()
}

/// By the `image` crate: the planes of the part that is wanted.
fn stock<T: Level>(scaling: &Scaling, pixels: &[T], channels: usize) -> Vec<T>
where
    Luma<T>: Pixel<Subpixel = T>,
{
    let filter = match scaling.filter {
        Filter::Nearest => FilterType::Nearest,
        Filter::Bilinear => FilterType::Triangle,
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Lanczos => FilterType::Lanczos3,
    };
    let sides = |Size(width, height)| (width as u32, height as u32);
    let ((width, height), to) = (sides(scaling.from), sides(scaling.to));
    let ((left, top), keep) = (sides(scaling.skip), sides(scaling.keep));
    let planes = (0..channels).flat_map(|channel| {
        let plane = plane(pixels, channels, channel);
        let plane = ImageBuffer::<Luma<T>, _>::from_raw(width, height, plane).unwrap();
        let scaled = imageops::resize(&plane, to.0, to.1, filter);
        imageops::crop_imm(&scaled, left, top, keep.0, keep.1)
            .to_image()
            .into_raw()
    });
    planes.collect()
}

/// Catmull and Rom's spline through points at -1, 0, 1 and 2, by the place of the one that is weighed.
fn catmull_rom(x: f64) -> f64 {
    match x.abs() {
        x if x < 1.0 => 1.5 * x.powi(3) - 2.5 * x.powi(2) + 1.0,
        x if x < 2.0 => -0.5 * x.powi(3) + 2.5 * x.powi(2) - 4.0 * x + 2.0,
        _ => 0.0,
    }
}

/// The definition: the mean of all pixels of a plane, weighted by their places; before rounding.
fn exact<T: Level>(plane: &[T], from: Size, to: Size, [x, y]: [usize; 2]) -> f64 {
    let weights = |from: usize, to: usize, at: usize| -> Vec<f64> {
        let ratio = from as f64 / to as f64;
        let distance = |i: usize| (i as f64 + 0.5) - (at as f64 + 0.5) * ratio;
        let weights = (0..from).map(|i| catmull_rom(distance(i) / ratio.max(1.0)));
        weights.collect()
    };
    let (across, down) = (weights(from.0, to.0, x), weights(from.1, to.1, y));
    let mut sum = 0.0;
    for (row, vertical) in plane.chunks_exact(from.0).zip(&down) {
        for (&value, horizontal) in row.iter().zip(&across) {
            sum += f64::from(value.into()) * horizontal * vertical;
        }
    }
    sum / (across.iter().sum::<f64>() * down.iter().sum::<f64>())
}

/// The most by which a value of the result differs from the exact one, which has to lie within its range;
/// over 500 places, spread evenly, or all.
fn worst<T: Level>(scaling: &Scaling, pixels: &[T], channels: usize, most: f64) -> f64 {
    let Size(width, height) = scaling.to;
    let scaled = scaling.run(pixels, channels);
    let mut worst = 0.0f64;
    for (channel, scaled) in scaled.chunks_exact(width * height).enumerate() {
        let plane = plane(pixels, channels, channel);
        for (i, &value) in scaled
            .iter()
            .enumerate()
            .step_by(scaled.len().div_ceil(500))
        {
            let place = [i % width, i / width];
            let exact = exact(&plane, scaling.from, scaling.to, place).clamp(0.0, most);
            worst = worst.max((f64::from(value.into()) - exact).abs());
        }
    }
    worst
}

fn random<T>(count: usize, seed: u64, level: fn(u16) -> T) -> Vec<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Half of them at the ends of the range, beyond which the cubic goes.
    let value = |rng: &mut ChaCha8Rng| match rng.random_range(0..4) {
        0 => 0,
        1 => u16::MAX,
        _ => rng.random(),
    };
    (0..count).map(|_| level(value(&mut rng))).collect()
}

fn byte(value: u16) -> u8 {
    (value >> 8) as u8
}

fn size(sides: Range<usize>) -> impl Strategy<Value = Size> {
    [sides.clone(), sides].prop_map(|[width, height]| Size(width, height))
}

fn scaling() -> impl Strategy<Value = Scaling> {
    let filters = [
        Filter::Nearest,
        Filter::Bilinear,
        Filter::Bicubic,
        Filter::Lanczos,
    ];
    let window = any::<[Index; 2]>();
    let parts = (
        size(1..70),
        size(1..50),
        select(filters.to_vec()),
        [window.clone(), window],
    );
    parts.prop_map(|(from, to, filter, [skip, keep])| {
        let skip = Size(skip[0].index(to.0), skip[1].index(to.1));
        let keep = Size(
            1 + keep[0].index(to.0 - skip.0),
            1 + keep[1].index(to.1 - skip.1),
        );
        Scaling {
            from,
            to,
            filter,
            skip,
            keep,
        }
    })
}

proptest! {
    /// Models were trained and calibrated on those: the embeddings of pictures must not change.
    #[test]
    fn the_bytes_are_those_of_the_image_crate(
        scaling in scaling(),
        channels in select(vec![1, 3]),
        seed: u64,
    ) {
        let count = scaling.from.0 * scaling.from.1 * channels;
        let pixels = random(count, seed, byte);
        prop_assert_eq!(scaling.run(&pixels, channels), stock(&scaling, &pixels, channels));
        let pixels = random(count, seed, |value| value);
        prop_assert_eq!(scaling.run(&pixels, channels), stock(&scaling, &pixels, channels));
    }

    #[test]
    fn catmull_rom_is_met_to_within_rounding(
        from in size(1..60),
        to in size(1..30),
        seed: u64,
    ) {
        let scaling = Scaling::whole(from, to, Filter::Bicubic);
        let pixels = random(from.0 * from.1 * 3, seed, byte);
        prop_assert!(worst(&scaling, &pixels, 3, 255.0) <= 0.51);
        let pixels = random(from.0 * from.1, seed, |value| value);
        prop_assert!(worst(&scaling, &pixels, 1, 65535.0) <= 2.0);
    }
}

#[test]
fn a_photograph_is_scaled_to_within_rounding() {
    let scaling = Scaling::whole(Size(640, 480), Size(64, 48), Filter::Bicubic);
    let pixels = random(640 * 480, 1, byte);
    let worst = worst(&scaling, &pixels, 1, 255.0);
    assert!(worst <= 0.51, "{worst}");
}

#[test]
fn a_strip_too_long_for_a_band_is_scaled_row_by_row() {
    let from = Size(MOST_IN_BAND / 3, 1);
    let pixels = random(from.0, 2, byte);
    let row = Scaling::whole(from, Size(3, 1), Filter::Bilinear).run(&pixels, 1);
    let rows = Scaling::whole(from, Size(3, 7), Filter::Bilinear).run(&pixels, 1);
    assert_eq!(rows, row.repeat(7));
}
