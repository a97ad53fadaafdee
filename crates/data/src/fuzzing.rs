//! The reader as `fuzz/` calls it, without a file system between.

use std::io::Cursor;
use std::path::Path;

use crate::mnist_folder::unpack_from;
use crate::{DataError, idx};

/// Reads an IDX file, gzip'd or not, of `count` images of 2×3 pixels or, without, of labels below 10.
///
/// # Errors
/// As [`mnist_folder`](crate::mnist_folder).
pub fn idx(bytes: &[u8], images: bool, count: u32) -> Result<Vec<u8>, DataError> {
    let contents = match images {
        true => idx::Contents::Images([2, 3]),
        false => idx::Contents::Labels(10),
    };
    let mut sink = Vec::new();
    let expected = idx::Expected { contents, count };
    unpack_from(Path::new("fuzzed"), Cursor::new(bytes), expected, &mut sink)?;
    Ok(sink)
}
