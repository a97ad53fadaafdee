use candle_core::{DType, Tensor};

/// What is wrong with a loss's arguments, by kind; the message says what was found and what is
/// needed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// The margin is not a positive finite number.
    #[error("the margin must be a positive finite number, got {0}")]
    Margin(f64),
    /// Shapes do not fit the loss or each other, or leave no pair.
    #[error("{0}")]
    Shape(String),
    /// Element types do not fit the loss or each other.
    #[error("{0}")]
    DType(String),
    /// The tensors are on several devices, or on one that the loss is not written for.
    #[error("{0}")]
    Device(String),
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
    /// What candle reports.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<LossError> for candle_core::Error {
    fn from(error: LossError) -> Self {
        match error {
            LossError::Candle(error) => error,
            error => Self::Wrapped(Box::new(error)),
        }
    }
}

/// Returns an error of a kind that is a sentence.
macro_rules! refuse {
    ($kind:ident, $($sentence:tt)+) => {
        return Err($crate::LossError::$kind(format!($($sentence)+)))
    };
}
pub(crate) use refuse;

pub(crate) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

/// Refuses embeddings that are not floats of one type.
pub(crate) fn check_types(embeddings: &[&Tensor]) -> Result<(), LossError> {
    let types: Vec<DType> = embeddings.iter().map(|side| side.dtype()).collect();
    if types
        .iter()
        .any(|&dtype| dtype != types[0] || !is_float(dtype))
    {
        refuse!(
            DType,
            "embeddings must be f16, bf16, f32 or f64, all of one type, got {types:?}"
        );
    }
    Ok(())
}

/// Refuses embeddings and labels that are not all in one place.
pub(crate) fn check_devices(tensors: &[&Tensor]) -> Result<(), LossError> {
    let first = tensors[0].device();
    if tensors
        .iter()
        .any(|tensor| !tensor.device().same_device(first))
    {
        let places: Vec<_> = tensors
            .iter()
            .map(|tensor| tensor.device().location())
            .collect();
        refuse!(
            Device,
            "embeddings and labels must be on one device, got {places:?}"
        );
    }
    Ok(())
}

/// Refuses a view, of a few numbers seen over and over, whose gradients no address reaches.
pub(crate) fn check_size(embeddings: &Tensor) -> Result<(), LossError> {
    // Of both sides, in f64.
    const BYTES: usize = 2 * 8;
    let sides = embeddings.dims().iter();
    let bytes = sides.copied().try_fold(BYTES, usize::checked_mul);
    if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
        refuse!(
            Shape,
            "a batch of {:?} has more elements than memory can hold",
            embeddings.shape()
        );
    }
    Ok(())
}
