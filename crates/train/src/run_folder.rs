//! The folder of a run, and how anything gets into it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use model::{LeNet, ModelFile, weights};

use crate::config::RunConfig;
use crate::usage::usage;

/// A run folder that exists.
#[derive(Clone, Debug)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// Makes a new one for `config`: `path`, which must not hold anything yet, or the next free
    /// `runs/NAME-NUMBER`.
    pub fn create(path: Option<&Path>, name: &str, config: &RunConfig) -> Result<Self> {
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
        folder.write("config.toml", config.to_toml()?.as_bytes())?;
        Ok(folder)
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
    pub fn model(&self, device: &Device) -> Result<(LeNet, ModelFile)> {
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
        write_whole(&self.path(name), contents)
    }

    /// `metrics.jsonl`, to append to.
    pub fn metrics(&self) -> Result<File> {
        let path = self.path("metrics.jsonl");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Writes a file whole or not at all, and its folder if need be.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".writing-")
            .tempfile_in(folder)?;
        file.write_all(contents)?;
        // A temporary file is its owner's alone; a result is as readable as any new file.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.as_file()
                .set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        file.as_file().sync_all()?;
        file.persist(path)?;
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn occupied(path: &Path) -> Result<bool> {
    let mut entries =
        fs::read_dir(path).with_context(|| format!("cannot look into {}", path.display()))?;
    Ok(entries.next().is_some())
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
