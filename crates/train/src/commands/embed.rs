//! `train embed`: embeddings for other programs.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use clap::Args;
use data::{LabelledImages, batch_of};
use verifier::{Verifier, embed_images, embed_input};

use super::model::ModelArgs;
use crate::fit::{LoadAs, load};
use crate::run::{RunFolder, write_whole};
use crate::terminal::{Voice, usage};

/// Flags of `train embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Pictures to embed [default: the run's test images]
    pictures: Vec<PathBuf>,
    /// safetensors file to write: `embeddings` (N, D), and `images` (N, C, H, W) as the network sees
    /// them
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Embeds pictures, or the run's test images, and writes a safetensors file.
pub fn embed(args: &EmbedArgs) -> Result<()> {
    let (verifier, voice) = args.model.open()?;
    let (mut tensors, mut header) = (Vec::new(), HashMap::new());
    let (input, embeddings) = if args.pictures.is_empty() {
        let (test, transform) = (test_images(args, &verifier, voice)?, verifier.transform());
        let labels = Tensor::new(test.labels(), &Device::Cpu)?;
        tensors.push(("labels", labels));
        let input = batch_of(&test, 0..test.len(), transform);
        (input, embed_images(verifier.net(), &test, transform)?)
    } else {
        let pictures = verifier.read_all(&args.pictures)?;
        let names = args.pictures.iter().map(|path| path.display().to_string());
        let names: Vec<String> = names.collect();
        header.insert("pictures".to_string(), serde_json::to_string(&names)?);
        // The input of a pretrained trunk's head takes longest, and it is wanted too.
        let input = verifier.input(&pictures)?;
        let embeddings = embed_input(verifier.net(), &input)?;
        (input, embeddings)
    };
    let [c, h, w] = verifier.net().config().input;
    let count = embeddings.len();
    let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu);
    let shape = [count, embeddings.dimension()];
    tensors.push(("embeddings", tensor(embeddings.values(), &shape)?));
    tensors.push(("images", tensor(&input, &[count, c, h, w])?));
    let bytes =
        safetensors::serialize(tensors, Some(header)).context("putting the embeddings together")?;
    write_whole(&args.out, &bytes)?;
    voice.say(&format!(
        "wrote {count} embeddings to {}",
        args.out.display()
    ));
    Ok(())
}

/// The run's test images.
fn test_images(args: &EmbedArgs, verifier: &Verifier, voice: Voice) -> Result<LabelledImages> {
    if args.model.path().is_file() {
        return Err(usage(
            "a model file has no test images: give pictures, or the run folder it is from",
        ));
    }
    let run = RunFolder::open(args.model.path())?;
    let before = run.manifest()?;
    let request = LoadAs {
        grey_as_found: false,
        framing: Some(verifier.framing()),
        encoder: verifier.encoder(),
        before: before.as_ref(),
        only_test: false,
        trained: true,
    };
    Ok(load(&run.config()?, request, voice)?.test)
}
