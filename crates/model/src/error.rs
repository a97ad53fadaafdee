use std::path::PathBuf;

use candle_core::Tensor;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, ModelError>;

/// What went wrong, where, and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A tensor handed to a layer or a network does not fit; the text says which, what it must be and
    /// what it is.
    #[error("{0}")]
    Input(String),
    /// A configuration that describes no network.
    #[error("network configuration: {field} {problem}")]
    Config {
        /// The field, as a configuration file has it.
        field: String,
        /// What is wrong with it, with the value found.
        problem: String,
    },
    /// A model file that cannot be read.
    #[error("cannot load the model {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<ModelError>,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The bytes are not a whole safetensors file.
    #[error("not a complete safetensors file; it is cut short, damaged or of another format")]
    NotSafetensors(#[from] safetensors::SafeTensorError),
    /// A model file, or a [`ModelFile`](crate::ModelFile) to be stored, does not make sense.
    #[error("{place} {problem}")]
    Format {
        /// An entry of the header, or a tensor.
        place: String,
        /// What is wrong with it, with the value found.
        problem: String,
    },
    /// candle refused an operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl ModelError {
    pub(crate) fn config(field: impl Into<String>, problem: String) -> Self {
        Self::Config {
            field: field.into(),
            problem,
        }
    }

    pub(crate) fn header(key: &str, problem: impl Into<String>) -> Self {
        Self::Format {
            place: format!("model header: `{key}`"),
            problem: problem.into(),
        }
    }

    pub(crate) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Format {
            place: format!("tensor `{name}`"),
            problem: problem.into(),
        }
    }

    pub(crate) fn shape(name: &str, expected: impl AsRef<str>, found: &Tensor) -> Self {
        let (expected, found) = (expected.as_ref(), found.dims());
        Self::Input(format!("{name} must be {expected}, found shape {found:?}"))
    }

    pub(crate) fn dtype(name: &str, expected: impl AsRef<str>, found: candle_core::DType) -> Self {
        let expected = expected.as_ref();
        Self::Input(format!(
            "{name} must be {expected}, found {found:?}; convert it with `to_dtype`"
        ))
    }
}

impl From<ModelError> for candle_core::Error {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Candle(error) => error,
            error => Self::Wrapped(Box::new(error)),
        }
    }
}
