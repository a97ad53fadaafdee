//! One training step's forward and backward on 128 images, beside the same layers of stock candle.
//!
//! The result is checked against `conv_pool_composed` before anything is timed. Stock candle's
//! pooling gradient is wrong (see `model::conv_pool`), so it is a yardstick for time alone.
//! `RAYON_NUM_THREADS` sets the threads of both. `cargo bench -p model`

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Linear, Module};
use criterion::{Criterion, criterion_group, criterion_main};
use model::{Activation, LeNet, LeNetConfig, conv_pool, conv_pool_composed};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const IMAGES: usize = 128;

type Layer = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

fn fused(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    conv_pool(x, weight, bias, Activation::Linear).map_err(candle_core::Error::wrap)
}

fn composed(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    conv_pool_composed(x, weight, bias, Activation::Linear).map_err(candle_core::Error::wrap)
}

/// NCHW, unlike the other two: candle's own layout.
fn stock(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let conv = x.conv2d(weight, 0, 1, 1, 1)?;
    conv.broadcast_add(&bias.reshape((1, (), 1, 1))?)?
        .max_pool2d(2)
}

/// Both convolutions of Caffe's network; the sum of squares stands in for what follows them.
fn convolutions(layer: Layer, x: &Tensor, vars: &[Var]) -> Result<Tensor> {
    let x = layer(x, &vars[0], &vars[1])?;
    layer(&x, &vars[2], &vars[3])?.sqr()?.sum_all()
}

fn stock_lenet(x: &Tensor, vars: &[Var]) -> Result<Tensor> {
    let x = stock(x, &vars[0], &vars[1])?;
    let x = stock(&x, &vars[2], &vars[3])?.flatten_from(1)?;
    let linear = |i: usize, x: &Tensor| {
        Linear::new(
            vars[i].as_tensor().clone(),
            Some(vars[i + 1].as_tensor().clone()),
        )
        .forward(x)
    };
    let x = linear(4, &x)?.relu()?;
    linear(8, &linear(6, &x)?)?.sqr()?.sum_all()
}

fn check(nhwc: &Tensor, vars: &[Var]) -> Result<()> {
    let found = convolutions(fused, nhwc, vars)?.backward()?;
    let expected = convolutions(composed, nhwc, vars)?.backward()?;
    for var in vars {
        let (found, expected) = (found.get(var).unwrap(), expected.get(var).unwrap());
        let worst = (found - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
        let largest = expected.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(
            worst <= 1e-4 * largest,
            "gradients differ: {worst} of {largest}"
        );
    }
    Ok(())
}

/// Medians of 15 steps each, taken in turns so that a busy machine slows both.
fn print_ratio(name: &str, ours: impl Fn(), stock: impl Fn()) {
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    let time = |step: &dyn Fn()| {
        let start = Instant::now();
        step();
        start.elapsed()
    };
    let times: (Vec<_>, Vec<_>) = (0..15).map(|_| (time(&ours), time(&stock))).unzip();
    let (ours, stock) = (median(times.0), median(times.1));
    println!(
        "{name}: {ours:.1} ms, stock candle {stock:.1} ms, {:.1} times faster",
        stock / ours
    );
}

fn step(c: &mut Criterion) {
    let cpu = &Device::Cpu;
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let net = LeNet::new(LeNetConfig::caffe(2), DType::F32, cpu, rng).unwrap();
    let vars: Vec<Var> = net.parameters().iter().map(|p| p.var.clone()).collect();
    let pixels = (0..IMAGES * 28 * 28)
        .map(|_| rng.random())
        .collect::<Vec<f32>>();
    let nchw = Tensor::from_vec(pixels, (IMAGES, 1, 28, 28), cpu).unwrap();
    // One channel: the two layouts are the same memory.
    let nhwc = nchw.reshape((IMAGES, 28, 28, 1)).unwrap();
    check(&nhwc, &vars[..4]).unwrap();

    let backward = |loss: Result<Tensor>| {
        black_box(loss.unwrap().backward().unwrap());
    };
    let ours = || backward(convolutions(fused, &nhwc, &vars));
    let theirs = || backward(convolutions(stock, &nchw, &vars));
    print_ratio("convolutions", ours, theirs);
    c.bench_function("convolutions/fused", |b| b.iter(ours));
    c.bench_function("convolutions/composed", |b| {
        b.iter(|| backward(convolutions(composed, &nhwc, &vars)))
    });

    let ours = || backward(net.forward(&nchw).unwrap().sqr().and_then(|e| e.sum_all()));
    let theirs = || backward(stock_lenet(&nchw, &vars));
    print_ratio("LeNet", ours, theirs);
    c.bench_function("LeNet", |b| b.iter(ours));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = step
}
criterion_main!(benches);
