use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use metrics::{Embeddings, Neighbour};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use crate::{Result, Verifier, VerifierError};

const KIND: &str = "gallery";
/// Pictures read at once.
const READ: usize = 4096;
const FORMAT_VERSION: &str = "1.0";

/// Pictures to search: a name and an embedding each.
///
/// A search compares with every embedding, so it is exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Gallery {
    names: Vec<String>,
    embeddings: Embeddings,
    /// The network's fingerprint.
    model: String,
    /// Size and time of change of each picture when it was embedded; empty if not known.
    stamps: Vec<String>,
}

impl Gallery {
    /// Takes the embeddings (N, D) of `verifier`'s network and a name for each.
    ///
    /// # Errors
    /// [`VerifierError::Input`] unless there is a name for each, and D is the network's.
    pub fn new(verifier: &Verifier, names: Vec<String>, embeddings: Embeddings) -> Result<Self> {
        let stamps = vec![String::new(); names.len()];
        Self::with_stamps(verifier, names, stamps, embeddings)
    }

    /// The pictures in a folder and its sub-folders, each named by its path within the folder.
    ///
    /// A picture that `known` has with the same size and time of change is taken from there. Files
    /// whose extension is no picture's are skipped, and links to folders are not followed. Also
    /// returns the number of pictures that had to be embedded.
    ///
    /// # Errors
    /// [`VerifierError::File`] if the folder can't be read, [`VerifierError::Gallery`] if it has no
    /// pictures, and those of [`Verifier::read_all`].
    pub fn of_folder(
        verifier: &Verifier,
        folder: &Path,
        known: Option<&Self>,
    ) -> Result<(Self, usize)> {
        let found = pictures_in(folder)?;
        if found.is_empty() {
            return Err(wrong(folder, "has no pictures in it"));
        }
        let known = known.filter(|known| verifier.fingerprint().is_ok_and(|f| f == known.model));
        let known: HashMap<_, _> = known
            .into_iter()
            .flat_map(|known| {
                let entries = known.names.iter().zip(&known.stamps);
                entries.zip(known.embeddings.rows())
            })
            .collect();
        let row = |(name, stamp)| known.get(&(name, stamp)).copied();
        let new: Vec<_> = found
            .iter()
            .filter(|(name, stamp)| row((name, stamp)).is_none())
            .map(|(name, _)| folder.join(name))
            .collect();
        let mut embedded = Vec::with_capacity(new.len() * verifier.dimension());
        // Not all pictures at once: those of a large network take some KB each.
        for paths in new.chunks(READ) {
            let embeddings = verifier.embed(&verifier.read_all(paths)?)?;
            embedded.extend_from_slice(embeddings.values());
        }
        let mut embedded = embedded.chunks_exact(verifier.dimension());
        let mut values = Vec::with_capacity(found.len() * verifier.dimension());
        for (name, stamp) in &found {
            let known = row((name, stamp)).or_else(|| embedded.next());
            values.extend_from_slice(known.unwrap_or_default());
        }
        let (names, stamps) = found.into_iter().unzip();
        let embeddings = Embeddings::new(values, verifier.dimension())?;
        let gallery = Self::with_stamps(verifier, names, stamps, embeddings)?;
        Ok((gallery, new.len()))
    }

    fn with_stamps(
        verifier: &Verifier,
        names: Vec<String>,
        stamps: Vec<String>,
        embeddings: Embeddings,
    ) -> Result<Self> {
        if embeddings.dimension() != verifier.dimension() {
            return Err(VerifierError::Input(format!(
                "embeddings of {} numbers, the network's have {}",
                embeddings.dimension(),
                verifier.dimension()
            )));
        }
        if names.len() != embeddings.len() {
            return Err(VerifierError::Input(format!(
                "{} names for {} embeddings: give one for each",
                names.len(),
                embeddings.len()
            )));
        }
        Ok(Self {
            names,
            embeddings,
            model: verifier.fingerprint()?.into(),
            stamps,
        })
    }

    /// Number of pictures, N.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Their embeddings, in the same order.
    pub fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    /// The names of the `k` pictures nearest to `probe` (D,), as [`Embeddings::nearest`] ranks them,
    /// with their places in the gallery and distances.
    ///
    /// # Errors
    /// [`VerifierError::Input`] if the probe has another dimension or a number that is not finite.
    pub fn search(&self, probe: &[f32], k: usize) -> Result<Vec<(&str, Neighbour)>> {
        let found = self.embeddings.nearest(probe, k)?;
        let named = |found: Neighbour| (self.names[found.index].as_str(), found);
        Ok(found.into_iter().map(named).collect())
    }

