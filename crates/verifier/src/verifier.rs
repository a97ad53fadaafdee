use std::path::Path;
use std::sync::OnceLock;

use candle_core::Device;
use data::{
    Compose, Framing, ImageShape, Picture, TransformConfig, input_of, picture_from_bytes,
    read_picture,
};
use metrics::{Embeddings, OperatingPoint, Roc, Verdict};
use model::{Embedder, ModelError, ModelFile, Network, Pretrained, weights};
use pretrained::{Encoder, Record};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::embed::{embed_input, in_batches};
use crate::{Result, VerifierError};

/// A trained network, ready to compare pictures.
///
/// On the CPU a picture's embedding has the same bits whatever pictures it is embedded with, and from any
/// number of threads.
#[derive(Debug)]
pub struct Verifier {
    net: Network,
    embedder: Embedder,
    file: ModelFile,
    transform: Compose,
    shape: ImageShape,
    roc: Option<Roc>,
    /// What makes the network's input of pictures, where its trunk is a pretrained one.
    encoder: Option<Encoder>,
    fingerprint: OnceLock<String>,
}

impl Verifier {
    /// Opens a run folder, or a model file, on `device`.
    ///
    /// # Errors
    /// [`VerifierError::NoModel`] for a folder without a model; [`VerifierError::Model`], which names
    /// the file, for a model that is missing, damaged or of a newer format;
    /// [`VerifierError::Calibration`] if its calibration makes no sense; [`VerifierError::Trunk`] for a
    /// pretrained trunk that is missing, is another or does not give what it gave.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_dir() {
            let (net, file) = weights::open(path, device)?;
            let folder = path.parent().unwrap_or(Path::new(""));
            return Self::beside(folder, net, file);
        }
        let file = path.join("model.safetensors");
        if !file.is_file() {
            return Err(VerifierError::NoModel { path: path.into() });
        }
        Self::open(file, device)
    }

    /// Takes a network, on the device it is on, and what its model file says.
    ///
    /// # Errors
    /// [`VerifierError::Calibration`] if the calibration makes no sense, [`VerifierError::Picture`]
    /// if no picture has the shape of the network's input, [`VerifierError::Trunk`] as
    /// [`open`](Self::open).
    pub fn new(net: Network, file: ModelFile) -> Result<Self> {
        Self::beside(Path::new(""), net, file)
    }

    /// A model whose file is in `folder`, where its trunk may be too.
    fn beside(folder: &Path, net: Network, file: ModelFile) -> Result<Self> {
        let pretrained = file.pretrained.as_ref();
        let record = pretrained.map(record).transpose()?;
        let encoder = record.as_ref().map(|record| {
            let embedded = pretrained.and_then(|pretrained| pretrained.file.as_deref());
            record.open(folder, embedded)
        });
        let encoder = encoder.transpose()?;
        let verifier = Self::assemble(net, file, encoder)?;
        if let (Some(record), Some(encoder)) = (record, &verifier.encoder) {
            let features = encoder.features(&encoder.probe())?;
            let embedding = embed_input(&verifier.net, &features)?;
            record.check_probe(embedding.row(0))?;
        }
        Ok(verifier)
    }

    fn assemble(net: Network, file: ModelFile, encoder: Option<Encoder>) -> Result<Self> {
        let input = net.config().input;
        let shape = match &encoder {
            Some(encoder) if input.iter().product::<usize>() != encoder.dimension() => {
                return Err(VerifierError::Input(format!(
                    "the network takes {input:?} features, and its pretrained trunk gives {}",
                    encoder.dimension()
                )));
            }
            Some(encoder) => encoder.shape(),
            None => ImageShape::try_from(input)?,
        };
        let p = &file.preprocessing;
        let transform = TransformConfig {
            scale: p.scale,
            mean: p.mean,
            std: p.std,
            ..Default::default()
        };
        let roc = file.calibration.as_ref().map(Roc::from_calibration);
        Ok(Self {
            transform: transform.evaluation(),
            shape,
            roc: roc.transpose()?,
            embedder: net.embedder()?,
            net,
            file,
            encoder,
            fingerprint: OnceLock::new(),
        })
    }

    /// Replaces the model's threshold.
    ///
    /// # Errors
    /// [`VerifierError::Input`] unless it is finite and at least 0.
    pub fn with_threshold(mut self, threshold: f64) -> Result<Self> {
        if !(threshold.is_finite() && threshold >= 0.0) {
            return Err(VerifierError::Input(format!(
                "the threshold is {threshold}: a distance is finite and at least 0"
            )));
        }
        self.file.threshold = Some(threshold);
        Ok(self)
    }

    /// Replaces the model's threshold with that of another operating point, by the pairs that the
    /// model was calibrated on.
    ///
    /// # Errors
    /// [`VerifierError::Calibration`] for a model file of format 1.0, which does not have these pairs,
    /// or if they are too few for the operating point.
    pub fn at(mut self, point: OperatingPoint) -> Result<Self> {
        let calibration = self.file.calibration.as_mut();
        let (Some(roc), Some(calibration)) = (&self.roc, calibration) else {
            return Err(VerifierError::Calibration(
                "the model does not have its held-out pairs' distances, as models of format 1.1 do: \
                 only its own threshold can be used; train again, or give a threshold"
                    .into(),
            ));
        };
        // The model's own threshold was chosen on all pairs; its calibration keeps some of them.
        if calibration.at != point {
            self.file.threshold = Some(point.threshold(roc)?);
            calibration.at = point;
        }
        Ok(self)
    }

    /// Numbers in an embedding, D.
    pub fn dimension(&self) -> usize {
        self.net.config().embedding
    }

    /// The largest distance that counts as the same; `None` before calibration.
    pub fn threshold(&self) -> Option<f64> {
        self.file.threshold
    }

    /// The network itself. [`embed`](Self::embed) has the weights that it had when the verifier was made.
    pub fn net(&self) -> &Network {
        &self.net
    }

    /// What the model file says beside the weights.
    pub fn model(&self) -> &ModelFile {
        &self.file
    }

    /// What makes network input of an image's pixels.
    pub fn transform(&self) -> &Compose {
        &self.transform
    }

    /// The ROC of the pairs that the model was calibrated on; `None` for a model file of format 1.0.
    pub fn calibration(&self) -> Option<&Roc> {
        self.roc.as_ref()
    }

    /// The pretrained encoder whose features are the network's input; `None` where pixels are.
    pub fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_ref()
    }

    /// Channels, height and width of the pictures that the network takes.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Identifies the network: SHA-256 of its weights, configuration and preprocessing, in
    /// hexadecimal. The threshold does not count, nor where a pretrained trunk lies.
    ///
    /// # Errors
    /// [`VerifierError::Model`] if the network's device fails.
    pub fn fingerprint(&self) -> Result<&str> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known);
        }
        let network = ModelFile {
            pretrained: self.file.pretrained.as_ref().map(without_place),
            threshold: None,
            calibration: None,
            head: None,
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
    /// [`VerifierError::Picture`] or, for several files that can't be used,
    /// [`VerifierError::Pictures`], which names each.
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
            _ => Err(VerifierError::Pictures(problems)),
        }
    }

    /// As [`read`](Self::read), from the bytes of a picture file; errors call it `name`.
    ///
    /// # Errors
    /// [`VerifierError::Picture`].
    pub fn decode(&self, bytes: &[u8], name: impl AsRef<Path>) -> Result<Picture> {
        let name = name.as_ref();
        Ok(picture_from_bytes(bytes, name, self.shape, self.framing())?)
    }

    /// How pictures are framed for the network.
    pub fn framing(&self) -> Framing {
        match &self.encoder {
            Some(encoder) => encoder.framing(),
            None => self.file.preprocessing.ink_side.into(),
        }
    }

    /// Compares two pictures.
    ///
    /// # Errors
    /// Those of [`embed`](Self::embed) and [`verdict`](Self::verdict).
    pub fn verify(&self, a: &Picture, b: &Picture) -> Result<Verdict> {
        let embeddings = self.embed(&[a, b])?;
        self.verdict(embeddings.row(0), embeddings.row(1))
    }

    /// Compares two embeddings, (D,) each.
    ///
    /// # Errors
    /// [`VerifierError::Calibration`] if the model has no threshold.
    pub fn verdict(&self, a: &[f32], b: &[f32]) -> Result<Verdict> {
        let threshold = self.threshold().ok_or_else(|| {
            VerifierError::Calibration(
                "the model has no threshold: its run was not finished; choose one with \
                 `with_threshold`"
                    .into(),
            )
        })?;
        Ok(Verdict::new(a, b, threshold, self.roc.as_ref()))
    }

    /// The embedding of each picture, in order; many at once are several times as fast as one by one.
    ///
    /// # Errors
    /// Those of [`input`](Self::input), and [`VerifierError::Model`] if the network's device fails.
    pub fn embed<P: AsRef<Picture>>(&self, pictures: &[P]) -> Result<Embeddings> {
        in_batches(&self.net, &self.embedder, pictures.len(), |batch| {
            self.input(&pictures[batch])
        })
    }

    /// The network's input for pictures, (N, C, H, W): scaled and normalised, or what a pretrained trunk
    /// makes of them.
    ///
    /// # Errors
    /// [`VerifierError::Input`] for a picture that was read for another network, [`VerifierError::Trunk`]
    /// where the trunk fails.
    pub fn input<P: AsRef<Picture>>(&self, pictures: &[P]) -> Result<Vec<f32>> {
        let expected = self.shape.values();
        for (index, picture) in pictures.iter().enumerate() {
            let picture = &picture.as_ref().pixels;
            if picture.len() != expected {
                return Err(VerifierError::Input(format!(
                    "picture {index} has {} values, the network takes {expected}: read it with this \
                     verifier",
                    picture.len()
                )));
            }
        }
        let pixels = pictures.iter().map(|picture| &*picture.as_ref().pixels);
        if let Some(encoder) = &self.encoder {
            let pixels: Vec<&[u8]> = pixels.collect();
            let features = pixels.par_iter().map(|pixels| encoder.features(pixels));
            return Ok(features.collect::<pretrained::Result<Vec<_>>>()?.concat());
        }
        Ok(input_of(self.shape, pixels, &self.transform))
    }
}

fn record(pretrained: &Pretrained) -> Result<Record> {
    let record = serde_json::from_value(pretrained.record.clone());
    record.map_err(|error| {
        let place = "model header: `pretrained`".into();
        let problem = format!("cannot be used: {error}");
        ModelError::Format { place, problem }.into()
    })
}

/// The same, wherever the file lies.
fn without_place(pretrained: &Pretrained) -> Pretrained {
    let mut record = pretrained.record.clone();
    if let Some(record) = record.as_object_mut() {
        record.remove("path");
    }
    Pretrained { record, file: None }
}
