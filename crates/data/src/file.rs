//! Opening what a user names.

use std::fs::File;
use std::path::Path;

use crate::DataError;

/// Opens a regular file. A pipe or a device is refused: reading one could wait, or go on, for ever.
pub(crate) fn open(path: &Path) -> Result<File, DataError> {
    let read_error = |source| DataError::Read {
        path: path.into(),
        source,
    };
    if !path.metadata().map_err(read_error)?.is_file() {
        return Err(DataError::NotAFile { path: path.into() });
    }
    File::open(path).map_err(read_error)
}
