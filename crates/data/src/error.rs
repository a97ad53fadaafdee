//! Errors, by what a caller can do about them.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What is wrong with a setting, a data set or a picture. Messages name the place, what was found
/// there and what is expected.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum DataError {
    /// A setting out of its range.
    #[error("{name} is {found}; it has to be {expected}")]
    Setting {
        name: &'static str,
        found: String,
        expected: String,
    },
    /// A file or folder that the system does not let us read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A data set that cannot be kept in the temporary folder, for lack of space or permission.
    #[error("cannot {attempt} in the temporary folder; TMPDIR may name another")]
    Temporary { attempt: String, source: io::Error },
    /// A file or folder of a data set that is not in the format it has to be in.
    #[error("{} {problem}", path.display())]
    Format {
        path: PathBuf,
        problem: String,
        source: Option<io::Error>,
    },
    /// A picture that cannot be used.
    #[error("{} {problem}", path.display())]
    Picture {
        path: PathBuf,
        problem: PictureProblem,
        source: Option<image::ImageError>,
    },
    /// Pictures of a folder that cannot be used, each with its reason.
    #[error(
        "{} of {pictures} pictures cannot be read; fix them, or leave them out with --skip-corrupt (data.skip_corrupt = true): {}",
        faults.len(),
        faults.join("; ")
    )]
    CorruptPictures {
        pictures: usize,
        faults: Vec<String>,
    },
    /// Pixels, labels and classes that do not fit each other, or give no batch to train on.
    #[error("{0}")]
    Images(String),
}

/// Why a picture cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum PictureProblem {
    /// No picture of a known format, or a damaged one.
    #[error(
        "cannot be read as a picture; the formats are BMP, GIF, JPEG, PNG, PNM, QOI, TIFF and WebP"
    )]
    Unreadable,
    /// A JPEG without its end.
    #[error("is cut short: the JPEG has no end marker")]
    Truncated,
    /// No pixel, which some formats allow.
    #[error("has no pixels: it is {width}x{height}")]
    Empty { width: u32, height: u32 },
    /// More pixels than a picture may take memory for.
    #[error("has {megapixels} million pixels; at most {most} million are read")]
    TooLarge { megapixels: u64, most: u64 },
    /// A single shade, where ink is looked for.
    #[error(
        "is blank: nothing in it stands out from its background by {contrast} of 255 grey levels"
    )]
    Blank { contrast: u8 },
}

impl DataError {
    pub(crate) fn format(path: &Path, problem: impl Into<String>) -> Self {
        Self::Format {
            path: path.into(),
            problem: problem.into(),
            source: None,
        }
    }

    pub(crate) fn picture(path: &Path, problem: PictureProblem) -> Self {
        Self::Picture {
            path: path.into(),
            problem,
            source: None,
        }
    }

    /// For `map_err` after reading `path`.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read {
            path: path.into(),
            source,
        }
    }

    /// For `map_err` after trying to do `attempt` in the temporary folder.
    pub(crate) fn temporary(attempt: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Temporary {
            attempt: attempt.into(),
            source,
        }
    }
}
