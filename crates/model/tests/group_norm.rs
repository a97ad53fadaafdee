//! Group normalisation: its gradients against central differences.

mod gradient;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, VarBuilder, VarMap};
use gradient::worst_difference;
use model::Activation;
use model::layers::{GroupNorm, ONE};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[test]
fn gradients_are_the_central_differences() {
    let rng = &mut ChaCha8Rng::seed_from_u64(7);
    for (shape, groups) in [
        ([2, 3, 4, 6], 3),
        ([3, 1, 1, 8], 1),
        ([2, 5, 3, 4], 4),
        ([1, 7, 9, 16], 8),
    ] {
        for activation in [Activation::Linear, Activation::Relu] {
            let weights = VarMap::new();
            let vb = VarBuilder::from_varmap(&weights, DType::F64, &Device::Cpu);
            let channels = shape[3];
            let layer = GroupNorm::new(channels, groups, activation, ONE, vb).unwrap();
            let mut random = |shape: &[usize]| {
                let values = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0));
                let values = values.collect::<Vec<f64>>();
                Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
            };
            let x = Var::from_tensor(&random(&shape)).unwrap();
            let slopes = random(&shape);
            let weights = weights.data().lock().unwrap();
            for name in ["weight", "bias"] {
                weights[name].set(&random(&[channels])).unwrap();
            }
            for var in [&x, &weights["weight"], &weights["bias"]] {
                let terms = || layer.forward(&x)?.mul(&slopes);
                let worst = worst_difference(var, 1, terms).unwrap();
                // What rounding makes of the differences: each output depends on its whole group.
                assert!(worst < 1e-6, "{shape:?} {activation:?}: {worst:e}");
            }
        }
    }
}

#[test]
fn groups_that_do_not_divide_the_channels_are_refused() {
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    for groups in [0, 4, 7, 12] {
        let layer = GroupNorm::new(6, groups, Activation::Linear, ONE, vb.clone());
        let error = layer.unwrap_err().to_string();
        let expected = format!("6 channels do not fall into {groups} groups");
        assert!(error.contains(&expected), "{error}");
    }
}
