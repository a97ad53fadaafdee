//! Pixels of more images than memory may hold, in a file that the system reads as they are needed.

#![expect(unsafe_code, reason = "maps a file into memory")]

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use memmap2::Mmap;

use crate::DataError;

/// A temporary file without a name, written from front to back.
pub(crate) struct PixelFile {
    file: BufWriter<File>,
    bytes: u64,
}

/// The finished file, which disappears with the last clone.
#[derive(Clone)]
pub(crate) struct MappedPixels(Arc<Mmap>);

impl PixelFile {
    pub(crate) fn new() -> Result<Self, DataError> {
        Ok(Self {
            file: BufWriter::new(tempfile::tempfile().map_err(|source| fault(0, source))?),
            bytes: 0,
        })
    }

    pub(crate) fn append(&mut self, pixels: &[u8]) -> Result<(), DataError> {
        self.bytes += pixels.len() as u64;
        self.file
            .write_all(pixels)
            .map_err(|source| fault(self.bytes, source))
    }

    pub(crate) fn finish(self) -> Result<MappedPixels, DataError> {
        let map = || -> io::Result<Mmap> {
            let file = self
                .file
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?;
            // SAFETY: the file has no name, so no other process can open it, and this one drops its
            // only handle here: nothing can write to it or cut it short while it is mapped.
            unsafe { Mmap::map(&file) }
        };
        let map = map().map_err(|source| fault(self.bytes, source))?;
        Ok(MappedPixels(Arc::new(map)))
    }
}

fn fault(bytes: u64, source: io::Error) -> DataError {
    DataError::Temporary {
        attempt: format!("keep the pictures' pixels in a file of {bytes} bytes"),
        source,
    }
}

impl MappedPixels {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for MappedPixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedPixels({} bytes)", self.0.len())
    }
}
