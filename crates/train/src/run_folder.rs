//! The folder of a run, and how anything gets into it.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use model::{ModelFile, Network, weights};

use crate::config::RunConfig;
use crate::faults;
use crate::usage::usage;

/// The file that a run in training holds a lock on. The system lets go of it when the program ends,
/// however it does.
const LOCK: &str = ".lock";

/// How the name of a file that is not yet whole starts.
const UNFINISHED: &str = ".writing-";

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
        let file = faults::operation("make the lock")
            .and_then(|()| File::create(&path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(usage(format!(
                    "{} is being trained by another program; wait for it or stop it",
                    self.display()
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        for folder in ["", "checkpoints", "report"].map(|name| self.path(name)) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if is_unfinished(&entry.file_name()) {
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

    /// Its trained network, on `device`.
    pub fn model(&self, device: &Device) -> Result<(Network, ModelFile)> {
        let path = self.path("model.safetensors");
        if !path.is_file() {
            return Err(usage(format!(
                "{} has no trained model yet: finish the run with `train fit --resume {}`",
                self.display(),
                self.display()
            )));
        }
        Ok(weights::open(&path, device)?)
    }

    /// Writes a file whole or not at all: a reader, or whoever starts again after a power cut,
    /// finds the old one or the new one.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        // Else it would be made anew, with nothing but this file in it.
        if !self.0.is_dir() {
            bail!(
                "the run folder {} is gone: it was removed or renamed while the run trained",
                self.display()
            );
        }
        write_whole(&self.path(name), contents)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        faults::operation("remove")
            .and_then(|()| fs::remove_file(&path))
            .with_context(|| format!("cannot remove {}", path.display()))
    }
}

/// Writes a file whole or not at all, and its folder if need be.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        faults::operation("make the folder")?;
        fs::create_dir_all(folder)?;
        faults::operation("make the file")?;
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(folder)?;
        faults::operation("write")?;
        file.write_all(contents)?;
        // A temporary file is its owner's alone; a result is as readable as any new file.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.as_file()
                .set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        faults::operation("sync")?;
        file.as_file().sync_all()?;
        faults::operation("rename")?;
        file.persist(path)?;
        #[cfg(unix)]
        {
            faults::operation("sync the folder")?;
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn occupied(path: &Path) -> Result<bool> {
    let entries =
        fs::read_dir(path).with_context(|| format!("cannot look into {}", path.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        // All that a program leaves that is killed before it has written config.toml.
        if name != LOCK && !is_unfinished(&name) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_unfinished(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
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
