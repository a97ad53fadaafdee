//! One training step of 64 pairs through Caffe's Siamese LeNet, from images and labels to updated
//! weights, beside the same step in stock candle.
//!
//! What a step does to the weights is checked before anything is timed, against `conv_pool_composed`
//! and tensor arithmetic. Stock candle's pooling gradient is wrong (see
//! `model::conv_pool`) and its SGD has no momentum, so it is a yardstick for time alone.
//! `RAYON_NUM_THREADS` sets the threads of both. `cargo bench -p train`

#![expect(unsafe_code, reason = "the environment, before there is a thread")]

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Linear, Module, Optimizer, SGD};
use loss_kernel::{ContrastiveLoss, Margin};
use model::{Activation, Network, NetworkConfig, Role, conv_pool_composed};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use train::{OptimiserConfig, Trainer};

const PAIRS: usize = 64;
const RATE: f64 = 0.01;
const ROUNDS: usize = 15;

fn main() -> anyhow::Result<()> {
    // As in the program: candle's own threads spin, on the cores that the layers' threads need.
    // SAFETY: no other thread has been started yet.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    train::keep_freed_memory();
    let cpu = &Device::Cpu;
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let net = Network::new(NetworkConfig::caffe(2), DType::F32, cpu, rng)?;
    let pixels = (0..2 * PAIRS * 28 * 28).map(|_| rng.random());
    let images = Tensor::from_vec(pixels.collect::<Vec<f32>>(), (2 * PAIRS, 1, 28, 28), cpu)?;
    let same = (0..PAIRS).map(|_| rng.random_range(0..=1));
    let same = Tensor::from_vec(same.collect::<Vec<u8>>(), PAIRS, cpu)?;

    let copies = net.parameters().iter();
    // Copies: a `Var` of another `Var` would share its values.
    let copies = copies.map(|parameter| Var::from_tensor(&parameter.var.as_tensor().copy()?));
    let vars: Vec<Var> = copies.collect::<Result<_>>()?;
    let loss = ContrastiveLoss::new(Margin::default());
    let mut trainer = Trainer::new(net, loss, OptimiserConfig::caffe())?;
    check(&mut trainer, &vars, &images, &same)?;

    let mut sgd = SGD::new(vars.clone(), RATE)?;
    let (mut ours, mut theirs) = ([0.0; ROUNDS], [0.0; ROUNDS]);
    // In turns, so that a busy machine slows both.
    for (ours, theirs) in ours.iter_mut().zip(&mut theirs) {
        let start = Instant::now();
        trainer.step(&images, &same, RATE)?;
        *ours = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        sgd.backward_step(&composed_loss(stock, &images, &same, &vars)?)?;
        *theirs = start.elapsed().as_secs_f64() * 1e3;
    }
    let [ours, stock] = [ours, theirs].map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    println!(
        "training step: {ours:.1} ms, stock candle {stock:.1} ms, {:.1} times faster (medians of \
         {ROUNDS})",
        stock / ours
    );
    Ok(())
}

type Layer = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

/// NCHW, candle's own layout.
fn stock(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let conv = x.conv2d(weight, 0, 1, 1, 1)?;
    conv.broadcast_add(&bias.reshape((1, (), 1, 1))?)?
        .max_pool2d(2)
}

fn composed(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let x = x.permute((0, 2, 3, 1))?;
    let pooled = conv_pool_composed(&x, weight, bias, Activation::Linear);
    pooled
        .map_err(candle_core::Error::wrap)?
        .permute((0, 3, 1, 2))
}

/// Caffe's network and Hadsell's loss at margin 1 in tensor arithmetic.
fn composed_loss(layer: Layer, images: &Tensor, same: &Tensor, vars: &[Var]) -> Result<Tensor> {
    let x = layer(images, &vars[0], &vars[1])?;
    let x = layer(&x, &vars[2], &vars[3])?.flatten_from(1)?;
    let linear = |i: usize, x: &Tensor| {
        let [weight, bias] = [&vars[i], &vars[i + 1]].map(|var| var.as_tensor().clone());
        Linear::new(weight, Some(bias)).forward(x)
    };
    let x = linear(8, &linear(6, &linear(4, &x)?.relu()?)?)?;
    let square = (x.narrow(0, 0, PAIRS)? - x.narrow(0, PAIRS, PAIRS)?)?
        .sqr()?
        .sum(1)?;
    let hinge = (1.0 - square.sqrt()?)?.relu()?.sqr()?;
    let same = same.to_dtype(DType::F32)?;
    let pairs = ((&same * square)? + ((1.0 - &same)? * hinge)?)?;
    pairs.mean_all()? * 0.5
}

/// Checks the loss, the gradients, and that a first step moves each weight by the rate times its
/// gradient, a bias by twice that.
fn check(
    trainer: &mut Trainer,
    vars: &[Var],
    images: &Tensor,
    same: &Tensor,
) -> anyhow::Result<()> {
    let expected = composed_loss(composed, images, same, vars)?;
    let found = trainer.step(images, same, RATE)?;
    close("the loss", &found, &expected, 1e-5)?;
    let gradients = expected.backward()?;
    for (parameter, start) in trainer.net().parameters().iter().zip(vars) {
        let rate = match parameter.role {
            Role::Weight | Role::Gain => RATE,
            Role::Bias | Role::Shift => 2.0 * RATE,
        };
        let moved = ((start.as_tensor() - parameter.var.as_tensor())? / rate)?;
        let gradient = gradients.get(start).expect("every parameter is trained");
        close(&parameter.name, &moved, gradient, 1e-3)?;
    }
    Ok(())
}

fn close(name: &str, found: &Tensor, expected: &Tensor, tolerance: f32) -> Result<()> {
    let worst = (found - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
    let largest = expected.abs()?.max_all()?.to_scalar::<f32>()?;
    // Biases that move all embeddings together have a gradient of 0 but for rounding.
    assert!(
        worst <= (tolerance * largest).max(1e-5),
        "{name} differs by {worst} of {largest}"
    );
    Ok(())
}
