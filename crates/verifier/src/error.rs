//! What can go wrong between a model file, pictures and a gallery.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use data::DataError;
use metrics::MetricsError;
use model::ModelError;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, VerifierError>;

/// What went wrong, where, and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// A folder in which no run has finished.
    #[error("{} has no model.safetensors: it is not the folder of a finished run", path.display())]
    NoModel {
        /// The folder.
        path: PathBuf,
    },
    /// A model that cannot be loaded, or that a device refuses to compute.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A picture that cannot be used.
    #[error(transparent)]
    Picture(#[from] DataError),
    /// Pictures that cannot be used.
    #[error("{} pictures cannot be used: {}", problems.len(), listed(problems))]
    Pictures {
        /// What is wrong with each.
        problems: Vec<DataError>,
    },
    /// A folder without pictures.
    #[error("{} has no pictures in it", path.display())]
    NoPictures {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that cannot be looked into.
    #[error("cannot look into {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A model without a threshold, so without verdicts.
    #[error(
        "the model has no threshold: its run was not finished; choose one with `with_threshold`"
    )]
    NoThreshold,
    /// A threshold that is no distance.
    #[error("the threshold is {found}: a distance is finite and at least 0")]
    Threshold {
        /// The number found.
        found: f64,
    },
    /// A model that does not say what its threshold was chosen by.
    #[error(
        "the model does not have its held-out pairs' distances, as models of format 1.1 do: only its \
         own threshold can be used; train again, or give a threshold"
    )]
    NoCalibration,
    /// A calibration that makes no sense, or an operating point that it cannot give.
    #[error("the model's calibration: {0}")]
    Calibration(#[from] MetricsError),
    /// A picture that was read for another network.
    #[error(
        "picture {index} has {found} values, the network takes {expected}: read it with this verifier"
    )]
    OtherPicture {
        /// Its place among the pictures given, from 0.
        index: usize,
        /// Values it has.
        found: usize,
        /// Values the network takes.
        expected: usize,
    },
    /// Embedding values that make no whole rows.
    #[error("{values} values are no rows of {dimension}")]
    Rows {
        /// Values given.
        values: usize,
        /// Dimension given.
        dimension: usize,
    },
    /// candle refused an operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A gallery file that cannot be read or written.
    #[error("the gallery {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A gallery file that is not one, or is damaged.
    #[error("the gallery {} {problem}", path.display())]
    Gallery {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A gallery of another network, whose distances would mean nothing.
    #[error("the gallery {} was made with another model: delete it, or name another file", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
    },
    /// Names that are not one an embedding.
    #[error("{names} names for {embeddings} embeddings: give one for each")]
    Names {
        /// Names given.
        names: usize,
        /// Embeddings given.
        embeddings: usize,
    },
    /// An embedding of another dimension than the gallery's, or one that is not finite.
    #[error("the query {problem}")]
    Query {
        /// What is wrong with it.
        problem: String,
    },
}

fn listed(problems: &[DataError]) -> String {
    let texts: Vec<String> = problems
        .iter()
        .map(|problem| match problem.source() {
            Some(source) => format!("{problem} ({source})"),
            None => problem.to_string(),
        })
        .collect();
    texts.join("; ")
}
