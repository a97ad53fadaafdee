//! Opening the files that a user names.

use std::fs::File;
use std::path::Path;

use crate::DataError;

/// Opens a regular file. A pipe or a device is refused: reading one could block, or go on, for ever.
pub(crate) fn open(path: &Path) -> Result<File, DataError> {
    let metadata = path.metadata().map_err(DataError::read(path))?;
    if !metadata.is_file() {
        return Err(DataError::format(path, "is not a regular file"));
    }
    File::open(path).map_err(DataError::read(path))
}
