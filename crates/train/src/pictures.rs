//! A user's pictures as a trained network sees them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use data::{Compose, ImageShape, LabelledImages, Picture, TransformConfig, batch_of, read_picture};
use model::{LeNet, ModelFile, weights};

use crate::evaluation::embed;
use crate::run_folder::RunFolder;

/// A trained network with what it needs to look at pictures.
pub struct Viewer {
    /// The network.
    pub net: LeNet,
    /// What its file says besides.
    pub file: ModelFile,
}

/// Pictures that have been looked at.
pub struct Viewed {
    /// What was done to each.
    pub treatment: Vec<Vec<String>>,
    /// The network's input, (N, C, H, W).
    pub input: Vec<f32>,
    /// (N, D), row by row.
    pub embeddings: Vec<f32>,
}

impl Viewer {
    /// Opens a run folder's model, or a model file itself, on `device`.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let (net, file) = if path.is_file() {
            weights::open(path, device)?
        } else {
            RunFolder::open(path)?.model(device)?
        };
        Ok(Self { net, file })
    }

    fn transform(&self) -> Compose {
        let p = &self.file.preprocessing;
        let config = TransformConfig {
            scale: p.scale,
            mean: p.mean,
            std: p.std,
            ..Default::default()
        };
        config.evaluation()
    }

    /// Reads and embeds pictures.
    pub fn view(&self, paths: &[PathBuf]) -> Result<Viewed> {
        let [channels, height, width] = self.net.config().input;
        let shape = ImageShape {
            channels,
            height,
            width,
        };
        let (mut pixels, mut treatment) = (Vec::new(), Vec::new());
        for path in paths {
            let Picture {
                pixels: read,
                treatment: done,
            } = read_picture(path, shape, self.file.preprocessing.ink_side)?;
            pixels.extend(read);
            treatment.push(done);
        }
        let unnamed = vec![0; paths.len()];
        let images = LabelledImages::new(shape, pixels, unnamed, vec![String::new()])?;
        let input = batch_of(&images, 0..paths.len(), &self.transform());
        let embeddings = embed(&self.net, input.clone(), paths.len())?;
        Ok(Viewed {
            treatment,
            input,
            embeddings,
        })
    }
}
