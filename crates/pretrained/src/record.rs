use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Encoder, Preprocessing, PretrainedError, Result};

/// How far the embedding of the probe picture may be from what it was, as a share of its length: another
/// processor adds up in another order, and no other trunk comes as near.
const TOLERANCE: f32 = 1e-3;

/// What a model file says of its trunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The trunk's file, without its folder.
    pub name: String,
    /// Bytes of the file.
    pub length: u64,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
    /// Where it was in training; empty for one that has no file.
    pub path: PathBuf,
    /// Which of several outputs are the features; empty for the only one.
    pub output: String,
    /// What pictures go through before it.
    pub preprocessing: Preprocessing,
    /// The embedding of [`Encoder::probe`], by which a network that works otherwise than it did is told.
    pub probe: Vec<f32>,
}

impl Record {
    /// Opens the trunk: `embedded`, the bytes of its file, if there are any; else the file of that name in
    /// `folder`, beside the model; else the file where it was in training.
    ///
    /// # Errors
    /// [`PretrainedError::Trunk`] where there is no such file or it is another, and those of
    /// [`Encoder::new`].
    pub fn open(&self, folder: &Path, embedded: Option<&[u8]>) -> Result<Encoder> {
        self.preprocessing.clone().check("the model file")?;
        let open = |onnx: &[u8], path: &Path| {
            let name = path.display().to_string();
            let encoder = Encoder::new(&name, onnx, self.preprocessing.clone(), &self.output)?;
            self.check(encoder.sha256(), onnx.len() as u64, &name)?;
            Ok(encoder)
        };
        if let Some(onnx) = embedded {
            return open(onnx, Path::new(&self.name));
        }
        let beside = folder.join(&self.name);
        let places = [&beside, &self.path];
        let Some(path) = places.into_iter().find(|path| path.is_file()) else {
            let problem = format!(
                "is missing: it is neither {} nor {}; put the file ({} bytes, SHA-256 {}) beside the model",
                beside.display(),
                self.path.display(),
                self.length,
                self.sha256
            );
            return Err(PretrainedError::trunk(&self.name, problem));
        };
        let onnx = std::fs::read(path).map_err(PretrainedError::file("read", path))?;
        open(&onnx, path)
    }

    /// Whether a file is the one that is meant.
    fn check(&self, sha256: &str, length: u64, path: &str) -> Result<()> {
        if sha256 == self.sha256 {
            return Ok(());
        }
        let problem = format!(
            "is another file than the model's: {length} bytes with SHA-256 {sha256}, and it has to be {} \
             with {}",
            self.length, self.sha256
        );
        Err(PretrainedError::trunk(path, problem))
    }

    /// Whether the probe picture's embedding is what it was.
    ///
    /// # Errors
    /// [`PretrainedError::Trunk`] if it is not.
    pub fn check_probe(&self, embedding: &[f32]) -> Result<()> {
        let length = |values: &mut dyn Iterator<Item = f32>| {
            let squares = values.map(|value| f64::from(value).powi(2));
            squares.sum::<f64>().sqrt() as f32
        };
        let pairs = self.probe.iter().zip(embedding);
        let apart = length(&mut pairs.map(|(was, is)| was - is));
        let whole = length(&mut self.probe.iter().copied());
        // Written so that NaN fails.
        if self.probe.len() == embedding.len() && apart <= TOLERANCE * whole {
            return Ok(());
        }
        let problem = format!(
            "and the network's layers do not give what they gave when the model was saved: the embedding of \
             the probe picture is off by {apart}, of a length of {whole}; the model file or the program is \
             not what it was"
        );
        Err(PretrainedError::trunk(&self.name, problem))
    }
}
