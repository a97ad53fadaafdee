//! The test images and their embeddings as TensorBoard's embedding projector reads them.

use std::fmt::Write;

use anyhow::Result;
use data::LabelledImages;
use metrics::Embeddings;

use crate::run_folder::RunFolder;
use crate::sheet::{Sheet, columns};

/// The longest side of a sprite that the projector loads.
const SPRITE_SIDE: u32 = 8192;
/// The longest side of an image in it; the projector shows images small.
const IMAGE_SIDE: u32 = 64;

/// Writes `embeddings.tsv`, a row an image, `metadata.tsv`, its class, `sprite.png`, the images
/// themselves, and `projector_config.pbtxt`, which says so to TensorBoard.
pub fn write(run: &RunFolder, embedded: &Embeddings, images: &LabelledImages) -> Result<()> {
    let mut embeddings = String::new();
    for row in embedded.rows() {
        let row: Vec<String> = row.iter().map(f32::to_string).collect();
        writeln!(embeddings, "{}", row.join("\t"))?;
    }
    run.write("embeddings.tsv", embeddings.as_bytes())?;
    // A single column has no header.
    let mut metadata = String::new();
    for &label in images.labels() {
        let class = &images.classes()[label as usize];
        writeln!(metadata, "{}", class.replace(['\t', '\n', '\r'], " "))?;
    }
    run.write("metadata.tsv", metadata.as_bytes())?;

    let all: Vec<usize> = (0..images.len()).collect();
    let side = (SPRITE_SIDE / columns(all.len())).clamp(1, IMAGE_SIDE);
    let sprite = Sheet::new(images, &all, side)?;
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