    /// The bytes of a gallery file: safetensors with `embeddings` (N, D) f32; the header has the
    /// names, the model's fingerprint and the format's version.
    ///
    /// # Errors
    /// [`VerifierError::Gallery`] if safetensors refuses to write it, which no gallery is known to cause.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let json = |strings: &[String]| serde_json::to_string(strings).unwrap_or_default();
        let data: Vec<u8> = self
            .embeddings
            .values()
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let shape = vec![self.len(), self.embeddings.dimension()];
        let header = HashMap::from([
            ("kind".into(), KIND.into()),
            ("format_version".into(), FORMAT_VERSION.into()),
            ("model".into(), self.model.clone()),
            ("names".into(), json(&self.names)),
            ("stamps".into(), json(&self.stamps)),
        ]);
        TensorView::new(Dtype::F32, shape, &data)
            .and_then(|view| serialize([("embeddings", view)], Some(header)))
            .map_err(|error| wrong("in memory", format!("cannot be put together: {error}")))
    }

    /// Writes the gallery to a file, whole or not at all, and its folder if need be.
    ///
    /// # Errors
    /// [`VerifierError::File`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        files::write_whole(path, &bytes).map_err(failed("write the gallery", path))
    }

    /// Reads a gallery made with `verifier`'s network.
    ///
    /// # Errors
    /// [`VerifierError::File`] if it can't be read, [`VerifierError::Gallery`] if it is no gallery, is
    /// damaged or was made with another network.
    pub fn open(path: impl AsRef<Path>, verifier: &Verifier) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(failed("read the gallery", path))?;
        let gallery = parse(&bytes).map_err(|problem| wrong(path, problem))?;
        if gallery.model != verifier.fingerprint()? {
            let problem = "was made with another model: delete it, or name another file";
            return Err(wrong(path, problem));
        }
        Ok(gallery)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VerifierError {
    let path = path.into();
    move |source| VerifierError::File {
        action,
        path,
        source,
    }
}

fn wrong(path: impl AsRef<Path>, problem: impl Into<String>) -> VerifierError {
    VerifierError::Gallery {
        path: path.as_ref().into(),
        problem: problem.into(),
    }
}

/// The pictures' paths within `folder`, sorted, each with its size and time of change.
fn pictures_in(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        let mut look = || -> io::Result<()> {
            for entry in fs::read_dir(&next)? {
                let entry = entry?;
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                } else if data::is_picture_name(&path) {
                    let about = fs::metadata(&path)?;
                    let changed = about.modified()?.duration_since(UNIX_EPOCH);
                    let changed = changed.unwrap_or_default().as_nanos();
                    let name = path.strip_prefix(folder).unwrap_or(&path);
                    let name = name.to_str().ok_or_else(|| {
                        let problem = format!("{} has a name that is not UTF-8", path.display());
                        io::Error::new(io::ErrorKind::InvalidData, problem)
                    })?;
                    found.push((name.to_string(), format!("{} {changed}", about.len())));
                }
            }
            Ok(())
        };
        look().map_err(failed("look into", &next))?;
    }
    found.sort();
    Ok(found)
}

/// The gallery in a file's bytes, or what is wrong with them.
fn parse(bytes: &[u8]) -> std::result::Result<Gallery, String> {
    let damaged = |error| format!("is damaged or no gallery: {error}");
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let header = metadata.metadata().clone().unwrap_or_default();
    let entry = |key: &str| {
        header
            .get(key)
            .ok_or_else(|| format!("has no `{key}` in its header"))
    };
    if header.get("kind").map(String::as_str) != Some(KIND) {
        return Err("is a safetensors file, but no gallery".into());
    }
    let version = entry("format_version")?;
    if version.split('.').next() != Some("1") {
        return Err(format!(
            "has format {version}; this program reads {FORMAT_VERSION}"
        ));
    }
    let strings = |key: &str| -> std::result::Result<Vec<String>, String> {
        serde_json::from_str(entry(key)?).map_err(|error| format!("has wrong `{key}`: {error}"))
    };
    let (names, stamps) = (strings("names")?, strings("stamps")?);
    let view = file.tensor("embeddings").map_err(damaged)?;
    let &[rows, dimension] = view.shape() else {
        return Err(format!("has embeddings of shape {:?}", view.shape()));
    };
    if view.dtype() != Dtype::F32 || rows != names.len() || rows != stamps.len() {
        return Err(format!(
            "has {rows} embeddings of {:?} for {} names",
            view.dtype(),
            names.len()
        ));
    }
    let values = view.data().as_chunks().0.iter();
    let values: Vec<f32> = values.map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if let Some(place) = values.iter().position(|value| !value.is_finite()) {
        return Err(format!("has the number {} at place {place}", values[place]));
    }
    Ok(Gallery {
        names,
        embeddings: Embeddings::new(values, dimension).map_err(|error| error.to_string())?,
        model: entry("model")?.clone(),
        stamps,
    })
}
