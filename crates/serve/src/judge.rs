use serde::Serialize;

/// Looks at pictures and gives verdicts.
///
/// Its methods compute; the server calls them on threads that may wait, several at once.
pub trait Judge: Send + Sync + 'static {
    /// What the judge is.
    fn model(&self) -> Model;

    /// Embeds pictures, each the bytes of a file and a name for errors, in order.
    ///
    /// # Errors
    /// For the first picture that cannot be looked at.
    fn look(&self, pictures: &[(String, Vec<u8>)]) -> Result<Vec<Seen>, JudgeError>;

    /// The verdict on two embeddings that [`Judge::look`] gave.
    ///
    /// # Errors
    /// If there is none to give.
    fn verdict(&self, a: &[f32], b: &[f32]) -> Result<Verdict, JudgeError>;

    /// The `count` pictures of the gallery nearest to an embedding, the nearest first.
    ///
    /// # Errors
    /// If the embedding cannot be searched for.
    fn nearest(&self, embedding: &[f32], count: usize) -> Result<Vec<Neighbour>, JudgeError>;

    /// Embeddings of known pictures, for the page's map; `None` if there are none.
    fn map(&self) -> Option<&Map>;
}

/// What `GET /health` tells of the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    /// What was opened.
    pub name: String,
    /// (C, H, W).
    pub input: [usize; 3],
    /// Dimensions of an embedding.
    pub embedding: usize,
    /// The distance up to which two pictures show the same.
    pub threshold: f64,
    /// Pictures in the gallery.
    pub gallery: usize,
    /// Whether there is a map.
    pub map: bool,
}

/// A picture that has been looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seen {
    /// (D,).
    pub embedding: Vec<f32>,
    /// Where the embedding lies on the map; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<[f32; 2]>,
    /// What was done to the picture, in order, a sentence part each.
    pub treatment: Vec<String>,
}

/// Whether two pictures show the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The distance is at most the threshold.
    pub same: bool,
    /// Euclidean distance of the embeddings.
    pub distance: f32,
    /// The model's own.
    pub threshold: f64,
    /// The share of different pairs that the threshold takes for the same; absent if not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub far_at_threshold: Option<f64>,
}

/// A picture of the gallery.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its path within the gallery.
    pub name: String,
    /// Its distance from the query.
    pub distance: f32,
    /// Whether that is within the threshold.
    pub same: bool,
}

/// Points in the plane, and the class of each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Map {
    /// The embeddings themselves if they have two dimensions, else their projection.
    pub points: Vec<[f32; 2]>,
    /// The class of each point, an index into `classes`.
    pub labels: Vec<u32>,
    /// The classes' names.
    pub classes: Vec<String>,
    /// Whether the points are a projection of more dimensions.
    pub projected: bool,
}

/// Why a judge gives no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JudgeError {
    /// A picture that cannot be read, or shows nothing.
    #[error("{0}")]
    Picture(String),
    /// A picture of too many pixels.
    #[error("{0}")]
    PictureTooLarge(String),
    /// Not the pictures' fault.
    #[error("{0}")]
    Failed(String),
}
