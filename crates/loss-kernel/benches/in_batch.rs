//! The loss over all pairs of a batch, beside `ContrastiveLoss` on the list of these pairs.
//!
//!     cargo bench -p loss-kernel --bench in_batch             # checks, then prints ratios
//!     cargo bench -p loss-kernel --bench in_batch -- --large  # N = 65,536, with its peak memory
//!
//! Both are forward and backward on unit vectors of 128 dimensions, in f32, on the threads of
//! `RAYON_NUM_THREADS`, a round of each in turn; values and gradients are compared before anything
//! is timed. `--serve FOLDER` answers `scripts/compare-metric-learning.py`.

#![expect(unsafe_code, reason = "an allocator is unsafe to be")]

use std::alloc::{GlobalAlloc, System};
use std::fs;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use loss_kernel::{
    ContrastiveLoss, InBatchContrastiveLoss, InBatchReduction, Margin, Miner, Variant,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CPU: &Device = &Device::Cpu;
const DIM: usize = 128;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only counters are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: the caller's layout, as the caller must have made it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: std::alloc::Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes held at once beyond what was held before.
fn peak(work: impl FnOnce() -> Result<()>) -> Result<usize> {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    work()?;
    Ok(PEAK.load(Relaxed) - before)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--serve") {
        let folder = arguments.get(at + 1).ok_or("--serve needs a folder")?;
        return serve(Path::new(folder));
    }
    if arguments.iter().any(|argument| argument == "--large") {
        return large();
    }
    compare()
}

/// Eight points a class around its own centre, of length 1.
fn batch(rows: usize) -> Result<(Tensor, Tensor)> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut uniform =
        |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let classes = rows / 8;
    let (centres, mut values) = (uniform(classes * DIM), uniform(rows * DIM));
    for (i, value) in values.iter_mut().enumerate() {
        *value += centres[i / DIM % classes * DIM + i % DIM];
    }
    let labels: Vec<u32> = (0..rows).map(|i| (i % classes) as u32).collect();
    let x = Tensor::from_vec(values, (rows, DIM), CPU)?;
    let x = x.broadcast_div(&x.sqr()?.sum_keepdim(1)?.sqrt()?)?;
    Ok((x, Tensor::new(labels, CPU)?))
}

