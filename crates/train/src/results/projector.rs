//! The test images and their embeddings as TensorBoard's embedding projector reads them.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use data::LabelledImages;
use metrics::Embeddings;
use report::contact_sheet::{ContactSheet, columns};

use crate::run::RunFolder;

const EMBEDDINGS: &str = "embeddings.tsv";
const CLASSES: &str = "metadata.tsv";

/// The longest side of a sprite that the projector loads.
const SPRITE_SIDE: u32 = 8192;
/// The longest side of an image in it; the projector shows images small.
const IMAGE_SIDE: u32 = 64;

/// Writes `embeddings.tsv`, a row an image, `metadata.tsv`, its class, `sprite.png`, the images
/// themselves, and `projector_config.pbtxt`, which says so to TensorBoard.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write(run: &RunFolder, embedded: &Embeddings, images: &LabelledImages) -> Result<()> {
    let mut embeddings = String::new();
    for row in embedded.rows() {
        let row: Vec<String> = row.iter().map(f32::to_string).collect();
        writeln!(embeddings, "{}", row.join("\t"))?;
    }
    run.write(EMBEDDINGS, embeddings.as_bytes())?;
    // A single column has no header.
    let mut metadata = String::new();
    for &label in images.labels() {
        let class = &images.classes()[label as usize];
        writeln!(metadata, "{}", class.replace(['\t', '\n', '\r'], " "))?;
    }
    run.write(CLASSES, metadata.as_bytes())?;

    let all: Vec<usize> = (0..images.len()).collect();
    let side = (SPRITE_SIDE / columns(all.len())).clamp(1, IMAGE_SIDE);
    let sprite = ContactSheet::new(images, &all, side)?;
    run.write("sprite.png", &sprite.png)?;
    let config = format!(
        r#"embeddings {{
  tensor_name: "test images"
  tensor_path: "embeddings.tsv"
  metadata_path: "metadata.tsv"
  sprite {{
    image_path: "sprite.png"
    single_image_dim: {}
    single_image_dim: {}
  }}
}}
"#,
        sprite.tile.0, sprite.tile.1
    );
    run.write("projector_config.pbtxt", config.as_bytes())
}

/// What the projector's files hold.
pub struct Projector {
    /// Of the test images.
    pub embeddings: Embeddings,
    /// The class of each, as an index into `classes`.
    pub labels: Vec<u32>,
    /// Names.
    pub classes: Vec<String>,
}

/// What [`write`] has left in `run`; `None` if nothing, as beside a bare model file.
///
/// # Errors
/// For files that cannot be read, or that are not of embeddings (N, `dim`).
pub fn read(run: &Path, dim: usize) -> Result<Option<Projector>> {
    let [embeddings, metadata] = [EMBEDDINGS, CLASSES].map(|name| run.join(name));
    if !(embeddings.is_file() && metadata.is_file()) {
        return Ok(None);
    }
    let mut values = Vec::new();
    for (number, row) in rows(&embeddings)?.iter().enumerate() {
        let place = || format!("{}, line {}", embeddings.display(), number + 1);
        ensure!(
            row.len() == dim,
            "{}: {} numbers, and the model's embedding has {dim}",
            place(),
            row.len()
        );
        for value in row {
            values.push(value.parse::<f32>().with_context(place)?);
        }
    }
    let (mut labels, mut classes) = (Vec::new(), Vec::<String>::new());
    for row in rows(&metadata)? {
        let name = row.get(0).unwrap_or_default();
        let label = classes.iter().position(|class| class == name);
        labels.push(label.unwrap_or_else(|| {
            classes.push(name.to_owned());
            classes.len() - 1
        }) as u32);
    }
    ensure!(
        labels.len() * dim == values.len(),
        "{} has {} rows and {} has {}",
        embeddings.display(),
        values.len() / dim,
        metadata.display(),
        labels.len()
    );
    if labels.is_empty() {
        return Ok(None);
    }
    Ok(Some(Projector {
        embeddings: Embeddings::new(values, dim)?,
        labels,
        classes,
    }))
}

fn rows(path: &Path) -> Result<Vec<csv::StringRecord>> {
    let reader = csv::ReaderBuilder::new()
        .delimiter(b'\t')
        .quoting(false)
        .has_headers(false)
        .flexible(true)
        .from_path(path);
    reader
        .and_then(|mut reader| reader.records().collect())
        .with_context(|| format!("cannot read {}", path.display()))
}
