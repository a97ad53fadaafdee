//! Takes training steps of a network for a program that asks: our side of `scripts/compare-pytorch.sh
//! step`.
//!
//! ```text
//! serve_steps NET START.safetensors RESULT.safetensors
//! ```
//!
//! `NET` is the network as a model file's header has it, in JSON. `START` holds its parameters by name,
//! `images` (2P, C, H, W) and `same` (P,), u8.
//! Two steps are taken, and `RESULT` gets the first one's `loss`, its gradients as
//! `gradient.PARAMETER`, and the weights after both as `after.PARAMETER`. From then on each line of
//! standard input is a number of further steps, answered by the seconds that they took.
//!
//! SGD with momentum as Caffe has it, but for biases, which have the rate of weights as PyTorch's
//! have by default.

use std::collections::HashMap;
use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use loss_kernel::ContrastiveLoss;
use model::{Network, NetworkConfig};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use train::{OptimiserConfig, Trainer};

const RATE: f64 = 0.01;

fn main() -> Result<()> {
    train::keep_freed_memory();
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    let [net, start, result] = &files[..] else {
        anyhow::bail!("usage: serve_steps NET START.safetensors RESULT.safetensors");
    };
    let net: NetworkConfig = serde_json::from_slice(net.as_encoded_bytes())?;
    let start = candle_core::safetensors::load(start, &Device::Cpu)?;
    let given = |name: &str| start.get(name).with_context(|| format!("no tensor {name}"));
    let (images, same) = (given("images")?, given("same")?);
    // Drawn only to be overwritten.
    let rng = &mut ChaCha8Rng::seed_from_u64(0);
    let net = Network::new(net, DType::F32, &Device::Cpu, rng)?;
    for parameter in net.parameters() {
        parameter.var.set(given(&parameter.name)?)?;
    }
    let optimiser = OptimiserConfig {
        bias_rate: 1.0,
        ..OptimiserConfig::caffe()
    };
    let mut trainer = Trainer::new(net, ContrastiveLoss::default(), optimiser)?;

    let loss = trainer.loss(images, same)?;
    let gradients = loss.backward()?;
    let mut found = HashMap::from([("loss".to_string(), loss)]);
    for parameter in trainer.net().parameters() {
        let name = &parameter.name;
        let gradient = gradients.get(&parameter.var);
        let gradient = gradient.with_context(|| format!("{name} has no gradient"))?;
        found.insert(format!("gradient.{name}"), gradient.contiguous()?);
    }
    for _ in 0..2 {
        trainer.step(images, same, RATE)?;
    }
    for parameter in trainer.net().parameters() {
        let name = format!("after.{}", parameter.name);
        found.insert(name, parameter.var.as_tensor().copy()?);
    }
    candle_core::safetensors::save(&found, result)?;

    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let steps: u32 = line?.trim().parse().context("a number of steps")?;
        let start = Instant::now();
        for _ in 0..steps {
            trainer.step(images, same, RATE)?;
        }
        println!("{}", start.elapsed().as_secs_f64());
    }
    Ok(())
}
