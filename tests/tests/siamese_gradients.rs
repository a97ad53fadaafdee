//! The whole of what is trained, both images of each pair through the shared weights and into the
//! contrastive loss, against finite differences in f64.

use candle_core::{DType, Device, Result, Tensor};
use loss_kernel::{ContrastiveLoss, Margin, Variant};
use model::{Network, NetworkConfig, Parameter, Role};
use rand::Rng;
use workspace_tests::compare::values;
use workspace_tests::gradient_check::{Input, check};
use workspace_tests::pairs::generator;

/// Strokes on a blank ground, so that, as on MNIST, many pooling windows hold four equal values.
fn strokes(images: usize, seed: u64) -> Result<Tensor> {
    let mut rng = generator(seed);
    let mut pixels = vec![0.0; images * 784];
    for image in pixels.chunks_exact_mut(784) {
        let (mut y, mut x) = (14i32, 14i32);
        for _ in 0..60 {
            image[(y * 28 + x) as usize] = rng.random_range(0.2..1.0);
            y = (y + rng.random_range(-1..=1)).clamp(4, 23);
            x = (x + rng.random_range(-1..=1)).clamp(4, 23);
        }
    }
    Tensor::from_vec(pixels, (images, 1, 28, 28), &Device::Cpu)
}

#[test]
fn the_gradient_of_a_training_step_is_right_for_every_parameter() -> Result<()> {
    const PAIRS: usize = 4;
    let images = strokes(2 * PAIRS, 5)?;
    let same = Tensor::new(&[1u8, 0, 1, 0], &Device::Cpu)?;
    let resnet = NetworkConfig {
        channels: vec![6, 8, 10],
        ..NetworkConfig::small_resnet(2)
    };
    // A bias before groups of a single channel would move nothing either.
    let conv4 = NetworkConfig {
        channels: vec![16, 12, 10],
        ..NetworkConfig::conv4(2)
    };
    // Biases with nothing but linear layers behind them move all embeddings together, which changes
    // no distance.
    for (config, idle) in [
        (NetworkConfig::caffe(2), &["ip2.bias", "feat.bias"][..]),
        (NetworkConfig::relu(2), &["feat.bias"]),
        (resnet, &["feat.bias"]),
        (conv4, &["feat.bias"]),
    ] {
        for variant in [Variant::Hadsell, Variant::Squared] {
            let mut rng = generator(9);
            let net = Network::new(config.clone(), DType::F64, &Device::Cpu, &mut rng).unwrap();
            // Under a bias of 0 a blank ground lies on the ReLU's kink, and of a residual block that
            // begins at 0 nothing comes back.
            let zero = |p: &&Parameter| {
                matches!(p.role, Role::Bias | Role::Shift) || p.name.contains("residual2")
            };
            for Parameter { var, .. } in net.parameters().iter().filter(zero) {
                let n = var.elem_count();
                let values: Vec<f64> = (0..n).map(|_| rng.random_range(-0.1..0.1)).collect();
                var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
            }
            // A margin that keeps an untrained network's dissimilar pairs inside it.
            let loss = ContrastiveLoss::new(Margin::new(50.0).unwrap()).variant(variant);
            let forward = || -> Result<Tensor> {
                let (a, b) = net
                    .forward_pair(&images)
                    .map_err(candle_core::Error::wrap)?;
                Ok(loss.forward(&a, &b, &same)?)
            };
            let gradients = forward()?.backward()?;
            for parameter in net.parameters() {
                let at = parameter.var.as_tensor().copy()?;
                let claimed = gradients.get(&parameter.var).unwrap();
                let sizes: Vec<f64> = values(claimed)?.into_iter().map(f64::abs).collect();
                let largest = (0..sizes.len()).max_by(|&i, &j| sizes[i].total_cmp(&sizes[j]));
                let entries = (0..6).map(|_| rng.random_range(0..at.elem_count()));
                let input = Input {
                    entries: Some(entries.chain(largest).collect()),
                    // Small enough that no pooling window changes its maximum.
                    ..Input::new(&at, claimed, 1e-7)
                };
                let decisive = check(&[input], 1e-4, |moved| {
                    parameter.var.set(&moved[0])?;
                    forward()
                })?;
                parameter.var.set(&at)?;
                let decisive = decisive.unwrap_or_else(|m| panic!("{}: {m:?}", parameter.name));
                let idle = idle.contains(&parameter.name.as_str());
                assert_eq!(decisive == 0, idle, "{}", parameter.name);
            }
        }
    }
    Ok(())
}
