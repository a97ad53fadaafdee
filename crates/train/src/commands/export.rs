//! `train export`: a trained network for other programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use clap::Args;
use model::onnx::{self, Input};
use model::{ModelFile, Preprocessing, weights};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::model::unfinished;
use crate::run::{RunFolder, write_whole};
use crate::terminal::{VoiceArgs, usage};

/// Flags of `train export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Run folder or model.safetensors
    run: PathBuf,
    /// ONNX file to write: `images` (N, C, H, W) f32, normalised, to `embeddings` (N, D) f32
    #[arg(value_name = "FILE.onnx")]
    out: PathBuf,
    /// Take `pixels` (N, H, W, C) u8 instead, 0 to 255, and normalise them in the graph
    #[arg(long)]
    pixels: bool,
    #[command(flatten)]
    voice: VoiceArgs,
}

/// Writes a trained network as an ONNX file.
///
/// # Errors
/// For a model that cannot be read or has a pretrained trunk, and a file that cannot be written.
pub fn export(args: &ExportArgs) -> Result<()> {
    let path = RunFolder::model_file(&args.run);
    if args.run.is_dir() && !path.is_file() {
        RunFolder::open(&args.run)?;
        return Err(unfinished(&args.run));
    }
    if is_same(&path, &args.out) {
        return Err(usage(format!(
            "{} is the model itself: name another file to write",
            args.out.display()
        )));
    }
    let cannot = || format!("cannot load the model {}", path.display());
    let bytes = fs::read(&path).with_context(cannot)?;
    let (net, file) = weights::from_bytes(&bytes, &Device::Cpu).with_context(cannot)?;
    let input = match args.pixels {
        true => Input::Pixels,
        false => Input::Images,
    };
    let sha256 = Sha256::digest(&bytes);
    let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let metadata = BTreeMap::from([
        ("model_sha256", sha256),
        ("preprocessing", preprocessing(&file, input)?),
        ("preprocessing_steps", steps(&file, input)),
    ]);
    write_whole(&args.out, &onnx::to_bytes(&net, &file, input, &metadata)?)?;
    let said = format!("wrote {}", args.out.display());
    args.voice.voice().say(&said);
    Ok(())
}

/// Whether two paths lead to one file.
fn is_same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(a).is_some_and(|a| real(b) == Some(a))
}

/// What pictures go through before the graph and in it, for a program to read.
#[derive(Serialize)]
struct Steps {
    colours: &'static str,
    height: usize,
    width: usize,
    framing: &'static str,
    #[serde(flatten)]
    of_model: Preprocessing,
    normalised_in_graph: bool,
}

fn preprocessing(file: &ModelFile, input: Input) -> Result<String> {
    let [channels, height, width] = file.config.input;
    let steps = Steps {
        colours: match channels {
            1 => "grey",
            _ => "rgb",
        },
        height,
        width,
        framing: match file.preprocessing.ink_side {
            Some(_) => "ink",
            None => "letterbox",
        },
        of_model: file.preprocessing,
        normalised_in_graph: input == Input::Pixels,
    };
    Ok(serde_json::to_string(&steps)?)
}

/// The same for a person, step by step.
fn steps(file: &ModelFile, input: Input) -> String {
    let [channels, height, width] = file.config.input;
    let of = &file.preprocessing;
    let colours = match channels {
        1 => "reduce colours to luminance",
        _ => "take red, green and blue",
    };
    let framing = match of.ink_side {
        Some(side) => format!(
            "invert the picture if its background, the median of the border's pixels, is nearer to its \
             lightest pixel than to its darkest; unless it is {width}x{height}, subtract the background \
             and stretch the rest to 255, crop to the pixels of at least a quarter of the brightest, scale \
             (Catmull-Rom) the longer side to {side}, and put the centre of mass in the middle of \
             {width}x{height} pixels of 0"
        ),
        None => format!(
            "scale (Catmull-Rom) in proportion to fit {width}x{height}, and centre on the median colour \
             of the border"
        ),
    };
    let rest = match input {
        Input::Pixels => "the graph does the rest".into(),
        Input::Images => format!(
            "take (pixel * {} - {}) / {} of each pixel, 0 to 255",
            of.scale, of.mean, of.std
        ),
    };
    format!(
        "Apply the EXIF orientation; lay transparent parts on white; {colours}; {framing}; {rest}."
    )
}
