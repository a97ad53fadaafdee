//! Embeds images for a program that asks: our side of `scripts/compare-onnxruntime.sh`.
//!
//! ```text
//! serve_embeddings NET START.safetensors RESULT.safetensors
//! ```
//!
//! `NET` is the network as a model file's header has it, in JSON. `START` holds its parameters by name and
//! `images` (N, C, H, W), and `RESULT` gets their `embeddings` (N, D). From then on each line of standard
//! input is a number of images and how often to embed the first as many, answered by the seconds it took.

use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::io::BufRead;
use std::time::Instant;

use candle_core::{DType, Device};
use model::{Network, NetworkConfig};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    let [net, start, result] = &files[..] else {
        return Err("usage: serve_embeddings NET START.safetensors RESULT.safetensors".into());
    };
    let net: NetworkConfig = serde_json::from_slice(net.as_encoded_bytes())?;
    let start = candle_core::safetensors::load(start, &Device::Cpu)?;
    let given = |name: &str| start.get(name).ok_or(format!("no tensor {name}"));
    // Drawn only to be overwritten.
    let rng = &mut ChaCha8Rng::seed_from_u64(0);
    let net = Network::new(net, DType::F32, &Device::Cpu, rng)?;
    for parameter in net.parameters() {
        parameter.var.set(given(&parameter.name)?)?;
    }
    let (embedder, images) = (net.embedder()?, given("images")?);
    let found = HashMap::from([("embeddings", embedder.forward(images)?)]);
    candle_core::safetensors::save(&found, result)?;

    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (count, times) = line.split_once(' ').ok_or("two numbers")?;
        let images = images.narrow(0, 0, count.parse()?)?;
        let start = Instant::now();
        for _ in 0..times.parse::<u32>()? {
            black_box(embedder.forward(&images)?);
        }
        println!("{}", start.elapsed().as_secs_f64());
    }
    Ok(())
}
