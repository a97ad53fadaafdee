//! Everything that a program leaves behind goes to the disk through here: files that are written
//! [whole](write_whole) or not at all, a [`Log`] that is only ever appended to, and a [`lock`].
//!
//! A reader, or whoever starts again after a power cut, finds a file as it was or as it was meant to
//! be, never a part of it.

#[cfg(feature = "faults")]
pub mod faults;
mod log;

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

pub use log::Log;

/// How the name of a file starts that is still being written.
const UNFINISHED: &str = ".writing-";

/// Replaces a file with `contents`, in one step, and makes its folder if there is none.
///
/// The file is as readable as any new file of the user's, and on the disk when this returns. A device or
/// a pipe, such as `/dev/null`, is written to as it is.
///
/// # Errors
/// Those of the file system. The file is then as it was.
pub fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    replace(path, contents, |folder| fs::create_dir_all(folder))
}

/// As [`write_whole`], for a file `name` within `folder`: where that is gone, it is not made again.
///
/// # Errors
/// Those of the file system. The file is then as it was.
pub fn write_whole_within(folder: &Path, name: &Path, contents: &[u8]) -> io::Result<()> {
    replace(&folder.join(name), contents, |parent| {
        if parent == folder {
            return Ok(());
        }
        match fs::create_dir(parent) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    })
}

fn replace(
    path: &Path,
    contents: &[u8],
    make_folder: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    // It has nothing to keep, and a file in its place would be in everybody's way.
    let special = |target: fs::Metadata| !target.is_file() && !target.is_dir();
    if path.metadata().is_ok_and(special) {
        return File::options().write(true).open(path)?.write_all(contents);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    may_fail("make the folder")?;
    make_folder(folder)?;
    may_fail("make the file")?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    // A temporary file is its owner's alone unless told otherwise.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    may_fail("write")?;
    file.write_all(contents)?;
    may_fail("sync")?;
    file.as_file().sync_all()?;
    may_fail("rename")?;
    file.persist(path)?;
    #[cfg(unix)]
    {
        may_fail("sync the folder")?;
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Removes a file.
///
/// # Errors
/// Those of the file system.
pub fn remove(path: &Path) -> io::Result<()> {
    may_fail("remove")?;
    fs::remove_file(path)
}

/// Whether `name` is that of a file that [`write_whole`] was still writing. Left alone by every
/// writer, it is a leftover of a program that was killed.
pub fn is_unfinished(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
}

/// Locks the file at `path`, which is made if there is none. The lock ends with the returned file, or
/// with the program, however that ends.
///
/// # Errors
/// [`TryLockError::WouldBlock`] while another program holds it; those of the file system.
pub fn lock(path: &Path) -> Result<File, TryLockError> {
    may_fail("make the lock").map_err(TryLockError::Error)?;
    let file = File::create(path).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Fails where a test wants this operation to.
#[cfg_attr(
    not(feature = "faults"),
    allow(unused_variables, clippy::unnecessary_wraps)
)]
#[inline]
fn may_fail(operation: &'static str) -> io::Result<()> {
    #[cfg(feature = "faults")]
    faults::check(operation)?;
    Ok(())
}
