//! The test images' embeddings as TensorBoard's embedding projector reads them.

use std::fmt::Write;

use anyhow::Result;
use data::LabelledImages;

use crate::evaluation::Embedded;
use crate::run_folder::RunFolder;

/// Writes `embeddings.tsv`, a row an image, and `metadata.tsv`, its class.
pub fn write(run: &RunFolder, embedded: &Embedded, images: &LabelledImages) -> Result<()> {
    let mut embeddings = String::new();
    for row in embedded.values.chunks_exact(embedded.dim) {
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
    run.write("metadata.tsv", metadata.as_bytes())
}
