//! `train embed`: embeddings for other programs.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use clap::Args;
use data::batch_of;
use model::Network;
use verifier::embed_images;

use super::model::ModelArgs;
use crate::fit::load;
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

/// Embeddings, what was embedded, and what it was called or labelled.
struct Content {
    input: Vec<f32>,
    embeddings: Vec<f32>,
    labels: Option<Vec<u32>>,
    header: HashMap<String, String>,
}

/// Embeds pictures, or the run's test images, and writes a safetensors file.
pub fn embed(args: &EmbedArgs) -> Result<()> {
    let (verifier, voice) = args.model.open()?;
    let content = if args.pictures.is_empty() {
        test_images(args, verifier.net(), voice)?
    } else {
        let pictures = verifier.read_all(&args.pictures)?;
        let names: Vec<String> = args
            .pictures
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Content {
            input: verifier.input(&pictures)?,
            embeddings: verifier.embed(&pictures)?.values().to_vec(),
            labels: None,
            header: HashMap::from([("pictures".into(), serde_json::to_string(&names)?)]),
        }
    };
    let config = verifier.net().config();
    let [c, h, w] = config.input;
    let count = content.embeddings.len() / config.embedding;
    let tensor = |values, shape: &[usize]| Tensor::from_vec(values, shape, &Device::Cpu);
    let mut tensors = vec![
        (
            "embeddings",
            tensor(content.embeddings, &[count, config.embedding])?,
        ),
        ("images", tensor(content.input, &[count, c, h, w])?),
    ];
    if let Some(labels) = content.labels {
        tensors.push(("labels", Tensor::from_vec(labels, count, &Device::Cpu)?));
    }
    let bytes = safetensors::serialize(tensors, Some(content.header))
        .context("putting the embeddings together")?;
    write_whole(&args.out, &bytes)?;
    voice.say(&format!(
        "wrote {count} embeddings to {}",
        args.out.display()
    ));
    Ok(())
}

fn test_images(args: &EmbedArgs, net: &Network, voice: Voice) -> Result<Content> {
    if args.model.path().is_file() {
        return Err(usage(
            "a model file has no test images: give pictures, or the run folder it is from",
        ));
    }
    let config = RunFolder::open(args.model.path())?.config()?;
    let test = load(&config, voice)?.test;
    let transform = config.transform.evaluation();
    Ok(Content {
        input: batch_of(&test, 0..test.len(), &transform),
        embeddings: embed_images(net, &test, &transform)?.values().to_vec(),
        labels: Some(test.labels().to_vec()),
        header: HashMap::new(),
    })
}
