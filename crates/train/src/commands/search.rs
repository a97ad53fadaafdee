//! `train search`: which pictures of a folder are nearest?

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use metrics::{Neighbour, is_same};
use serde::Serialize;
use verifier::Gallery;

use super::model::ModelArgs;

/// Flags of `train search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Pictures to search with
    #[arg(required = true, value_name = "PROBE")]
    probes: Vec<PathBuf>,
    /// Folder to search, including its sub-folders
    #[arg(long, value_name = "DIR")]
    gallery: PathBuf,
    /// File to keep the gallery's embeddings in; later searches embed only new and changed pictures
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Results per picture
    #[arg(short, value_name = "N", default_value = "5")]
    k: NonZeroUsize,
}

/// A probe and what was found.
#[derive(Serialize)]
struct Found<'a> {
    #[serde(rename = "query")]
    probe: String,
    neighbours: Vec<Judged<'a>>,
}

#[derive(Serialize)]
struct Judged<'a> {
    index: usize,
    name: &'a str,
    distance: f32,
    /// Whether it is within the model's threshold; `None` without one.
    same: Option<bool>,
}

/// Prints the nearest pictures of each probe.
///
/// # Errors
/// For pictures, a folder or an index that cannot be read or written.
pub fn search(args: &SearchArgs) -> Result<()> {
    let (verifier, voice) = args.model.open()?;
    let probes = verifier.embed(&verifier.read_all(&args.probes)?)?;
    let known = match &args.index {
        Some(index) if index.exists() => Some(Gallery::open(index, &verifier)?),
        _ => None,
    };
    let (gallery, embedded) = Gallery::of_folder(&verifier, &args.gallery, known.as_ref())?;
    voice.say(&format!(
        "{} pictures in {}, {embedded} of them new or changed",
        gallery.len(),
        args.gallery.display()
    ));
    if let Some(index) = args
        .index
        .as_ref()
        .filter(|_| known.as_ref() != Some(&gallery))
    {
        gallery.save(index)?;
    }
    for (path, probe) in args.probes.iter().zip(probes.rows()) {
        let probe_name = path.display().to_string();
        voice.give(format_args!("{probe_name}\n"))?;
        let mut neighbours = Vec::new();
        for (name, Neighbour { index, distance }) in gallery.search(probe, args.k.get())? {
            let same = verifier.threshold().map(|most| is_same(distance, most));
            let verdict = match same {
                Some(true) => "the same ",
                Some(false) => "different",
                None => "",
            };
            voice.give(format_args!("  {distance:.4}  {verdict}  {name}\n"))?;
            neighbours.push(Judged {
                index,
                name,
                distance,
                same,
            });
        }
        voice.emit(&Found {
            probe: probe_name,
            neighbours,
        })?;
    }
    Ok(())
}
