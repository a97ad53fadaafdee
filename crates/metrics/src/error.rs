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

    /// Few-shot trials that make no sense.
    #[error("{0}")]
    Trials(String),

    /// Too few classes with enough images for few-shot trials.
    #[error(
        "{ways}-way trials need {ways} classes of {images} or more images each{}; {} {found}",
        if *within_groups { " in one group" } else { "" },
        if *within_groups { "the largest group has" } else { "there are" }
    )]
    TooFewClasses {
        /// Classes in a trial.
        ways: usize,
        /// Images that a class needs.
        images: usize,
        /// Classes that have them; within groups, in the group with the most.
        found: usize,
        /// Whether all classes of a trial are of one group.
        within_groups: bool,
    },

    /// A stored [`Calibration`](crate::Calibration) whose columns are no ROC curve.
    #[error("the columns of the ROC {0}")]
    Calibration(&'static str),
}
