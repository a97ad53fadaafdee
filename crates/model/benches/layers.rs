//! The layers of Caffe's network on 128 images, and the network, beside those of stock candle.
//!
//! Results and gradients are checked against `conv_pool_composed` before anything is timed. Stock
//! candle's pooling gradient is wrong (see `model::conv_pool`), so it is a yardstick for time alone.
//! `RAYON_NUM_THREADS` sets the threads of both. `cargo bench -p model`

#![expect(unsafe_code, reason = "the environment, before there is a thread")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{GroupNorm as StockNorm, Linear, Module, VarBuilder, VarMap};
use criterion::{Criterion, criterion_group, criterion_main};
use model::layers::{GroupNorm, ONE};
use model::{Activation, Network, NetworkConfig, conv_pool, conv_pool_composed};
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
    linear(8, &linear(6, &x)?)
}

/// The small residual network on NCHW.
fn stock_resnet(x: &Tensor, vars: &[Var]) -> Result<Tensor> {
    let mut layers = vars.chunks_exact(2);
    let mut layer = || layers.next().expect("a network has all of its layers");
    let conv = |x: &Tensor, layer: &[Var]| {
        let bias = layer[1].reshape((1, (), 1, 1))?;
        x.conv2d(&layer[0], 1, 1, 1, 1)?.broadcast_add(&bias)
    };
    let mut x = x.clone();
    for _ in 0..3 {
        x = conv(&x, layer())?.relu()?.max_pool2d(2)?;
        let residual = conv(&x, layer())?.relu()?;
        x = (&x + conv(&residual, layer())?)?.relu()?;
    }
    x = x.mean((2, 3))?;
    let linear = |x: &Tensor, layer: &[Var]| {
        let weight = layer[0].as_tensor().clone();
        Linear::new(weight, Some(layer[1].as_tensor().clone())).forward(x)
    };
    let x = linear(&x, layer())?.relu()?;
    linear(&x, layer())
}

/// A convolution with its pool, as an input and the gradients that training wants: the second
/// layer's input has one, the first layer's, the image, has none.
struct Convolution {
    name: &'static str,
    nhwc: Tensor,
    nchw: Tensor,
    weight: Var,
    bias: Var,
}

impl Convolution {
    fn ours(&self, layer: Layer) -> Result<Tensor> {
        layer(&self.nhwc, &self.weight, &self.bias)
    }

    fn stock(&self) -> Result<Tensor> {
        stock(&self.nchw, &self.weight, &self.bias)
    }

    fn check(&self) -> Result<()> {
        let (found, expected) = (self.ours(fused)?, self.ours(composed)?);
        close("results", &found, &expected)?;
        let [found, expected] = [found, expected].map(|y| y.sqr()?.sum_all()?.backward());
        let (found, expected) = (found?, expected?);
        for input in [&self.nhwc, self.weight.as_tensor(), self.bias.as_tensor()] {
            if input.is_variable() {
                close(
                    self.name,
                    found.get(input).unwrap(),
                    expected.get(input).unwrap(),
                )?;
            }
        }
        Ok(())
    }
}

fn close(what: &str, found: &Tensor, expected: &Tensor) -> Result<()> {
    let worst = (found - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
    let largest = expected.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(
        worst <= 1e-4 * largest,
        "{what} differ: {worst} of {largest}"
    );
    Ok(())
}

/// The normalisation and ReLU of the small residual network's second stage: 8 groups of 64 channels.
fn norm(c: &mut Criterion, maps: &Tensor, backward: &dyn Fn(Result<Tensor>)) -> Result<()> {
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let ours = GroupNorm::new(64, 8, Activation::Relu, ONE, vb.clone())?;
    let [gain, bias] = ["weight", "bias"].map(|name| vb.get(64, name));
    let (gain, bias) = (gain?, bias?);
    let stock = StockNorm::new(gain.clone(), bias.clone(), 64, 8, 1e-5)?;
    let ours = || ours.forward(maps);
    let stock = || {
        let normalised = stock.forward(&maps.permute((0, 3, 1, 2))?.contiguous()?)?;
        Activation::Relu.forward(&normalised.permute((0, 2, 3, 1))?)
    };
    let (found, expected) = (ours()?, stock()?);
    close("normalised maps", &found, &expected)?;
    let [found, expected] = [found, expected].map(|y| y.powf(3.0)?.sum_all()?.backward());
    let (found, expected) = (found?, expected?);
    for input in [maps, &gain, &bias] {
        let [found, expected] = [&found, &expected].map(|store| store.get(input).unwrap());
        close("gradients of a norm", found, expected)?;
    }
    print_ratio("norm forward", || drop(ours()), || drop(stock()));
    let (ours, stock) = (|| backward(ours()), || backward(stock()));
    print_ratio("norm forward and backward", ours, stock);
    c.bench_function("norm", |b| b.iter(ours));
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

/// What a training step's arithmetic takes, done directly, at the rate of a large matrix product.
fn print_floor() {
    let square = Tensor::ones((2048, 2048), DType::F32, &Device::Cpu).unwrap();
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let start = Instant::now();
            black_box(square.matmul(&square).unwrap());
            start.elapsed()
        })
        .collect();
    times.sort();
    let gflops = 2.0 * 2048f64.powi(3) / times[2].as_secs_f64() * 1e-9;
    // Forward and backward of both convolutions and of the layer of 800 by 500, but no gradient of
    // the image.
    let step = 1.687;
    println!(
        "2048³ matrix product: {gflops:.0} GFLOP/s, at which a step's {step} GFLOP take {:.1} ms",
        step / gflops * 1e3
    );
}

