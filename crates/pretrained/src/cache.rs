//! Features that were computed before, in a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use data::LabelledImages;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use sha2::{Digest, Sha256};

use crate::{Encoder, PretrainedError, Result};

/// Pictures that are encoded before the progress is told.
const AT_ONCE: usize = 64;
/// Between two times that the file is written while features are computed.
const SAVED_EVERY: Duration = Duration::from_secs(60);

/// SHA-256 of a framed picture's pixels.
type Key = [u8; 32];

/// Features of pictures by one encoder, kept in a file between runs of the program: a safetensors file with
/// `pictures` (N, 32), the SHA-256 of each framed picture's pixels, and `features` (N, F).
///
/// The file's name is made of the trunk's hash and the preprocessing, and what is not read, since it is
/// damaged or was never there, is computed again.
#[derive(Debug)]
pub struct Cache {
    /// `None` where nothing is to be kept.
    path: Option<PathBuf>,
    known: HashMap<Key, Vec<f32>>,
    /// How many features were computed and not known.
    computed: usize,
    /// Why the file could not be written, if it could not.
    problem: Option<PretrainedError>,
}

impl Cache {
    /// Features of `encoder`, kept in a file in `folder`.
    pub fn open(folder: Option<&Path>, encoder: &Encoder) -> Self {
        let fingerprint = &encoder.fingerprint()[..16];
        let path = folder.map(|folder| folder.join(format!("{fingerprint}.safetensors")));
        let read = path
            .as_deref()
            .and_then(|path| read(path, encoder.dimension()));
        Self {
            path,
            known: read.unwrap_or_default(),
            computed: 0,
            problem: None,
        }
    }

    /// How many features had to be computed so far.
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// The file, where features are kept.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Why the file could not be written, if it could not. The features are right all the same.
    pub fn problem(&self) -> Option<&PretrainedError> {
        self.problem.as_ref()
    }

    /// The features (N, F) of all images, those that are not known computed.
    pub(crate) fn features(
        &mut self,
        encoder: &Encoder,
        images: &LabelledImages,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Vec<f32>> {
        let key = |i| Key::from(Sha256::digest(images.image(i)));
        let keys: Vec<Key> = (0..images.len()).into_par_iter().map(key).collect();
        let mut unknown: HashMap<Key, usize> = HashMap::new();
        for (i, key) in keys.iter().enumerate() {
            if !self.known.contains_key(key) {
                unknown.entry(*key).or_insert(i);
            }
        }
        let mut unknown: Vec<(Key, usize)> = unknown.into_iter().collect();
        unknown.sort_unstable_by_key(|&(_, image)| image);
        let mut saved = Instant::now();
        progress(0, unknown.len());
        for (chunk, some) in unknown.chunks(AT_ONCE).enumerate() {
            let encode = |&(key, i): &(Key, usize)| Ok((key, encoder.features(images.image(i))?));
            let computed: Result<Vec<_>> = some.par_iter().map(encode).collect();
            self.known.extend(computed?);
            self.computed += some.len();
            progress(chunk * AT_ONCE + some.len(), unknown.len());
            if saved.elapsed() > SAVED_EVERY {
                self.save(encoder);
                saved = Instant::now();
            }
        }
        if !unknown.is_empty() {
            self.save(encoder);
        }
        let row = |key: &Key| self.known.get(key).into_iter().flatten().copied();
        Ok(keys.iter().flat_map(row).collect())
    }

    /// Writes the file, with what another program may have added.
    fn save(&mut self, encoder: &Encoder) {
        let Some(path) = &self.path else { return };
        for (key, row) in read(path, encoder.dimension()).unwrap_or_default() {
            self.known.entry(key).or_insert(row);
        }
        let mut rows: Vec<(&Key, &Vec<f32>)> = self.known.iter().collect();
        rows.sort_unstable_by_key(|(key, _)| **key);
        let keys: Vec<u8> = rows.iter().flat_map(|(key, _)| **key).collect();
        let values = rows.iter().flat_map(|(_, row)| row.iter());
        let values: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
        let header = HashMap::from([("kind".to_string(), "features".to_string())]);
        let bytes = || {
            let keys = TensorView::new(Dtype::U8, vec![rows.len(), 32], &keys)?;
            let shape = vec![rows.len(), encoder.dimension()];
            let values = TensorView::new(Dtype::F32, shape, &values)?;
            serialize([("pictures", keys), ("features", values)], Some(header))
        };
        let written = bytes()
            .map_err(std::io::Error::other)
            .and_then(|bytes| files::write_whole(path, &bytes));
        self.problem = written
            .map_err(PretrainedError::file("keep features in", path))
            .err();
    }
}

/// The features in a file; `None` if there are none that can be used.
fn read(path: &Path, dimension: usize) -> Option<HashMap<Key, Vec<f32>>> {
    let bytes = std::fs::read(path).ok()?;
    let file = SafeTensors::deserialize(&bytes).ok()?;
    let (keys, rows) = (file.tensor("pictures").ok()?, file.tensor("features").ok()?);
    let count = keys.shape().first()?;
    let fits = keys.dtype() == Dtype::U8
        && keys.shape() == [*count, 32]
        && rows.dtype() == Dtype::F32
        && rows.shape() == [*count, dimension];
    if !fits || dimension == 0 {
        return None;
    }
    let keys = keys.data().as_chunks().0.iter();
    let row = |bytes: &[u8]| -> Vec<f32> {
        let values = bytes.as_chunks().0.iter();
        values.map(|value| f32::from_le_bytes(*value)).collect()
    };
    let rows = rows.data().chunks_exact(4 * dimension).map(row);
    let finite = |row: &Vec<f32>| row.iter().all(|value| value.is_finite());
    let known = keys.copied().zip(rows);
    Some(known.filter(|(_, row)| finite(row)).collect())
}
