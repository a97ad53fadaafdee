//! Training on a GPU against training on the CPU, from the same seeds on the embedded digits.
//!
//! `cargo test -p workspace-tests --features cuda -- --ignored gpu` where there is a GPU. The other
//! two tests need none: they show that the bound which a GPU is held to allows for rounding and for
//! little else.

use std::error::Error;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use data::{Loader, PairSampler, Pairing, Purpose, TransformConfig, digits, stream};
use loss_kernel::ContrastiveLoss;
use model::{Network, NetworkConfig, Role};

const STEPS: u64 = 30;
const PAIRS: usize = 64;
const SEED: u64 = 1;

/// How far a step's loss may be off, relative to it. In f32 the CPU is off from f64 by up to 1e-6,
/// and a gradient off by 1e-3 moves it by up to 1e-3.
const BOUND: f64 = 1e-4;

/// Losses of a run of Caffe's network and solver, its loss weighted by `weight`. The rate is a tenth
/// of Caffe's: at that rate rounding alone grows to 1e-2 within the run.
fn losses(device: &Device, dtype: DType, weight: f64) -> Result<Vec<f64>, Box<dyn Error>> {
    const RATE: f64 = 0.001;
    const MOMENTUM: f64 = 0.9;
    let (images, _) = digits()?;
    let sampler = PairSampler::new(images.labels(), Pairing::Balanced, PAIRS, SEED)?;
    let transform = TransformConfig::default().train();
    let loader = Loader::new(Arc::new(images), Box::new(sampler), transform, SEED)?;
    let mut rng = stream(SEED, Purpose::Initialisation, 0);
    let net = Network::new(NetworkConfig::caffe(2), dtype, device, &mut rng)?;
    let mut momenta: Vec<Tensor> = net
        .parameters()
        .iter()
        .map(|parameter| parameter.var.zeros_like())
        .collect::<Result<_, _>>()?;
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let batch = loader.batch(step);
        let images = Tensor::from_vec(batch.pixels, (2 * PAIRS, 1, 28, 28), device)?;
        let same = Tensor::new(batch.labels, device)?;
        let (a, b) = net.forward_pair(&images.to_dtype(dtype)?)?;
        let loss = ContrastiveLoss::default().forward(&a, &b, &same)?;
        losses.push(loss.to_dtype(DType::F64)?.to_scalar()?);
        let gradients = (loss * weight)?.backward()?;
        for (parameter, momentum) in net.parameters().iter().zip(&mut momenta) {
            let var = &parameter.var;
            let rate = match parameter.role {
                Role::Weight | Role::Gain => RATE,
                Role::Bias | Role::Shift => 2.0 * RATE,
            };
            let gradient = gradients.get(var).ok_or("a parameter has no gradient")?;
            *momentum = ((&*momentum * MOMENTUM)? + (gradient.detach() * rate)?)?;
            var.set(&(var.as_detached_tensor() - &*momentum)?)?;
        }
    }
    Ok(losses)
}

/// The largest difference of a step's losses, relative to what is expected.
fn furthest(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let off = found.iter().zip(expected).map(|(f, e)| (f - e).abs() / e);
    // In this order a NaN is the largest.
    off.max_by(f64::total_cmp).expect("a run has steps")
}

#[test]
fn rounding_uses_a_tenth_of_the_bound_at_most() -> Result<(), Box<dyn Error>> {
    let rounded = losses(&Device::Cpu, DType::F32, 1.0)?;
    let exact = losses(&Device::Cpu, DType::F64, 1.0)?;
    let off = furthest(&rounded, &exact);
    assert!(off <= BOUND / 10.0, "{off:e}");
    Ok(())
}

#[test]
fn a_gradient_off_by_a_thousandth_breaks_the_bound() -> Result<(), Box<dyn Error>> {
    let right = losses(&Device::Cpu, DType::F32, 1.0)?;
    let off = furthest(&losses(&Device::Cpu, DType::F32, 1.001)?, &right);
    assert!(off > BOUND, "{off:e}");
    Ok(())
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a GPU"]
fn gpu_trains_as_the_cpu_does() -> Result<(), Box<dyn Error>> {
    let found = losses(&Device::new_cuda(0)?, DType::F32, 1.0)?;
    let expected = losses(&Device::Cpu, DType::F32, 1.0)?;
    let off = furthest(&found, &expected);
    assert!(off <= BOUND, "{off:e}: {found:?}, on the CPU {expected:?}");
    let fifth = found.len() / 5;
    let [first, last] = [&found[..fifth], &found[found.len() - fifth..]]
        .map(|losses| losses.iter().sum::<f64>() / fifth as f64);
    assert!(last < 0.6 * first, "from {first} to {last}");
    Ok(())
}

/// Holds for candle 0.11 without cuDNN: none of its kernels that training launches adds atomically
/// (its `sum_*` kernels do, and candle-core launches none of them), each sum has an order of its own,
/// and cuBLAS repeats its bits on one stream of one GPU.
#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs a GPU"]
fn gpu_training_repeats_its_bits() -> Result<(), Box<dyn Error>> {
    let gpu = Device::new_cuda(0)?;
    let bits = || -> Result<Vec<u64>, Box<dyn Error>> {
        let losses = losses(&gpu, DType::F32, 1.0)?;
        Ok(losses.into_iter().map(f64::to_bits).collect())
    };
    assert_eq!(bits()?, bits()?);
    Ok(())
}
