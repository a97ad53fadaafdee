use std::path::Path;

use data::{Framing, ImageShape, LabelledImages};
use sha2::{Digest, Sha256};

use crate::engine::Engine;
use crate::{Preprocessing, PretrainedError, Record, Result};

/// A pretrained image encoder: pixels to features.
#[derive(Debug)]
pub struct Encoder {
    engine: Engine,
    trunk: String,
    length: u64,
    sha256: String,
    output: String,
    preprocessing: Preprocessing,
    shape: ImageShape,
    dimension: usize,
}

impl Encoder {
    /// Opens an ONNX file; see [`new`](Self::new).
    ///
    /// # Errors
    /// [`PretrainedError::File`] where it cannot be read, and those of [`new`](Self::new).
    pub fn open(path: &Path, preprocessing: Preprocessing, output: &str) -> Result<Self> {
        let onnx = std::fs::read(path).map_err(PretrainedError::file("read the trunk", path))?;
        Self::new(&path.display().to_string(), &onnx, preprocessing, output)
    }

    /// Takes the bytes of an ONNX file with one input (1, 3, H, W), f32, whose batch may be of any size, and
    /// an output (1, F) or (1, F, 1, 1). `output` names it where there are several, and is empty otherwise;
    /// errors call the file `trunk`. The [probe](Self::probe) is computed once.
    ///
    /// # Errors
    /// [`PretrainedError::NotBuilt`] without the crate feature `onnx`; [`PretrainedError::Trunk`] for
    /// another file, input or output, for operators that are not supported, which it names, and for
    /// features that are not finite.
    pub fn new(
        trunk: &str,
        onnx: &[u8],
        preprocessing: Preprocessing,
        output: &str,
    ) -> Result<Self> {
        let shape = preprocessing.shape()?;
        let mut encoder = Self {
            engine: Engine::new(trunk, onnx, &preprocessing, output)?,
            trunk: trunk.into(),
            length: onnx.len() as u64,
            sha256: hex(&Sha256::digest(onnx)),
            output: output.into(),
            preprocessing,
            shape,
            dimension: 0,
        };
        encoder.dimension = encoder.features(&encoder.probe())?.len();
        Ok(encoder)
    }

    /// Features of a picture, F.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Shape of the pictures that it takes, (3, H, W).
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// How pictures are framed to that shape.
    pub fn framing(&self) -> Framing {
        self.preprocessing.framing()
    }

    /// SHA-256 of the file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What pictures go through before it.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// The features (F,) of a framed picture's pixels (3, H, W).
    ///
    /// # Errors
    /// [`PretrainedError::Trunk`] for another number of pixels, and for features that are not finite.
    pub fn features(&self, pixels: &[u8]) -> Result<Vec<f32>> {
        let wrong = |problem: String| PretrainedError::trunk(&self.trunk, problem);
        if pixels.len() != self.shape.values() {
            return Err(wrong(format!(
                "takes pictures of {} values, and got {}",
                self.shape.values(),
                pixels.len()
            )));
        }
        let features = self.engine.run(self.preprocessing.input(pixels))?;
        if let Some(place) = features.iter().position(|value| !value.is_finite()) {
            return Err(wrong(format!(
                "gives features that are not finite: {} at place {place}; is its preprocessing right?",
                features[place]
            )));
        }
        Ok(features)
    }

    /// A picture (3, H, W) that is the same for everyone: waves of a few sizes, other ones in each colour.
    pub fn probe(&self) -> Vec<u8> {
        let ImageShape { height, width, .. } = self.shape;
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        let value = |colour: usize, (y, x): (usize, usize)| {
            // Whole numbers, so that no rounding differs anywhere.
            let triangle = |t: usize| (t % 128).abs_diff(64) * 2;
            let (slow, fast) = (triangle(x + 2 * y), triangle((5 + colour) * y + 7 * x));
            ((slow + fast + 40 * colour) / 2).min(255) as u8
        };
        (0..3)
            .flat_map(|colour| places.clone().map(move |place| value(colour, place)))
            .collect()
    }

    /// What a model file is to say of it, with the `embedding` of the [probe](Self::probe).
    pub fn record(&self, path: &Path, embedding: Vec<f32>) -> Record {
        let name = path.file_name().unwrap_or_default();
        Record {
            name: name.to_string_lossy().into_owned(),
            length: self.length,
            sha256: self.sha256.clone(),
            path: std::path::absolute(path).unwrap_or_else(|_| path.into()),
            output: self.output.clone(),
            preprocessing: self.preprocessing.clone(),
            probe: embedding,
        }
    }

    /// Identifies what decides the features of given pixels, in hexadecimal.
    pub(crate) fn fingerprint(&self) -> String {
        let preprocessing = serde_json::to_string(&self.preprocessing).unwrap_or_default();
        let all = [&*self.sha256, &*self.output, &*preprocessing].join("\n");
        hex(&Sha256::digest(all))
    }

    /// The same images with their features; `cache` has those that are known already and takes up the
    /// others. `progress` is called with how many of the others have been computed, and how many there are.
    ///
    /// # Errors
    /// Those of [`features`](Self::features), and [`PretrainedError::Trunk`] for images of another shape.
    pub fn encode(
        &self,
        images: &LabelledImages,
        cache: &mut crate::Cache,
        progress: &dyn Fn(usize, usize),
    ) -> Result<LabelledImages> {
        let features = cache.features(self, images, progress)?;
        let fits = images.clone().with_features(features, self.dimension);
        fits.map_err(|error| PretrainedError::trunk(&self.trunk, error.to_string()))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
