//! The loss and its gradients in f32, beside the same loss in candle's own operations and beside
//! copies of the embeddings.
//!
//! The result is checked against a plain f64 loop before anything is timed. All columns are timed
//! in turns, so that a busy machine slows them all; shown are medians over the rounds, of times and
//! of each round's ratios. `RAYON_NUM_THREADS` sets the threads.
//!
//! ```text
//! cargo bench -p loss-kernel --bench loss
//! ```
//!
//! With `--serve` it answers `scripts/compare-pytorch-loss.py` instead: a line `N D REPEATS PATH`
//! comes in, the loss and some rows of the gradients go to PATH (or nowhere, where PATH is `-`), and
//! a line with the seconds of one forward and backward goes out: of the operation alone, and
//! through candle's `backward()`.

#![allow(unsafe_code, reason = "ffi: a setting of the C library")]

use std::{
    collections::HashMap,
    hint::black_box,
    io::{BufRead, Write},
    time::Instant,
};

use candle_core::{Device, Result, Tensor, Var};
use loss_kernel::ContrastiveLoss;
use rayon::prelude::*;

const CPU: &Device = &Device::Cpu;
const ROUNDS: usize = 7;

/// Rows of the gradients that go to the file: every one would be a gigabyte at a million pairs.
const ROWS_TO_COMPARE: usize = 4096;

struct Batch {
    a: Tensor,
    b: Tensor,
    same: Tensor,
    one: Tensor,
    vars: [Var; 2],
}

impl Batch {
    /// Uniform components, scaled so that the distances lie on both sides of the margin 1, and
    /// labels 0 and 1 in no order. The script has the same numbers.
    fn new(n: usize, d: usize) -> Result<Self> {
        let scale = 2.4 / (d as f32).sqrt();
        let side = |from: usize| -> Result<Tensor> {
            let value = |i: usize| (unit(from + i) - 0.5) * scale;
            let values = (0..n * d).into_par_iter().map(value).collect();
            Tensor::from_vec(values, (n, d), CPU)
        };
        let (a, b) = (side(0)?, side(n * d)?);
        let labels = (0..n).map(|i| unit(2 * n * d + i).round()).collect();
        Ok(Self {
            same: Tensor::from_vec(labels, n, CPU)?,
            one: Tensor::new(1f32, CPU)?,
            vars: [Var::from_tensor(&a)?, Var::from_tensor(&b)?],
            a,
            b,
        })
    }

    fn forward(&self) -> Result<Tensor> {
        Ok(ContrastiveLoss::default().forward(&self.a, &self.b, &self.same)?)
    }

    fn gradient(&self) -> Result<(Tensor, Tensor)> {
        Ok(ContrastiveLoss::default().gradient(&self.a, &self.b, &self.same, &self.one)?)
    }

    fn both(&self) -> Result<(Tensor, (Tensor, Tensor))> {
        Ok(ContrastiveLoss::default().loss_and_gradient(&self.a, &self.b, &self.same)?)
    }

    fn through_backward(&self) -> Result<()> {
        let [a, b] = &self.vars;
        let loss = ContrastiveLoss::default().forward(a, b, &self.same)?;
        black_box(loss.backward()?);
        Ok(())
    }

    /// What candle's `backward()` does with finished gradients, which no operation can spare it: it makes
    /// zeros and adds to them.
    fn candles_part(&self) -> Result<()> {
        let sum = |of: &Tensor| of.zeros_like()? + of;
        black_box((sum(&self.a)?, sum(&self.b)?));
        Ok(())
    }

    /// The loss in candle's own operations; the small number keeps √ differentiable at 0.
    fn stock(&self) -> Result<()> {
        let [a, b] = &self.vars;
        let squares = (a.as_tensor() - b.as_tensor())?.sqr()?.sum(1)?;
        let gap = (1.0 - (&squares + 1e-12)?.sqrt()?)?.relu()?.sqr()?;
        let losses = ((&self.same * squares)? + ((1.0 - &self.same)? * gap)?)?;
        black_box((losses.mean_all()? * 0.5)?.backward()?);
        Ok(())
    }

    /// Panics where loss or gradients are not what a plain loop in f64 gives.
    fn check(&self) -> Result<()> {
        let (loss, (of_a, of_b)) = self.both()?;
        let (n, d) = self.a.dims2()?;
        let [a, b, of_a, of_b, same] = [&self.a, &self.b, &of_a, &of_b, &self.same]
            .map(|t| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).unwrap());
        let mut expected = 0.0;
        for (i, same) in same.iter().enumerate() {
            let row = i * d..(i + 1) * d;
            let difference = |k: usize| f64::from(a[k]) - f64::from(b[k]);
            let square: f64 = row.clone().map(|k| difference(k).powi(2)).sum();
            let gap = (1.0 - square.sqrt()).max(0.0);
            let (loss, slope) = match *same {
                1.0 => (square, 1.0),
                _ => (gap * gap, -gap / square.sqrt()),
            };
            expected += loss / (2 * n) as f64;
            for k in row {
                let g = slope * difference(k) / n as f64;
                // The slope of a hinge just before the margin keeps few digits of the distance.
                let bound = 1e-6 * (g.abs() + 1.0 / n as f64);
                let off = (f64::from(of_a[k]) - g).abs() + (f64::from(of_b[k]) + g).abs();
                assert!(
                    off <= 2.0 * bound,
                    "pair {i} of {n}x{d}: {} for {g}",
                    of_a[k]
                );
            }
        }
        let loss = f64::from(loss.to_scalar::<f32>()?);
        assert!(
            (loss - expected).abs() <= 1e-6 * expected,
            "{loss} {expected}"
        );
        Ok(())
    }
}

