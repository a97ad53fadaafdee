//! A network with random weights, which will do wherever only bits are compared.

use candle_core::{DType, Device};
use model::{Calibration, ModelFile, Network, NetworkConfig, Preprocessing};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use verifier::{OperatingPoint, Verifier};

pub fn file(config: NetworkConfig) -> ModelFile {
    ModelFile {
        config,
        preprocessing: Preprocessing {
            scale: 1.0 / 255.0,
            mean: 0.1307,
            std: 0.3081,
            ink_side: Some(20),
        },
        threshold: Some(0.5),
        // Similar pairs at 0.1, 0.2 and 0.6; dissimilar ones at 0.4 and 0.8.
        calibration: Some(Calibration {
            at: OperatingPoint::Accuracy,
            distance: vec![0.1, 0.2, 0.4, 0.6, 0.8],
            same: vec![1, 2, 2, 3, 3],
            different: vec![0, 0, 1, 1, 2],
        }),
        head: None,
        classes: vec!["a".into(), "b".into()],
        version: "0.1.0".into(),
    }
}

pub fn net(seed: u64) -> Network {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Network::new(NetworkConfig::relu(4), DType::F32, &Device::Cpu, &mut rng).unwrap()
}

pub fn verifier(seed: u64) -> Verifier {
    let net = net(seed);
    let file = file(net.config().clone());
    Verifier::new(net, file).unwrap()
}
