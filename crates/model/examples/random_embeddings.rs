//! Writes, for a network with random weights of each stock configuration, a model file and a file
//! of images with their embeddings: the input of `scripts/pytorch-embeddings.sh`.
//!
//! ```text
//! cargo run -p model --example random_embeddings -- FOLDER
//! scripts/pytorch-embeddings.sh FOLDER/caffe.safetensors FOLDER/caffe-embeddings.safetensors
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use model::{LeNet, LeNetConfig, ModelFile, Preprocessing, weights};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .ok_or("give a folder to write to")?;
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    // The second is neither MNIST's size nor square nor grey, so that a mistaken axis shows.
    let wide = LeNetConfig {
        input: [3, 21, 30],
        ..LeNetConfig::relu(5)
    };
    let nets = [
        ("caffe", LeNetConfig::caffe(2)),
        ("relu", LeNetConfig::relu(2)),
        ("wide", wide),
    ];
    for (name, config) in nets {
        let net = LeNet::new(config.clone(), DType::F32, &Device::Cpu, rng)?;
        for parameter in net.parameters() {
            // Biases start at 0; random ones show that they are used.
            let noise = (0..parameter.var.elem_count()).map(|_| rng.random_range(-0.02..0.02));
            let noise: Vec<f32> = noise.collect();
            let noise = Tensor::from_vec(noise, parameter.var.shape(), &Device::Cpu)?;
            parameter.var.set(&(parameter.var.as_tensor() + noise)?)?;
        }
        let [c, h, w] = config.input;
        let pixels = (0..64 * c * h * w).map(|_| rng.random_range(-0.4242..2.8215f32));
        let images = Tensor::from_vec(pixels.collect(), (64, c, h, w), &Device::Cpu)?;
        let file = ModelFile {
            config,
            preprocessing: Preprocessing {
                scale: 1.0 / 255.0,
                mean: 0.1307,
                std: 0.3081,
                ink_side: 20,
            },
            threshold: None,
            classes: vec![],
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let embeddings = net.forward(&images)?;
        let model = folder.join(format!("{name}.safetensors"));
        std::fs::write(model, weights::to_bytes(&net, &file)?)?;
        let pair = HashMap::from([("images", images), ("embeddings", embeddings)]);
        let path = folder.join(format!("{name}-embeddings.safetensors"));
        candle_core::safetensors::save(&pair, path)?;
    }
    Ok(())
}
