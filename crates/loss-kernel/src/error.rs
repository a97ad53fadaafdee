use candle_core::{DType, DeviceLocation, Shape};

/// What is wrong with a loss's arguments.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// The margin is not a positive finite number.
    #[error("the margin must be a positive finite number, got {0}")]
    Margin(f64),
    /// The embeddings are not two equal matrices.
    #[error(
        "the embeddings of a batch of pairs must both be (pairs, dimensions), got {a:?} and {b:?}"
    )]
    EmbeddingShapes {
        /// Shape of the first sides.
        a: Shape,
        /// Shape of the second sides.
        b: Shape,
    },
    /// The labels are not one a pair.
    #[error("one label a pair is needed: embeddings are {embeddings:?}, labels are {labels:?}")]
    LabelShape {
        /// Shape of either side's embeddings.
        embeddings: Shape,
        /// Shape of the labels.
        labels: Shape,
    },
    /// No pairs, or embeddings of no dimensions.
    #[error("a batch must have at least one pair of at least one dimension, got {0:?}")]
    Empty(Shape),
    /// More elements than there can be bytes.
    #[error("a batch of {0:?} has more elements than memory can hold")]
    TooLarge(Shape),
    /// The two sides differ in type, or their type has no contrastive loss.
    #[error("the embeddings must both be f16, bf16, f32 or f64, got {a:?} and {b:?}")]
    EmbeddingTypes {
        /// Type of the first sides.
        a: DType,
        /// Type of the second sides.
        b: DType,
    },
    /// Labels of a type that cannot say similar or dissimilar.
    #[error("the labels must be u8, u32 or floats, got {0:?}")]
    LabelType(DType),
    /// A label that is neither 1 (similar) nor 0 (dissimilar).
    #[error(
        "a label is 1 for a similar pair and 0 for a dissimilar one, but label {index} is {value}"
    )]
    Label {
        /// Which pair.
        index: usize,
        /// What was found there.
        value: f64,
    },
    /// The tensors live in different places.
    #[error("embeddings and labels must be on one device, got {a:?}, {b:?} and {labels:?}")]
    Devices {
        /// Where the first sides are.
        a: DeviceLocation,
        /// Where the second sides are.
        b: DeviceLocation,
        /// Where the labels are.
        labels: DeviceLocation,
    },
    /// The gradient of the result is not of the result's shape, type and device.
    #[error(
        "the result's gradient must have the result's shape, type and device, {expected:?}, \
         got {found:?}"
    )]
    Upstream {
        /// Of the result.
        expected: (Shape, DType, DeviceLocation),
        /// Of the gradient.
        found: (Shape, DType, DeviceLocation),
    },
    /// The embeddings of a batch are no matrix.
    #[error("the embeddings of a batch must be (batch, dimensions), got {0:?}")]
    BatchShape(Shape),
    /// The labels of a batch are not one an embedding.
    #[error(
        "one label an embedding is needed: embeddings are {embeddings:?}, labels are {labels:?}"
    )]
    ClassShape {
        /// Shape of the embeddings.
        embeddings: Shape,
        /// Shape of the labels.
        labels: Shape,
    },
    /// Embeddings of a type that has no contrastive loss.
    #[error("the embeddings of a batch must be f16, bf16, f32 or f64, got {0:?}")]
    BatchType(DType),
    /// Labels that are no integers.
    #[error("the labels of a batch must be integers, which name classes, got {0:?}")]
    ClassType(DType),
    /// A batch too small for a pair, or of no dimensions.
    #[error(
        "a pair needs two embeddings of at least one dimension, got {0:?}; leave out a last batch \
         that is too small"
    )]
    NoPair(Shape),
    /// Queries and references of different dimensions.
    #[error(
        "queries and references must have the same dimensions, got {queries:?} and {references:?}"
    )]
    Dimensions {
        /// Shape of the queries.
        queries: Shape,
        /// Shape of the references.
        references: Shape,
    },
    /// A batch on a device for which this loss is not written.
    #[error(
        "the loss over all pairs of a batch runs on the CPU and, built with the feature `cuda`, on \
         NVIDIA GPUs; got a tensor on {0:?}"
    )]
    UnsupportedDevice(DeviceLocation),
    /// A batch that differs in kind from those remembered.
    #[error("the memory holds {expected}, and cannot take {found}")]
    OtherMemory {
        /// What it holds.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// What candle said.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Refuses a view, of a few numbers seen over and over, whose gradients no address reaches.
pub(crate) fn check_size(embeddings: &Shape) -> Result<(), LossError> {
    // Of both sides, in f64.
    const BYTES: usize = 2 * 8;
    let sides = embeddings.dims().iter();
    let bytes = sides.copied().try_fold(BYTES, usize::checked_mul);
    match bytes {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => Err(LossError::TooLarge(embeddings.clone())),
    }
}

impl From<LossError> for candle_core::Error {
    fn from(error: LossError) -> Self {
        match error {
            LossError::Candle(error) => error,
            error => Self::Wrapped(Box::new(error)),
        }
    }
}
