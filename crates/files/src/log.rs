use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use crate::may_fail;

/// A file that grows by whole lines.
#[derive(Debug)]
pub struct Log {
    file: File,
    bytes: u64,
}

impl Log {
    /// Opens the file at its end, and makes it if there is none.
    ///
    /// # Errors
    /// Those of the file system, here and below.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        let bytes = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, bytes })
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends `line`, which has its line end.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        may_fail("append to the log")?;
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Drops all but the first `bytes`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        may_fail("truncate the log")?;
        self.file.set_len(bytes)?;
        self.bytes = self.file.seek(SeekFrom::Start(bytes))?;
        Ok(())
    }

    /// Returns once all that was appended is on the disk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn sync(&self) -> io::Result<()> {
        may_fail("sync the log")?;
        self.file.sync_data()
    }
}
