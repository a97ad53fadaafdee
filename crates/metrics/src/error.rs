/// Why a metric can't be computed from what was given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// Pairs that make no ROC curve.
    #[error("{0}")]
    Pairs(String),

    /// Embeddings or labels that can't be searched.
    #[error("{0}")]
    Embeddings(String),

    /// A text that names no operating point, or a rate that is none.
    #[error("{0}")]
    OperatingPoint(String),

    /// Too few dissimilar pairs to say anything about so small a false accept rate.
    #[error(
        "a false accept rate of {far} needs {needed} different pairs, ten for each false accept it \
         allows; there are {found}"
    )]
    TooFewPairs {
        /// The rate asked for.
        far: f64,
        /// Dissimilar pairs given.
        found: usize,
        /// Dissimilar pairs needed.
        needed: usize,
    },

    /// A stored [`Calibration`](crate::Calibration) whose columns are no ROC curve.
    #[error("the columns of the ROC {0}")]
    Calibration(&'static str),
}
