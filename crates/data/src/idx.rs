//! The IDX format, read and checked in one pass.
//!
//! A file is a magic number (0, 0, 8 for unsigned bytes, the number of dimensions), each dimension
//! as a big-endian u32, then the bytes.

use std::io::{self, Read, Write};
use std::path::Path;

use crate::DataError;

/// What a file has to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub contents: Contents,
    pub count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Images of this many rows and columns.
    Images([u32; 2]),
    /// Labels below this number.
    Labels(u8),
}

impl Contents {
    pub(crate) fn name(self) -> &'static str {
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
    pub(crate) fn header_bytes(self) -> usize {
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

/// Copies an IDX file to `sink`, header included, after checking every byte of it.
///
/// `source` is the file without gzip and `path` its name in errors. No more than the expected size
/// and one byte is ever read, so that a gzip bomb costs nothing.
///
/// # Errors
/// Any difference from `expected`; a fault of `source` or `sink`.
pub(crate) fn copy(
    path: &Path,
    source: &mut dyn Read,
    expected: Expected,
    sink: &mut dyn Write,
) -> Result<(), DataError> {
    let total = expected.header_bytes() as u64 + expected.body_bytes();
    let truncated = |found: u64| DataError::Truncated {
        path: path.into(),
        found,
        expected: total,
    };

    let mut header = vec![0; expected.header_bytes()];
    let filled = fill(path, source, &mut header)?;
    if filled >= 4 {
        check_magic(path, expected.contents, &header[..4])?;
    }
    if filled < header.len() {
        return Err(truncated(filled as u64));
    }
    check_sizes(path, expected, &header[4..])?;
    let write = |sink: &mut dyn Write, bytes: &[u8]| {
        sink.write_all(bytes)
            .map_err(|source| DataError::Unpack { source })
    };
    write(sink, &header)?;

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
            return Err(DataError::LabelOutOfRange {
                path: path.into(),
                position: position + at as u64,
                found: bytes[at],
                highest: classes - 1,
            });
        }
        write(sink, bytes)?;
        position += filled as u64;
        if filled < wanted {
            return Err(truncated(expected.header_bytes() as u64 + position));
        }
    }
    // This read also makes gzip check its checksum.
    if fill(path, source, &mut [0])? > 0 {
        return Err(DataError::TrailingBytes {
            path: path.into(),
            expected: total,
        });
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
    let path = path.into();
    match source.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            DataError::Gzip { path, source }
        }
        _ => DataError::Read { path, source },
    }
}

fn check_magic(path: &Path, expected: Contents, found: &[u8]) -> Result<(), DataError> {
    let expected_magic = expected.magic();
    if found == expected_magic {
        return Ok(());
    }
    let path = path.into();
    Err(
        match [Contents::Images([0; 2]), Contents::Labels(0)]
            .into_iter()
            .find(|contents| found == contents.magic())
        {
            Some(other) => DataError::WrongContents {
                path,
                found: other.name(),
                expected: expected.name(),
            },
            None => DataError::WrongMagic {
                path,
                found: [found[0], found[1], found[2], found[3]],
                expected: expected_magic,
            },
        },
    )
}

fn check_sizes(path: &Path, expected: Expected, sizes: &[u8]) -> Result<(), DataError> {
    let sizes: Vec<u32> = sizes
        .chunks_exact(4)
        .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    // Dimensions before the count: they tell another data set from another half of this one.
    if let Contents::Images(expected) = expected.contents
        && sizes[1..] != expected
    {
        return Err(DataError::WrongSize {
            path: path.into(),
            found: [sizes[1], sizes[2]],
            expected,
        });
    }
    if sizes[0] != expected.count {
        return Err(DataError::WrongCount {
            path: path.into(),
            contents: expected.contents.name(),
            found: sizes[0],
            expected: expected.count,
        });
    }
    Ok(())
}