/// Number `i` of a sequence in [0, 1): MurmurHash3's finaliser, 24 bits of it.
fn unit(i: usize) -> f32 {
    let mut h = i as u32;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    ((h ^ (h >> 16)) >> 8) as f32 / (1 << 24) as f32
}

/// Seconds that the work takes, after a first time that does not count: a virtual machine's host
/// may have taken back the memory that was freed before the other columns' turns.
fn seconds<T>(repeats: usize, work: impl Fn() -> Result<T>) -> Result<f64> {
    black_box(work()?);
    let start = Instant::now();
    for _ in 0..repeats {
        black_box(work()?);
    }
    Ok(start.elapsed().as_secs_f64() / repeats as f64)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(n: usize, d: usize) -> Result<()> {
    let batch = Batch::new(n, d)?;
    batch.check()?;
    let sides = [&batch.a, &batch.b].map(|t| t.flatten_all()?.to_vec1::<f32>());
    let [a, b] = sides.map(|side| side.expect("a side is a contiguous f32 tensor"));
    let held = &std::cell::RefCell::new([a.clone(), b.clone()]);
    // Into memory that the process holds, and into memory it must first get, as a result's.
    let copy_held = || -> Result<()> {
        for (to, from) in held.borrow_mut().iter_mut().zip([&a, &b]) {
            to.par_chunks_mut(1 << 18)
                .zip(from.par_chunks(1 << 18))
                .for_each(|(to, from)| to.copy_from_slice(from));
        }
        Ok(())
    };
    let copy_new = || Ok([&a, &b].map(|side| side.par_iter().copied().collect::<Vec<_>>()));
    let repeats = (4_000_000 / (n * d)).clamp(2, 2000);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push([
            seconds(repeats, || batch.forward())?,
            seconds(repeats, || batch.gradient())?,
            seconds(repeats, || batch.both())?,
            seconds(repeats, || batch.through_backward())?,
            seconds(repeats, || batch.candles_part())?,
            seconds(repeats, || batch.stock())?,
            seconds(repeats, copy_held)?,
            seconds(repeats, copy_new)?,
        ]);
    }
    let [forward, backward, both, through, candles, stock, held, new] =
        std::array::from_fn(|column| median(rounds.iter().map(|times| times[column])));
    let ratio = |of: usize, to: usize| median(rounds.iter().map(|times| times[of] / times[to]));
    // Both sides are read and as much is written, as by a copy.
    let moved = 4.0 * (n * d * size_of::<f32>()) as f64;
    let of_copy = |copy: usize| 100.0 * ratio(copy, 2);
    println!(
        "| {n} | {d} | {:.4} | {:.4} | {:.4} | {:.4} | {:.4} | {:.4} | {:.1} | {:.1} | {:.1} ({:.0} %) | {:.1} ({:.0} %) |",
        forward * 1e3,
        backward * 1e3,
        both * 1e3,
        through * 1e3,
        candles * 1e3,
        stock * 1e3,
        ratio(5, 3),
        moved / both / 1e9,
        moved / held / 1e9,
        of_copy(6),
        moved / new / 1e9,
        of_copy(7),
    );
    Ok(())
}

fn serve() -> Result<()> {
    let mut batch: Option<((usize, usize), Batch)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        let [n, d, repeats, path] = words[..] else {
            candle_core::bail!("expected `N D REPEATS PATH`, got {line:?}");
        };
        let number = |word: &str| word.parse::<usize>().map_err(candle_core::Error::wrap);
        let (n, d, repeats) = (number(n)?, number(d)?, number(repeats)?);
        if batch.as_ref().is_none_or(|(size, _)| *size != (n, d)) {
            drop(batch.take());
            batch = Some(((n, d), Batch::new(n, d)?));
        }
        let Some((_, batch)) = &batch else { continue };
        if path != "-" {
            let (loss, (of_a, of_b)) = batch.both()?;
            let rows = Tensor::arange_step(0, n as u32, n.div_ceil(ROWS_TO_COMPARE) as u32, CPU)?;
            let tensors = HashMap::from([
                ("loss", loss),
                ("of_a", of_a.index_select(&rows, 0)?),
                ("of_b", of_b.index_select(&rows, 0)?),
            ]);
            candle_core::safetensors::save(&tensors, path)?;
        }
        let both = seconds(repeats, || batch.both())?;
        let through = seconds(repeats, || batch.through_backward())?;
        println!("{both} {through}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Keeps freed memory, as the program `train` does: glibc would give each gradient back to the system
/// and have every page of the next one brought in and zeroed.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (setting, value) in [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, -1)] {
        // SAFETY: `mallopt` takes its own lock, and neither setting touches what is allocated.
        unsafe { libc::mallopt(setting, value) };
    }
}

fn main() -> Result<()> {
    keep_freed_memory();
    if std::env::args().any(|argument| argument == "--serve") {
        return serve();
    }
    println!(
        "{} threads; times in ms, bandwidths in GB/s",
        rayon::current_num_threads()
    );
    println!(
        "| pairs | D | forward | gradient | both at once | through `backward()` \
         | of it zeros and additions of candle | stock candle \
         | stock / ours, `backward()` | both at once, GB/s | copy to held memory (ours in % of it) \
         | copy to new memory (ours in % of it) |"
    );
    println!("|{}", "---|".repeat(12));
    for n in [64, 4096, 65_536, 1_048_576] {
        for d in [2, 128] {
            measure(n, d)?;
        }
    }
    Ok(())
}
