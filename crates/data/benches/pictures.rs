//! Pictures read and letterboxed to 64x64, by one thread and by two, beside the same with
//! `image::imageops::resize`, as it was done before.
//!
//! Both have to give the same bytes before anything is timed. The files are made here: soft shapes with some
//! grain, JPEGs of 640x480 pixels and PNGs of 300x420.
//!
//! ```text
//! cargo bench -p data
//! ```

use std::error::Error;
use std::hint::black_box;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Instant;

use data::{Framing, ImageShape, read_picture};
use image::imageops::{self, FilterType};
use image::{GenericImageView, GrayImage, ImageFormat, RgbImage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

const FILES: usize = 32;
/// Those that the way of before is timed on.
const FEW: usize = 4;
const ROUNDS: usize = 9;

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 64,
    width: 64,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A picture with about as much detail as a photograph.
fn picture([width, height]: [u32; 2], rng: &mut ChaCha8Rng) -> RgbImage {
    let waves: Vec<_> = (0..8)
        .map(|_| {
            let [along, down, phase] = [0.15, 0.15, 6.3f32].map(|most| rng.random::<f32>() * most);
            let strength: [f32; 3] = rng.random();
            (along, down, phase, strength)
        })
        .collect();
    RgbImage::from_fn(width, height, |x, y| {
        let mut rgb = [128.0; 3];
        for (along, down, phase, strength) in &waves {
            let wave = (x as f32 * along + y as f32 * down + phase).sin();
            for (value, strength) in rgb.iter_mut().zip(strength) {
                *value += 30.0 * wave * strength;
            }
        }
        let grain = rng.random_range(-12.0..12.0);
        rgb.map(|value| (value + grain) as u8).into()
    })
}

fn files(folder: &Path, format: ImageFormat, size: [u32; 2]) -> Result<Vec<PathBuf>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut file = |i: usize| {
        let mut bytes = Cursor::new(Vec::new());
        picture(size, &mut rng).write_to(&mut bytes, format)?;
        let path = folder.join(format!("{i}.{}", format.extensions_str()[0]));
        std::fs::write(&path, bytes.into_inner())?;
        Ok(path)
    };
    (0..FILES).map(&mut file).collect()
}

fn now(path: &Path) -> Result<Vec<u8>> {
    Ok(read_picture(path, SHAPE, Framing::Letterbox)?.pixels)
}

/// The way of before: planes, each scaled alone.
fn before(path: &Path) -> Result<Vec<u8>> {
    let picture = image::load_from_memory(&std::fs::read(path)?)?;
    let (width, height) = picture.dimensions();
    let scale = (64.0 / f64::from(width)).min(64.0 / f64::from(height));
    let [to_width, to_height] =
        [width, height].map(|side| (f64::from(side) * scale).round() as u32);
    let (left, top) = ((64 - to_width) / 2, (64 - to_height) / 2);
    let planes = (0..3).flat_map(|channel| {
        let plane = GrayImage::from_fn(width, height, |x, y| {
            [picture.get_pixel(x, y)[channel]].into()
        });
        let on_border = |&(x, y, _): &(u32, u32, _)| x % (width - 1) == 0 || y % (height - 1) == 0;
        let border = plane.enumerate_pixels().filter(on_border);
        let mut border: Vec<u8> = border.map(|(_, _, pixel)| pixel[0]).collect();
        let middle = border.len() / 2;
        let ground = *border.select_nth_unstable(middle).1;
        let mut framed = GrayImage::from_pixel(64, 64, [ground].into());
        let scaled = imageops::resize(&plane, to_width, to_height, FilterType::CatmullRom);
        imageops::replace(&mut framed, &scaled, left.into(), top.into());
        framed.into_raw()
    });
    Ok(planes.collect())
}

/// Pictures a second.
fn rate(files: &[PathBuf], read: fn(&Path) -> Result<Vec<u8>>) -> Result<f64> {
    let start = Instant::now();
    files
        .par_iter()
        .try_for_each(|path| read(path).map(|pixels| drop(black_box(pixels))))?;
    Ok(files.len() as f64 / start.elapsed().as_secs_f64())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let (one, two) = (pool(1)?, pool(2)?);
    for (format, size) in [
        (ImageFormat::Jpeg, [640, 480]),
        (ImageFormat::Png, [300, 420]),
    ] {
        let files = files(folder.path(), format, size)?;
        for path in &files[..FEW] {
            assert!(now(path)? == before(path)?, "{} differs", path.display());
        }
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push([
                one.install(|| rate(&files[..FEW], before))?,
                one.install(|| rate(&files, now))?,
                two.install(|| rate(&files, now))?,
            ]);
        }
        let rate = |which: usize| median(rounds.iter().map(|round| round[which]));
        let ratio = |a: usize, b: usize| median(rounds.iter().map(|round| round[a] / round[b]));
        println!(
            "{format:?} of {}x{} to 64x64, pictures a second (medians of {ROUNDS}): {:.0} by one thread, {:.1} \
             times the {:.0} with imageops::resize; {:.0} by two, {:.2} times one",
            size[0],
            size[1],
            rate(1),
            ratio(1, 0),
            rate(0),
            rate(2),
            ratio(2, 1),
        );
    }
    Ok(())
}
