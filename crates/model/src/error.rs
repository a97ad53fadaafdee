use std::path::PathBuf;

use candle_core::DType;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, ModelError>;

/// What went wrong, where, and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A tensor handed to a layer or a network has another shape than it needs.
    #[error("{tensor} must be {expected}, found shape {found:?}")]
    Shape {
        /// Which argument.
        tensor: &'static str,
        /// The shape it must have.
        expected: String,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// A tensor handed to a layer has another element type than it needs.
    #[error("{tensor} must be {expected}, found {found:?}; convert it with `to_dtype`")]
    DType {
        /// Which argument.
        tensor: &'static str,
        /// The element type it must have.
        expected: String,
        /// The element type it has.
        found: DType,
    },
    /// An image leaves less than one 2×2 pooling window after the convolution.
    #[error(
        "an image of {}×{} is too small: a {}×{} convolution and a 2×2 pool need at least {}×{}",
        image[0], image[1], kernel[0], kernel[1], kernel[0] + 1, kernel[1] + 1
    )]
    ImageTooSmall {
        /// Height and width of the image.
        image: [usize; 2],
        /// Height and width of the kernel.
        kernel: [usize; 2],
    },
    /// A network's configuration describes no network.
    #[error("network configuration: {field} {problem}")]
    Config {
        /// The field, as it is written in a configuration file.
        field: String,
        /// What is wrong with it, with the value found.
        problem: String,
    },
    /// A model file could not be read.
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
    /// An entry of the `__metadata__` header, or of the [`ModelFile`](crate::ModelFile) to be
    /// stored in it, is missing or makes no sense.
    #[error("model header: `{key}` {problem}")]
    Header {
        /// The entry's key.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The file was written by a later program than this one.
    #[error(
        "model format {found} is newer than {supported}, the newest this program reads; update it"
    )]
    NewerFormat {
        /// The file's format version.
        found: String,
        /// The newest format version read here.
        supported: &'static str,
    },
    /// A tensor of a model file does not fit the network its header describes.
    #[error("tensor `{name}` {problem}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// candle refused an operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
