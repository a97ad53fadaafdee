//! `train search`: which pictures of a folder are nearest?

use anyhow::Result;
use metrics::is_same;
use serde::Serialize;
use verifier::Gallery;

use crate::cli::SearchArgs;
use crate::pictures;
use crate::progress::Voice;

/// A query with what was found.
#[derive(Serialize)]
struct Found {
    query: String,
    neighbours: Vec<Judged>,
}

#[derive(Serialize)]
struct Judged {
    index: usize,
    name: String,
    distance: f32,
    /// Whether it is within the model's threshold; `None` without one.
    same: Option<bool>,
}

/// Prints each query's nearest pictures.
pub fn search(args: &SearchArgs) -> Result<()> {
    let voice = Voice::new(args.voice.quiet, args.voice.json);
    let verifier = pictures::open(&args.run, &args.device.choice.open(voice)?)?;
    let queries = verifier.embed(&verifier.read_all(&args.queries)?)?;
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
    for (path, query) in args.queries.iter().zip(queries.rows()) {
        let mut neighbours = Vec::new();
        for (name, found) in gallery.search(query, args.k.get())? {
            let threshold = verifier.threshold();
            neighbours.push(Judged {
                index: found.index,
                name: name.into(),
                distance: found.distance,
                same: threshold.map(|threshold| is_same(found.distance, threshold)),
            });
        }
        let found = Found {
            query: path.display().to_string(),
            neighbours,
        };
        voice.give(format_args!("{}\n", found.query))?;
        for Judged {
            name,
            distance,
            same,
            ..
        } in &found.neighbours
        {
            let verdict = match same {
                Some(true) => "the same ",
                Some(false) => "different",
                None => "",
            };
            voice.give(format_args!("  {distance:.4}  {verdict}  {name}\n"))?;
        }
        voice.emit(&found)?;
    }
    Ok(())
}
