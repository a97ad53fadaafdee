//! `metrics.jsonl`, as a run in training writes it.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::faults;
use crate::run_folder::RunFolder;

/// The file, open at its end.
pub struct MetricsLog {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl MetricsLog {
    /// The run's, made if there is none.
    pub fn open(run: &RunFolder) -> Result<Self> {
        let path = run.path("metrics.jsonl");
        let open = || -> std::io::Result<_> {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            let bytes = file.seek(SeekFrom::End(0))?;
            Ok((file, bytes))
        };
        let (file, bytes) = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path, bytes })
    }

    /// Bytes in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends an object and a line end.
    pub fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(line)?);
        faults::operation("append to the log")
            .and_then(|()| self.file.write_all(line.as_bytes()))
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Drops all but the first `bytes`.
    pub fn truncate(&mut self, bytes: u64) -> Result<()> {
        let mut cut = || -> std::io::Result<_> {
            faults::operation("truncate the log")?;
            self.file.set_len(bytes)?;
            self.file.seek(SeekFrom::Start(bytes))
        };
        self.bytes = cut().with_context(|| format!("cannot shorten {}", self.path.display()))?;
        Ok(())
    }

    /// Has the disk hold all that was appended: a checkpoint counts on it.
    pub fn sync(&self) -> Result<()> {
        faults::operation("sync the log")
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}
