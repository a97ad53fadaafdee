use metrics::Verdict;
use serde::Serialize;

/// Embeds pictures and compares them.
///
/// The server calls these methods from several threads at once, [`embed`](Judge::embed) from one. If one of
/// them panics, the request that was asked about fails with status 500, and no other.
pub trait Judge: Send + Sync + 'static {
    /// A picture that is ready to be embedded.
    type Prepared: Send + Sync + 'static;

    /// What the judge is.
    fn model(&self) -> Model;

    /// Makes a picture of the bytes of a file; errors call it `name`.
    ///
    /// # Errors
    /// [`JudgeError`] if it can't be read or shows nothing.
    fn prepare(&self, name: &str, bytes: &[u8]) -> Result<Self::Prepared, JudgeError>;

    /// Embeds pictures, in order. They come from all the requests that wait, so an embedding must not
    /// depend on what else is in the batch.
    ///
    /// # Errors
    /// [`JudgeError`] if one of them can't be embedded. The server then asks for each request alone.
    fn embed(&self, pictures: &[&Self::Prepared]) -> Result<Vec<Seen>, JudgeError>;

    /// The verdict on two embeddings, (D,) each, that [`Judge::embed`] returned.
    ///
    /// # Errors
    /// [`JudgeError::Failed`] if there is none to give.
    fn verdict(&self, a: &[f32], b: &[f32]) -> Result<Verdict, JudgeError>;

    /// The `count` pictures of the gallery nearest to an embedding (D,): names and distances, nearest
    /// first.
    ///
    /// # Errors
    /// [`JudgeError::Failed`] if the embedding can't be searched for.
    fn nearest(&self, embedding: &[f32], count: usize) -> Result<Vec<(String, f32)>, JudgeError>;

    /// Embeddings of known pictures, for the page's map; `None` if there are none.
    fn map(&self) -> Option<&Map>;
}

/// The model, as `GET /health` describes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    /// Tells the network from others, such as a checksum of its weights. Not a file's name: those of this
    /// machine are no client's concern.
    pub fingerprint: String,
    /// Channels, height and width of its input.
    pub input: [usize; 3],
    /// Numbers in an embedding, D.
    pub embedding: usize,
    /// The largest distance that counts as the same.
    pub threshold: f64,
    /// Pictures in the gallery.
    pub gallery: usize,
    /// Whether there is a map.
    pub map: bool,
}

/// An embedded picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seen {
    /// Its embedding, (D,).
    pub embedding: Vec<f32>,
    /// Where the embedding lies on the map; left out of JSON if there is no map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<[f32; 2]>,
    /// What was done to the picture before it was embedded, step by step.
    pub treatment: Vec<String>,
}

/// The map: points in the plane, each with its class.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Map {
    /// The embeddings if they have two dimensions, otherwise their projection.
    pub points: Vec<[f32; 2]>,
    /// The class of each point, an index into `classes`.
    pub labels: Vec<u32>,
    /// The classes' names.
    pub classes: Vec<String>,
    /// Whether the points are projected from more dimensions.
    pub projected: bool,
}

/// Why a judge has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JudgeError {
    /// A picture that can't be read or shows nothing. Clients are told.
    #[error("{0}")]
    Picture(String),
    /// A picture with too many pixels. Clients are told.
    #[error("{0}")]
    PictureTooLarge(String),
    /// Any failure that isn't a picture's fault. It is logged; clients are only told that there was one.
    #[error("{0}")]
    Failed(String),
}
