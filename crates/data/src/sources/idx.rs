//! The IDX format, read and checked in one pass.
//!
//! A file is a magic number (0, 0, 8 for unsigned bytes, the number of dimensions), each dimension
//! as a big-endian u32, then the bytes. It may be gzip'd.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::DataError;

/// What [`DataError::Temporary`] says was attempted.
pub(super) const UNPACK: &str = "unpack the data set, which takes 55 MB,";

/// What a file has to hold.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Images or labels.
    pub contents: Contents,
    /// How many of them.
    pub count: u32,
}

/// The two kinds of file of a data set in MNIST's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Images of this many rows and columns.
    Images([u32; 2]),
    /// Labels below this number.
    Labels(u8),
}

impl Contents {
    fn name(self) -> &'static str {
        match self {
            Self::Images(_) => "images",
            Self::Labels(_) => "labels",
        }
    }

    fn magic(self) -> [u8; 4] {
        match self {
            Self::Images(_) => [0, 0, 8, 3],
            Self::Labels(_) => [0, 0, 8, 1],
        }
    }
}

impl Expected {
    /// Bytes before the first image or label.
    pub fn header_bytes(self) -> usize {
        match self.contents {
            Contents::Images(_) => 16,
            Contents::Labels(_) => 8,
        }
    }

    fn body_bytes(self) -> u64 {
        let item = match self.contents {
            Contents::Images([rows, columns]) => u64::from(rows) * u64::from(columns),
            Contents::Labels(_) => 1,
        };
        u64::from(self.count) * item
    }
}

/// Unpacks an IDX file to `sink`, header included, and checks every byte of it on the way.
///
/// Gzip is recognised by its first two bytes, since browsers unpack files and keep the `.gz`. Errors
/// call the file `path`. No more than the expected size and one byte is ever unpacked, so that a gzip
/// bomb costs nothing.
///
/// # Errors
/// [`DataError::Format`] for any difference from `expected` and for damaged gzip;
/// [`DataError::Read`] and [`DataError::Temporary`] where `packed` and `sink` fail.
pub fn unpack(
    path: &Path,
    mut packed: impl BufRead,
    expected: Expected,
    sink: &mut dyn Write,
) -> Result<(), DataError> {
    let start = packed.fill_buf().map_err(DataError::read(path))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        copy(path, &mut MultiGzDecoder::new(packed), expected, sink)
    } else {
        copy(path, &mut packed, expected, sink)
    }
}

fn copy(
    path: &Path,
    source: &mut dyn Read,
    expected: Expected,
    sink: &mut dyn Write,
) -> Result<(), DataError> {
    let total = expected.header_bytes() as u64 + expected.body_bytes();
    let truncated = |found: u64| {
        let problem = format!("is cut short: {found} bytes unpacked of {total}; fetch it again");
        DataError::format(path, problem)
    };
    let mut write = |bytes: &[u8]| sink.write_all(bytes).map_err(DataError::temporary(UNPACK));

    let mut header = vec![0; expected.header_bytes()];
    let filled = fill(path, source, &mut header)?;
    if filled >= 4 {
        check_magic(path, expected.contents, &header[..4])?;
    }
    if filled < header.len() {
        return Err(truncated(filled as u64));
    }
    check_sizes(path, expected, &header[4..])?;
    write(&header)?;

    let mut chunk = vec![0; 64 * 1024];
    let mut position = 0;
    while position < expected.body_bytes() {
        let left = expected.body_bytes() - position;
        let wanted = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let filled = fill(path, source, &mut chunk[..wanted])?;
        let bytes = &chunk[..filled];
        if let Contents::Labels(classes) = expected.contents
            && let Some(at) = bytes.iter().position(|&label| label >= classes)
        {
            let problem = format!(
                "has the label {} at position {}; labels go from 0 to {}",
                bytes[at],
                position + at as u64,
                classes - 1
            );
            return Err(DataError::format(path, problem));
        }
        write(bytes)?;
        position += filled as u64;
        if filled < wanted {
            return Err(truncated(expected.header_bytes() as u64 + position));
        }
    }
    // This read also makes gzip check its checksum.
    if fill(path, source, &mut [0])? > 0 {
        let problem =
            format!("goes on after the {total} bytes that its header announces; fetch it again");
        return Err(DataError::format(path, problem));
    }
    Ok(())
}

/// Reads until `buffer` is full or the source ends; the number of bytes read.
fn fill(path: &Path, source: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, DataError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(path, error)),
        }
    }
    Ok(filled)
}

/// A plain file's `read` reports none of these three kinds, gzip's nothing else of its own.
fn read_error(path: &Path, source: io::Error) -> DataError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    if !matches!(source.kind(), InvalidData | InvalidInput | UnexpectedEof) {
        return DataError::read(path)(source);
    }
    DataError::Format {
        path: path.into(),
        problem: "is damaged: its gzip stream cannot be unpacked; fetch it again".into(),
        source: Some(source),
    }
}

fn check_magic(path: &Path, expected: Contents, found: &[u8]) -> Result<(), DataError> {
    let magic = expected.magic();
    if found == magic {
        return Ok(());
    }
    let kinds = [Contents::Images([0; 2]), Contents::Labels(0)];
    let problem = match kinds.into_iter().find(|kind| found == kind.magic()) {
        Some(other) => format!(
            "holds {}, not {}: the files of images and labels seem to be swapped",
            other.name(),
            expected.name()
        ),
        None => format!(
            "starts with the bytes {found:02x?}; this IDX file has to start with {magic:02x?} (1f 8b if gzip'd)"
        ),
    };
    Err(DataError::format(path, problem))
}

fn check_sizes(path: &Path, expected: Expected, sizes: &[u8]) -> Result<(), DataError> {
    let sizes: Vec<u32> = sizes
        .chunks_exact(4)
        .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    // Dimensions before the count: they tell another data set from another half of this one.
    if let Contents::Images([rows, columns]) = expected.contents
        && sizes[1..] != [rows, columns]
    {
        let problem = format!(
            "holds images of {}x{} pixels; MNIST's format requires {rows}x{columns}",
            sizes[1], sizes[2]
        );
        return Err(DataError::format(path, problem));
    }
    if sizes[0] != expected.count {
        let problem = format!(
            "holds {} {}; MNIST's format requires {} here (60000 for training, 10000 for the test: are the two swapped?)",
            sizes[0],
            expected.contents.name(),
            expected.count
        );
        return Err(DataError::format(path, problem));
    }
    Ok(())
}
