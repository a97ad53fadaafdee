//! The nearest of many pictures.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use metrics::euclidean;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::Serialize;

use crate::{Embeddings, Result, Verifier, VerifierError};

const KIND: &str = "gallery";
/// Pictures read at once.
const READ: usize = 4096;
const FORMAT_VERSION: &str = "1.0";

/// Embeddings with a name each, to be searched.
///
/// A search compares with every row, so it is exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Gallery {
    names: Vec<String>,
    embeddings: Embeddings,
    /// The network's fingerprint.
    model: String,
    /// What tells whether the picture is still the one embedded; empty if nothing does.
    stamps: Vec<String>,
}

/// A picture of a gallery, as a search finds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its place in the gallery, from 0.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its distance from the query.
    pub distance: f32,
}

impl Gallery {
    /// Takes a name for each embedding, all of `verifier`'s network.
    ///
    /// # Errors
    /// [`VerifierError::Names`] unless there is one for each; [`VerifierError::Rows`] if the
    /// embeddings are of another dimension than the network's.
    pub fn new(verifier: &Verifier, names: Vec<String>, embeddings: Embeddings) -> Result<Self> {
        let stamps = vec![String::new(); names.len()];
        Self::with_stamps(verifier, names, stamps, embeddings)
    }

    /// The pictures in a folder and its sub-folders, under their paths from there on.
    ///
    /// A picture that `known` has with the same size and time of change is taken from it. Files whose
    /// names do not end as pictures' do are left out; links to folders are not followed. Returns the
    /// number of pictures that had to be embedded, too.
    ///
    /// # Errors
    /// [`VerifierError::Folder`] if the folder cannot be read, [`VerifierError::NoPictures`] if it has
    /// none, and those of [`Verifier::read_all`].
    pub fn of_folder(
        verifier: &Verifier,
        folder: &Path,
        known: Option<&Self>,
    ) -> Result<(Self, usize)> {
        let found = pictures_in(folder)?;
        if found.is_empty() {
            return Err(VerifierError::NoPictures {
                path: folder.into(),
            });
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
            return Err(VerifierError::Rows {
                values: embeddings.values().len(),
                dimension: verifier.dimension(),
            });
        }
        if names.len() != embeddings.len() {
            return Err(VerifierError::Names {
                names: names.len(),
                embeddings: embeddings.len(),
            });
        }
        Ok(Self {
            names,
            embeddings,
            model: verifier.fingerprint()?.into(),
            stamps,
        })
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
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

    /// The `k` nearest to `query` (D,), the nearest first and of equally near ones the first; fewer
    /// if the gallery has fewer.
    ///
    /// # Errors
    /// [`VerifierError::Query`] if the query is of another dimension or not finite.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Neighbour>> {
        let dimension = self.embeddings.dimension();
        if query.len() != dimension {
            return Err(VerifierError::Query {
                problem: format!("has {} numbers, the gallery {dimension}", query.len()),
            });
        }
        if let Some(value) = query.iter().find(|value| !value.is_finite()) {
            return Err(VerifierError::Query {
                problem: format!("has the number {value}"),
            });
        }
        // Rows to a task: some microseconds of work.
        const ROWS: usize = 1024;
        let nearer = |a: &(usize, f32), b: &(usize, f32)| -> Ordering {
            a.1.total_cmp(&b.1).then(a.0.cmp(&b.0))
        };
        let mut found: Vec<(usize, f32)> = self
            .embeddings
            .values()
            .par_chunks_exact(dimension)
            .with_min_len(ROWS)
            .map(|row| euclidean(query, row))
            .enumerate()
            .collect();
        if (1..found.len()).contains(&k) {
            found.select_nth_unstable_by(k, nearer);
        }
        found.truncate(k);
        found.sort_unstable_by(nearer);
        let neighbour = |(index, distance)| Neighbour {
            index,
            name: self.names[index].clone(),
            distance,
        };
        Ok(found.into_iter().map(neighbour).collect())
    }

    /// The bytes of a gallery file: safetensors with `embeddings` (N, D) f32; the header has the
    /// names, the model's fingerprint and the format's version.
    ///
    /// # Errors
    /// None that a gallery can cause; safetensors' own are passed on.
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
            .map_err(|error| VerifierError::Gallery {
                path: "in memory".into(),
                problem: format!("cannot be put together: {error}"),
            })
    }

    /// Writes the gallery to a file, whole or not at all, and its folder if need be.
    ///
    /// # Errors
    /// [`VerifierError::File`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let write = || {
            fs::create_dir_all(folder)?;
            let mut builder = tempfile::Builder::new();
            builder.prefix(".writing-");
            // A temporary file is its owner's alone; a gallery is as readable as any new file.
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            let mut file = builder.tempfile_in(folder)?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| VerifierError::File {
            path: path.into(),
            source,
        })
    }

    /// Reads a gallery that `verifier`'s network has made.
    ///
    /// # Errors
    /// [`VerifierError::File`] if it cannot be read, [`VerifierError::Gallery`] if it is no gallery
    /// or damaged, [`VerifierError::OtherModel`] if another network has made it.
    pub fn open(path: impl AsRef<Path>, verifier: &Verifier) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| VerifierError::File {
            path: path.into(),
            source,
        })?;
        let gallery = parse(&bytes).map_err(|problem| VerifierError::Gallery {
            path: path.into(),
            problem,
        })?;
        if gallery.model != verifier.fingerprint()? {
            return Err(VerifierError::OtherModel { path: path.into() });
        }
        Ok(gallery)
    }
}

/// The pictures' paths from `folder` on, sorted, each with its size and time of change.
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
        look().map_err(|source| VerifierError::Folder {
            path: next.clone(),
            source,
        })?;
    }
    found.sort();
    Ok(found)
}

/// A gallery, or what is wrong with the bytes.
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