fn layers(c: &mut Criterion) {
    // As in the program: candle's own threads spin, on the cores that the layers' threads need.
    // SAFETY: no other thread has been started yet.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    let cpu = &Device::Cpu;
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let net = Network::new(NetworkConfig::caffe(2), DType::F32, cpu, rng).unwrap();
    let vars: Vec<Var> = net.parameters().iter().map(|p| p.var.clone()).collect();
    let mut random = |shape: [usize; 4]| {
        let values = (0..shape.iter().product()).map(|_| rng.random());
        Tensor::from_vec(values.collect::<Vec<f32>>(), &shape, cpu).unwrap()
    };
    let (images, maps) = (random([IMAGES, 28, 28, 1]), random([IMAGES, 12, 12, 20]));
    let tracked = |x: Tensor| Var::from_tensor(&x).unwrap().into_inner();
    let nchw = |x: &Tensor| {
        x.permute((0, 3, 1, 2))
            .and_then(|x| x.contiguous())
            .unwrap()
    };
    let convolutions = [
        Convolution {
            name: "conv1",
            nchw: nchw(&images),
            nhwc: images,
            weight: vars[0].clone(),
            bias: vars[1].clone(),
        },
        Convolution {
            name: "conv2",
            nchw: tracked(nchw(&maps)),
            nhwc: tracked(maps),
            weight: vars[2].clone(),
            bias: vars[3].clone(),
        },
    ];

    let forward = |y: Result<Tensor>| {
        black_box(y.unwrap());
    };
    let backward = |y: Result<Tensor>| {
        let loss = y.and_then(|y| y.sqr()?.sum_all());
        black_box(loss.unwrap().backward().unwrap());
    };
    for layer in &convolutions {
        layer.check().unwrap();
        let name = layer.name;
        let (ours, theirs) = (|| forward(layer.ours(fused)), || forward(layer.stock()));
        print_ratio(&format!("{name} forward"), ours, theirs);
        let (ours, theirs) = (|| backward(layer.ours(fused)), || backward(layer.stock()));
        print_ratio(&format!("{name} forward and backward"), ours, theirs);
        c.bench_function(&format!("{name}/fused"), |b| b.iter(ours));
        c.bench_function(&format!("{name}/composed"), |b| {
            b.iter(|| backward(layer.ours(composed)))
        });
    }

    norm(c, &tracked(random([IMAGES, 14, 14, 64])), &backward).unwrap();

    let images = &convolutions[0].nchw;
    let ours = || backward(net.forward(images).map_err(candle_core::Error::wrap));
    let theirs = || backward(stock_lenet(images, &vars));
    print_ratio("LeNet forward and backward", ours, theirs);
    print_floor();
    c.bench_function("LeNet", |b| b.iter(ours));

    let net = Network::new(NetworkConfig::small_resnet(2), DType::F32, cpu, rng).unwrap();
    let vars: Vec<Var> = net.parameters().iter().map(|p| p.var.clone()).collect();
    let forward = || net.forward(images).map_err(candle_core::Error::wrap);
    let found = forward().unwrap();
    close("embeddings", &found, &stock_resnet(images, &vars).unwrap()).unwrap();
    let (ours, theirs) = (
        || backward(forward()),
        || backward(stock_resnet(images, &vars)),
    );
    print_ratio("small ResNet forward and backward", ours, theirs);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = layers
}
criterion_main!(benches);
