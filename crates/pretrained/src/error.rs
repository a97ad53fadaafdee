use std::io;
use std::path::{Path, PathBuf};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, PretrainedError>;

/// What is wrong with a pretrained trunk, its preprocessing or its cache. Messages name the place, what was
/// found there and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainedError {
    /// A file that cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What could not be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A trunk that cannot be used.
    #[error("the pretrained trunk {trunk} {problem}")]
    Trunk {
        /// Its file's name or path.
        trunk: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A preprocessing that is incomplete or makes no sense.
    #[error("{place}: {problem}")]
    Preprocessing {
        /// The file, or what else says it.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A program built without the feature that runs ONNX files.
    #[error(
        "this program was built without pretrained trunks: build it with `cargo build -p train \
         --features pretrained`"
    )]
    NotBuilt,
}

impl PretrainedError {
    pub(crate) fn trunk(trunk: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Trunk {
            trunk: trunk.into(),
            problem: problem.into(),
        }
    }

    pub(crate) fn preprocessing(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Preprocessing {
            place: place.into(),
            problem: problem.into(),
        }
    }

    /// For `map_err` after trying to do `action` with `path`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
