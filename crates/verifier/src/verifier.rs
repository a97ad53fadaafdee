//! Verdicts on pictures.

use std::path::Path;
use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use data::{
    Compose, Framing, ImageShape, Picture, TransformConfig, input_of, picture_from_bytes,
    read_picture,
};
use metrics::{OperatingRule, Roc, RocColumns, euclidean, is_same};
use model::{ModelFile, Network, weights};
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{Embeddings, Result, VerifierError};

/// Pictures embedded at once: a few MB of activations.
const BATCH: usize = 256;

/// A trained network, ready to compare pictures.
///
/// The same pictures given together get the same bits from any number of threads. How many are given
/// together decides how the matrix products are cut, and so the last bits.
#[derive(Debug)]
pub struct Verifier {
    net: Network,
    file: ModelFile,
    transform: Compose,
    shape: ImageShape,
    roc: Option<Roc>,
    fingerprint: OnceLock<String>,
}

/// What is said of two pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The Euclidean distance of their embeddings.
    pub distance: f32,
    /// The largest distance at which pictures count as the same.
    pub threshold: f64,
    /// Whether they show the same.
    pub same: bool,
    /// How often held-out pictures of different things passed for the same at this threshold, in
    /// [0, 1]; `None` if the model does not say.
    pub far_at_threshold: Option<f64>,
}

