//! What can go wrong between a model file, pictures and a gallery.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use data::DataError;
use metrics::MetricsError;
use model::ModelError;
use pretrained::PretrainedError;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, VerifierError>;

/// What went wrong, where, and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// A folder without a model in it: no run has finished there.
    #[error("{} has no model.safetensors: it is not the folder of a finished run", path.display())]
    NoModel {
        /// The folder.
        path: PathBuf,
    },
    /// A model that can't be loaded, or that its device can't compute.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model without the threshold or the calibration that was needed, or a calibration that makes
    /// no sense or is too small.
    #[error("{0}")]
    Calibration(String),
    /// A picture that can't be used.
    #[error(transparent)]
    Picture(#[from] DataError),
    /// Several pictures that can't be used.
    #[error("{} pictures cannot be used: {}", .0.len(), listed(.0))]
    Pictures(Vec<DataError>),
    /// A pretrained trunk that is missing, is another than the model's, fails, or can't be run by this
    /// program.
    #[error(transparent)]
    Trunk(#[from] PretrainedError),
    /// An argument that fits neither model nor gallery.
    #[error("{0}")]
    Input(String),
    /// A gallery's file or folder that can't be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What could not be done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is no gallery, is damaged or was made with another model, or a folder without
    /// pictures.
    #[error("the gallery {} {problem}", path.display())]
    Gallery {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl From<MetricsError> for VerifierError {
    fn from(error: MetricsError) -> Self {
        match error {
            MetricsError::Embeddings(problem) => Self::Input(problem),
            other => Self::Calibration(format!("the model's calibration: {other}")),
        }
    }
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