/// Value and gradient of the loss over the list of all pairs, through candle's backward pass.
fn listed(margin: f64, x: &Tensor, labels: &Tensor) -> Result<(f32, Tensor)> {
    let n = x.dims()[0];
    let of = labels.to_vec1::<u32>()?;
    let pairs = || (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
    let first = Tensor::from_iter(pairs().map(|(i, _)| i as u32), CPU)?;
    let second = Tensor::from_iter(pairs().map(|(_, j)| j as u32), CPU)?;
    let same = Tensor::from_iter(pairs().map(|(i, j)| u8::from(of[i] == of[j])), CPU)?;
    let var = Var::from_tensor(x)?;
    let loss = ContrastiveLoss::new(Margin::new(margin)?).forward(
        &var.index_select(&first, 0)?,
        &var.index_select(&second, 0)?,
        &same,
    )?;
    let gradients = loss.backward()?;
    let gradient = gradients.get(&var).ok_or("no gradient")?.clone();
    Ok((loss.to_scalar()?, gradient))
}

fn in_batch(loss: InBatchContrastiveLoss, x: &Tensor, labels: &Tensor) -> Result<(f32, Tensor)> {
    let var = Var::from_tensor(x)?;
    let value = loss.forward(&var, labels)?;
    let gradients = value.backward()?;
    let gradient = gradients.get(&var).ok_or("no gradient")?.clone();
    Ok((value.to_scalar()?, gradient))
}

fn compare() -> Result<()> {
    // At margin 1 next to no dissimilar pair of unit vectors has a gradient, at 1.5 all have.
    for margin in [1.0, 1.5] {
        let loss = InBatchContrastiveLoss::new(Margin::new(margin)?);
        for rows in [256, 1024] {
            let (x, labels) = batch(rows)?;
            let (expected, of_list) = listed(margin, &x, &labels)?;
            let (value, gradient) = in_batch(loss, &x, &labels)?;
            let worst = (&gradient - &of_list)?
                .abs()?
                .max_all()?
                .to_scalar::<f32>()?;
            let largest = of_list.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(
                (value - expected).abs() <= 1e-5 * expected && worst <= 1e-4 * largest,
                "N = {rows}: {value} for {expected}, gradient off by {worst} of {largest}"
            );
            let (ours, list) = medians(
                9,
                || in_batch(loss, &x, &labels),
                || listed(margin, &x, &labels),
            )?;
            println!(
                "N = {rows}, margin {margin}: {:.2} ms, the list of pairs {:.1} ms, \
                 {:.0} times faster",
                ours * 1e3,
                list * 1e3,
                list / ours
            );
        }
        for rows in [4096, 8192] {
            let (x, labels) = batch(rows)?;
            let all = || in_batch(loss, &x, &labels);
            let mined = loss.miner(Miner::Hard);
            let hard = || in_batch(mined, &x, &labels);
            let (all, hard) = medians(5, all, hard)?;
            println!(
                "N = {rows}, margin {margin}: {:.1} ms; hard pairs {:.1} ms, {:.2} times as long",
                all * 1e3,
                hard * 1e3,
                hard / all
            );
        }
    }
    Ok(())
}

/// The median seconds of each, taken in turns so that a busy machine slows both.
fn medians<T>(
    rounds: usize,
    one: impl Fn() -> Result<T>,
    other: impl Fn() -> Result<T>,
) -> Result<(f64, f64)> {
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        black_box(one()?);
        times.0.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        black_box(other()?);
        times.1.push(start.elapsed().as_secs_f64());
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Ok((median(times.0), median(times.1)))
}

/// Whether cost grows as N² and memory as N, up to N = 65,536.
fn large() -> Result<()> {
    const MOST: usize = 32 << 20;
    let loss = InBatchContrastiveLoss::new(Margin::new(1.5)?);
    let (x, labels) = batch(512)?;
    in_batch(loss, &x, &labels)?; // starts the threads
    let mut per_pair = Vec::new();
    for rows in [8192, 16_384, 65_536] {
        let (x, labels) = batch(rows)?;
        let start = Instant::now();
        let mut result = None;
        let bytes = peak(|| {
            result = Some(loss.loss_and_gradient(&x, &labels)?);
            Ok(())
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let beyond = bytes - rows * DIM * 4;
        assert!(
            beyond <= MOST,
            "N = {rows}: {beyond} bytes beyond the gradient"
        );
        per_pair.push(seconds / (rows as f64).powi(2));
        println!(
            "N = {rows}: {seconds:.2} s, {:.1} MiB beyond the gradient's {:.0} MiB, \
             {:.2} times the seconds a pair of N = 8192",
            beyond as f64 / (1 << 20) as f64,
            (rows * DIM * 4) as f64 / (1 << 20) as f64,
            per_pair[per_pair.len() - 1] / per_pair[0]
        );
    }
    Ok(())
}

/// Answers each line `ROWS VARIANT MARGIN REDUCTION` about the batch in `FOLDER/embeddings`
/// (f32, little-endian) and `FOLDER/labels` (i64) with value, seconds and peak bytes beyond what
/// was held before; the gradient goes to `FOLDER/gradient`. Always balanced and normalised.
fn serve(folder: &Path) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[rows, variant, margin, reduction] = words.as_slice() else {
            return Err(format!("ROWS VARIANT MARGIN REDUCTION expected, got {line:?}").into());
        };
        let rows: usize = rows.parse()?;
        let named = |name: &str| format!("\"{name}\"");
        let variant: Variant = serde_json::from_str(&named(variant))?;
        let reduction: InBatchReduction = serde_json::from_str(&named(reduction))?;
        let loss = InBatchContrastiveLoss::new(Margin::new(margin.parse()?)?)
            .variant(variant)
            .reduction(reduction)
            .balanced(true)
            .normalised(true);
        let values: Vec<f32> = fs::read(folder.join("embeddings"))?
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let labels: Vec<i64> = fs::read(folder.join("labels"))?
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes))
            .collect();
        let x = Tensor::from_vec(values, (rows, DIM), CPU)?;
        let labels = Tensor::from_vec(labels, rows, CPU)?;
        let mut answer = None;
        let start = Instant::now();
        let bytes = peak(|| {
            answer = Some(in_batch(loss, &x, &labels)?);
            Ok(())
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let (value, gradient) = answer.ok_or("no answer")?;
        let gradient: Vec<u8> = gradient
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        fs::write(folder.join("gradient"), gradient)?;
        println!("{value} {seconds} {bytes}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
