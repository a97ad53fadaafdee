/// Why a metric can't be computed from what was given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// Distances and truths do not pair up.
    #[error("{distances} distances but {same} truths: give one truth for each pair's distance")]
    PairCount {
        /// Distances given.
        distances: usize,
        /// Truths given.
        same: usize,
    },

    /// There is no pair.
    #[error("no pairs: a ROC needs at least one same and one different pair")]
    NoPairs,

    /// All pairs are of one kind, so one of the two error rates does not exist.
    #[error(
        "all {pairs} pairs are {kind} pairs: a ROC needs at least one same and one different pair",
        kind = if *same { "same" } else { "different" }
    )]
    OneKind {
        /// The kind all pairs are of.
        same: bool,
        /// Pairs given.
        pairs: usize,
    },

    /// A distance is NaN or infinite.
    #[error("the distance of pair {index} is {value}: distances must be finite")]
    NonFiniteDistance {
        /// Position of the first such pair, from 0.
        index: usize,
        /// The distance found there.
        value: f32,
    },

    /// A text that names no operating point.
    #[error("`{found}` is no operating point: write accuracy, eer or far=RATE, such as far=0.001")]
    UnknownRule {
        /// The text.
        found: String,
    },

    /// A false accept rate that no threshold can be chosen for.
    #[error("a false accept rate of {found} cannot be asked for: it is between 0 and 1")]
    FarRange {
        /// The rate.
        found: f64,
    },

    /// Too few pairs to say anything about so small a rate.
    #[error(
        "a false accept rate of {far} needs {needed} different pairs, ten for each false accept it \
         allows; there are {found}"
    )]
    TooFewPairs {
        /// The rate asked for.
        far: f64,
        /// Different pairs given.
        found: usize,
        /// Different pairs needed.
        needed: usize,
    },

    /// A stored curve that is none.
    #[error("the columns of the ROC {problem}")]
    Columns {
        /// What is wrong with them.
        problem: &'static str,
    },

    /// Embeddings of no dimensions.
    #[error("the embedding dimension is 0: it must be at least 1")]
    ZeroDimension,

    /// Embedding values and labels do not make N rows of `dim` values.
    #[error(
        "{set}: {values} embedding values and {labels} labels with dimension {dim}: \
         give {dim} values for each label, row by row"
    )]
    EmbeddingCount {
        /// Which argument: `embeddings`, `queries` or `references`.
        set: &'static str,
        /// Embedding values given.
        values: usize,
        /// Labels given.
        labels: usize,
        /// Dimension given.
        dim: usize,
    },

    /// There is no embedding.
    #[error("{set}: no embeddings: give at least one")]
    NoEmbeddings {
        /// Which argument: `embeddings`, `queries` or `references`.
        set: &'static str,
    },

    /// A coordinate is NaN or infinite.
    #[error("{set}: row {row}, column {column} is {value}: embeddings must be finite")]
    NonFiniteEmbedding {
        /// Which argument: `embeddings`, `queries` or `references`.
        set: &'static str,
        /// Row of the first such value, from 0.
        row: usize,
        /// Column of that value, from 0.
        column: usize,
        /// The value found there.
        value: f32,
    },

    /// No embedding shares its label with another, so there is nothing to retrieve.
    #[error("all {labels} labels differ: retrieval needs a class with at least two members")]
    NoClassmates {
        /// Labels given.
        labels: usize,
    },
}
