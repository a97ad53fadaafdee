//! The folder of a run, and how anything gets into it.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data::Manifest;
use serde::Serialize;

use crate::settings::RunConfig;
use crate::terminal::usage;

/// The file that a run in training holds a lock on. The system lets go of it when the program ends,
/// however it does.
const LOCK: &str = ".lock";

/// The network that a finished run leaves.
pub const MODEL: &str = "model.safetensors";

/// The images of the run, each with what it is used for.
const MANIFEST: &str = "data.csv";

/// A run folder that exists.
#[derive(Clone, Debug)]
pub struct RunFolder(PathBuf);

/// While this lives, no other program trains in the folder.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl RunFolder {
    /// Makes a new one for `config`: `path`, which must not hold anything yet, or the next free
    /// `runs/NAME-NUMBER`.
    pub fn create(path: Option<&Path>, name: &str, config: &RunConfig) -> Result<(Self, Lock)> {
        let path = match path {
            Some(path) => {
                fs::create_dir_all(path)
                    .with_context(|| format!("cannot make the run folder {}", path.display()))?;
                if occupied(path)? {
                    return Err(usage(format!(
                        "the run folder {} is not empty: name another with --out, or go on with \
                         `train fit --resume {}`",
                        path.display(),
                        path.display()
                    )));
                }
                path.to_path_buf()
            }
            None => {
                fs::create_dir_all("runs")
                    .context("cannot make the folder runs; name another with --out")?;
                next_free(name)?
            }
        };
        let folder = Self(path);
        let lock = folder.lock()?;
        folder.write("config.toml", config.to_toml()?.as_bytes())?;
        Ok((folder, lock))
    }

    /// Takes the folder for training in, and clears away what a killed program was writing.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path(LOCK);
        let file = files::lock(&path).map_err(|error| match error {
            TryLockError::WouldBlock => usage(format!(
                "{} is being trained by another program; wait for it or stop it",
                self.display()
            )),
            TryLockError::Error(error) => {
                anyhow::Error::new(error).context(format!("cannot lock {}", path.display()))
            }
        })?;
        for folder in ["", "checkpoints", "report"].map(|name| self.path(name)) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if files::is_unfinished(&entry.file_name()) {
                    let path = entry.path();
                    fs::remove_file(&path)
                        .with_context(|| format!("cannot remove {}", path.display()))?;
                }
            }
        }
        Ok(Lock { _file: file })
    }

    /// Opens one that a run has written.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = Self(path.to_path_buf());
        if !folder.path("config.toml").is_file() {
            return Err(usage(format!(
                "{} is not a run folder: it has no config.toml",
                path.display()
            )));
        }
        Ok(folder)
    }

    /// The one that a model is of, given the folder or the model's file in it.
    pub fn of_model(path: &Path) -> Option<Self> {
        if path.as_os_str().is_empty() {
            return None;
        }
        let folder = match path.parent() {
            _ if path.is_dir() => path,
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Self::open(folder).ok()
    }

    /// The model's file, given the run folder or the file itself.
    pub fn model_file(path: &Path) -> PathBuf {
        match path.is_dir() {
            true => path.join(MODEL),
            false => path.to_path_buf(),
        }
    }

    /// The images of a run and what they were used for, if there is a run that has recorded them.
    pub fn manifest_of(run: Option<Self>) -> Result<Option<Manifest>> {
        Ok(run.map(|run| run.manifest()).transpose()?.flatten())
    }

    /// The one whose `config.toml` this is.
    pub fn of_config(path: &Path) -> Option<Self> {
        let folder = path.parent()?;
        Self::open(folder)
            .ok()
            .filter(|run| run.path("config.toml") == path)
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The folder itself, as a person writes it.
    pub fn display(&self) -> std::path::Display<'_> {
        self.0.display()
    }

    /// Its configuration.
    pub fn config(&self) -> Result<RunConfig> {
        RunConfig::read(&self.path("config.toml"))
    }

    /// Its images and what they were used for; `None` for a run that has not recorded them.
    pub fn manifest(&self) -> Result<Option<Manifest>> {
        let path = self.path(MANIFEST);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let manifest = Manifest::from_csv(&text);
        Ok(Some(manifest.with_context(|| {
            format!("{} does not list the run's images", path.display())
        })?))
    }

    /// Records its images and what they are used for.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.write(MANIFEST, &manifest.to_csv()?)
    }

    /// Writes a file whole or not at all: a reader, or whoever starts again after a power cut,
    /// finds the old one or the new one.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        let written = files::write_whole_within(&self.0, Path::new(name), contents);
        written.with_context(|| {
            if self.0.is_dir() {
                format!("cannot write {}", self.path(name).display())
            } else {
                format!(
                    "the run folder {} is gone: it was removed or renamed while the run trained",
                    self.display()
                )
            }
        })
    }

    /// Adds an object to a file of lines, whole or not at all.
    pub fn append(&self, name: &str, line: &impl Serialize) -> Result<()> {
        let path = self.path(name);
        let before = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let line = serde_json::to_string(line)?;
        self.write(name, format!("{before}{line}\n").as_bytes())
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        files::remove(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

fn occupied(path: &Path) -> Result<bool> {
    let entries =
        fs::read_dir(path).with_context(|| format!("cannot look into {}", path.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        // All that a program leaves that is killed before it has written config.toml.
        if name != LOCK && !files::is_unfinished(&name) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn next_free(name: &str) -> Result<PathBuf> {
    for number in 1u32.. {
        let path = Path::new("runs").join(format!("{name}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                let what = format!("cannot make the run folder {}", path.display());
                return Err(error).context(what);
            }
        }
    }
    anyhow::bail!("there is no free number left under runs/{name}-")
}

/// Writes a file whole or not at all, wherever the user wants it.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<()> {
    files::write_whole(path, contents).with_context(|| format!("cannot write {}", path.display()))
}