impl Verifier {
    /// Opens a run folder, or the model file itself, on the CPU.
    ///
    /// # Errors
    /// [`VerifierError::NoModel`] for a folder without a model, and [`VerifierError::Model`], which
    /// names the file, for one that is missing, damaged or of a newer format;
    /// [`VerifierError::Calibration`] if its calibration makes no sense.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = match path.is_dir() {
            true => path.join("model.safetensors"),
            false => path.into(),
        };
        if path.is_dir() && !file.is_file() {
            return Err(VerifierError::NoModel { path: path.into() });
        }
        let (net, file) = weights::open(&file, &Device::Cpu)?;
        Self::new(net, file)
    }

    /// Takes a network with what its file says, on the network's device.
    ///
    /// # Errors
    /// [`VerifierError::Calibration`] if the calibration makes no sense, [`VerifierError::Picture`]
    /// if the network takes no pictures.
    pub fn new(net: Network, file: ModelFile) -> Result<Self> {
        let shape = ImageShape::try_from(net.config().input)?;
        let p = &file.preprocessing;
        let transform = TransformConfig {
            scale: p.scale,
            mean: p.mean,
            std: p.std,
            ..Default::default()
        };
        let roc = file.calibration.as_ref().map(|c| {
            Roc::from_columns(&RocColumns {
                distance: c.distance.clone(),
                same: c.same.clone(),
                different: c.different.clone(),
            })
        });
        Ok(Self {
            transform: transform.evaluation(),
            shape,
            roc: roc.transpose()?,
            net,
            file,
            fingerprint: OnceLock::new(),
        })
    }

    /// With a threshold of your own.
    ///
    /// # Errors
    /// [`VerifierError::Threshold`] unless it is finite and at least 0.
    pub fn with_threshold(mut self, threshold: f64) -> Result<Self> {
        if !(threshold.is_finite() && threshold >= 0.0) {
            return Err(VerifierError::Threshold { found: threshold });
        }
        self.file.threshold = Some(threshold);
        Ok(self)
    }

    /// With the threshold that another operating point has on the model's held-out pairs.
    ///
    /// # Errors
    /// [`VerifierError::NoCalibration`] for a model file of format 1.0, which has no such pairs;
    /// [`VerifierError::Calibration`] if they are too few for the point.
    pub fn at(mut self, rule: OperatingRule) -> Result<Self> {
        let calibration = self.file.calibration.as_mut();
        let (Some(roc), Some(calibration)) = (&self.roc, calibration) else {
            return Err(VerifierError::NoCalibration);
        };
        // The model's own is from all pairs, and the rows kept are of some.
        if calibration.at != rule.to_string() {
            self.file.threshold = Some(rule.threshold(roc)?.max(0.0));
            calibration.at = rule.to_string();
        }
        Ok(self)
    }

    /// Numbers in an embedding, D.
    pub fn dimension(&self) -> usize {
        self.net.config().embedding
    }

    /// The largest distance at which pictures count as the same; `None` before calibration.
    pub fn threshold(&self) -> Option<f64> {
        self.file.threshold
    }

    /// The network itself.
    pub fn net(&self) -> &Network {
        &self.net
    }

    /// What the model file says besides the weights.
    pub fn model(&self) -> &ModelFile {
        &self.file
    }

    /// The ROC of the model's held-out pairs; `None` for a model file of format 1.0.
    pub fn calibration(&self) -> Option<&Roc> {
        self.roc.as_ref()
    }

    /// Channels, height and width of the network's input.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// What tells this network from any other: SHA-256 of its weights, configuration and
    /// preprocessing, in hexadecimal. The threshold does not count.
    ///
    /// # Errors
    /// Whatever the network's device reports.
    pub fn fingerprint(&self) -> Result<&str> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known);
        }
        let network = ModelFile {
            threshold: None,
            calibration: None,
            classes: Vec::new(),
            version: String::new(),
            ..self.file.clone()
        };
        let digest = Sha256::digest(weights::to_bytes(&self.net, &network)?);
        let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.fingerprint.get_or_init(|| hex))
    }

    /// Reads a picture file as the network needs it; [`data::read_picture`] says which and how.
    ///
    /// # Errors
    /// [`VerifierError::Picture`], which names the file.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Picture> {
        Ok(read_picture(path.as_ref(), self.shape, self.framing())?)
    }

    /// Reads many picture files, on all cores.
    ///
    /// # Errors
    /// [`VerifierError::Pictures`], which names every file that cannot be used.
    pub fn read_all<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Result<Vec<Picture>> {
        let read = |path: &P| read_picture(path.as_ref(), self.shape, self.framing());
        let read: Vec<_> = paths.par_iter().map(read).collect();
        let mut pictures = Vec::with_capacity(paths.len());
        let mut problems = Vec::new();
        for picture in read {
            match picture {
                Ok(picture) => pictures.push(picture),
                Err(problem) => problems.push(problem),
            }
        }
        match problems.len() {
            0 => Ok(pictures),
            1 => Err(problems.remove(0).into()),
            _ => Err(VerifierError::Pictures { problems }),
        }
    }

    /// As [`read`](Self::read), of a picture file's bytes; errors call it `name`.
    ///
    /// # Errors
    /// [`VerifierError::Picture`].
    pub fn decode(&self, bytes: &[u8], name: impl AsRef<Path>) -> Result<Picture> {
        let name = name.as_ref();
        Ok(picture_from_bytes(bytes, name, self.shape, self.framing())?)
    }

    fn framing(&self) -> Framing {
        self.file.preprocessing.ink_side.into()
    }

    /// Whether two pictures show the same.
    ///
    /// # Errors
    /// [`VerifierError::NoThreshold`] before calibration; [`VerifierError::OtherPicture`] for a
    /// picture that another network's verifier has read.
    pub fn verify(&self, a: &Picture, b: &Picture) -> Result<Verdict> {
        let embeddings = self.embed(&[a, b])?;
        let (a, b) = embeddings.values().split_at(self.dimension());
        self.verdict(euclidean(a, b))
    }

    /// The verdict at a distance of two embeddings.
    ///
    /// # Errors
    /// [`VerifierError::NoThreshold`] before calibration.
    pub fn verdict(&self, distance: f32) -> Result<Verdict> {
        let threshold = self.threshold().ok_or(VerifierError::NoThreshold)?;
        Ok(Verdict {
            distance,
            threshold,
            same: is_same(distance, threshold),
            far_at_threshold: self.roc.as_ref().map(|roc| roc.far_at(threshold)),
        })
    }

    /// The network's input for pictures, (N, C, H, W): scaled and normalised.
    ///
    /// # Errors
    /// [`VerifierError::OtherPicture`].
    pub fn input<P: AsRef<Picture>>(&self, pictures: &[P]) -> Result<Vec<f32>> {
        let expected = self.shape.values();
        for (index, picture) in pictures.iter().enumerate() {
            let picture = picture.as_ref();
            if picture.pixels.len() != expected {
                return Err(VerifierError::OtherPicture {
                    index,
                    found: picture.pixels.len(),
                    expected,
                });
            }
        }
        let pixels = pictures.iter().map(|picture| &*picture.as_ref().pixels);
        Ok(input_of(self.shape, pixels, &self.transform))
    }

    /// The embedding of each picture, in order; many at once are several times as fast as one by one.
    ///
    /// # Errors
    /// [`VerifierError::OtherPicture`], and whatever the network's device reports.
    pub fn embed<P: AsRef<Picture>>(&self, pictures: &[P]) -> Result<Embeddings> {
        let [c, h, w] = self.net.config().input;
        let dtype = self.net.parameters()[0].var.dtype();
        let mut values = Vec::with_capacity(pictures.len() * self.dimension());
        for batch in pictures.chunks(BATCH) {
            let input = self.input(batch)?;
            let input = Tensor::from_vec(input, (batch.len(), c, h, w), self.net.device())?;
            let output = self.net.forward(&input.to_dtype(dtype)?)?;
            let output = output.to_dtype(candle_core::DType::F32)?.flatten_all()?;
            values.extend(output.to_vec1::<f32>()?);
        }
        Embeddings::new(values, self.dimension())
    }
}
