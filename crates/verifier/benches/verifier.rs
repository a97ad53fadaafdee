//! Times opening a model, and embeddings of a pair and of many pictures beside the same network in stock
//! candle's layers.
//!
//! The embeddings are checked against stock candle's before anything is timed, and both are timed in
//! turns. The network is the default one with random weights. `RAYON_NUM_THREADS` sets the threads.
//!
//! ```text
//! cargo bench -p verifier
//! ```

#[path = "../tests/network/mod.rs"]
mod network;

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Result, Tensor};
use data::Picture;
use model::weights;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use verifier::Verifier;

const PICTURES: usize = 2048;
const PAIRS: usize = 128;
const ROUNDS: usize = 9;
const OPENINGS: usize = 25;

/// The same network in candle's own layers.
fn stock(verifier: &Verifier, images: &Tensor) -> Result<Tensor> {
    let layers = verifier.net().parameters();
    let var = |i: usize| layers[i].var.as_tensor();
    let mut x = images.clone();
    for i in [0, 2] {
        let sums = x.conv2d(var(i), 0, 1, 1, 1)?;
        let bias = var(i + 1).reshape((1, (), 1, 1))?;
        x = sums.broadcast_add(&bias)?.relu()?.max_pool2d(2)?;
    }
    x = x.flatten_from(1)?;
    for i in [4, 6, 8] {
        x = x.matmul(&var(i).t()?)?.broadcast_add(var(i + 1))?;
        if i < 8 {
            x = x.relu()?;
        }
    }
    Ok(x)
}

/// How long `work` takes, in seconds.
fn seconds<T>(
    work: impl FnOnce() -> std::result::Result<T, Box<dyn Error>>,
) -> std::result::Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    black_box(work()?);
    Ok(start.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let made = network::verifier(1);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), weights::to_bytes(made.net(), made.model())?)?;
    let openings =
        (0..OPENINGS).map(|_| seconds(|| Ok(Verifier::open(file.path(), &Device::Cpu)?)));
    let openings: Vec<f64> = openings.collect::<std::result::Result<_, _>>()?;
    let verifier = Verifier::open(file.path(), &Device::Cpu)?;

    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let picture = |_| Picture {
        pixels: (0..28 * 28).map(|_| rng.random()).collect(),
        treatment: Vec::new(),
    };
    let pictures: Vec<Picture> = (0..PICTURES).map(picture).collect();
    let input = verifier.input(&pictures)?;
    let input = Tensor::from_vec(input, (PICTURES, 1, 28, 28), &Device::Cpu)?;

    let ours = verifier.embed(&pictures)?;
    let theirs: Vec<f32> = stock(&verifier, &input)?.flatten_all()?.to_vec1()?;
    let largest = theirs
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    for (ours, theirs) in ours.values().iter().zip(&theirs) {
        assert!((ours - theirs).abs() <= 1e-5 * largest, "{ours} {theirs}");
    }

    let three =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures/three.png"))?;
    let pair = input.narrow(0, 0, 2)?;
    let [
        mut together,
        mut stock_together,
        mut verdicts,
        mut stock_pairs,
        mut decoded,
    ] = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        together.push(seconds(|| Ok(verifier.embed(&pictures)?))?);
        stock_together.push(seconds(|| Ok(stock(&verifier, &input)?))?);
        verdicts.push(seconds(|| {
            for pair in pictures[..2 * PAIRS].chunks_exact(2) {
                black_box(verifier.verify(&pair[0], &pair[1])?);
            }
            Ok(())
        })?);
        stock_pairs.push(seconds(|| {
            for _ in 0..PAIRS {
                black_box(stock(&verifier, &pair)?);
            }
            Ok(())
        })?);
        decoded.push(seconds(|| {
            for _ in 0..16 {
                black_box(verifier.decode(&three, "three.png")?);
            }
            Ok(())
        })?);
    }
    let ratio = |theirs: &[f64], ours: &[f64]| {
        let ratios = theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours);
        median(ratios.collect())
    };
    println!(
        "{} threads: a model opened in {:.1} ms; {:.0} embeddings a second together, {:.1} times stock \
         candle's {:.0}; {:.3} ms for the verdict on a pair, {:.1} times as fast as stock candle's \
         embeddings; {:.0} pictures of 300x420 pixels decoded and framed a second by one thread (medians \
         of {ROUNDS})",
        rayon::current_num_threads(),
        1e3 * median(openings),
        PICTURES as f64 / median(together.clone()),
        ratio(&stock_together, &together),
        PICTURES as f64 / median(stock_together),
        1e3 * median(verdicts.clone()) / PAIRS as f64,
        ratio(&stock_pairs, &verdicts),
        16.0 / median(decoded),
    );
    Ok(())
}
