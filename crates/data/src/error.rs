//! Every way in which data can be wrong.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::ImageShape;

/// What is wrong with a data set, a setting or a picture: where, what was found, what is expected.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum DataError {
    /// A string that names no data source.
    #[error(
        "`{found}` names no data set; give `digits` (embedded), `mnist:DIR` (a folder of MNIST-format files) or `folder:DIR` (pictures, one sub-folder a class)"
    )]
    UnknownSource { found: String },
    /// A string that names no way of pairing.
    #[error("`{found}` is no way to pair images; give `balanced`, `uniform` or `adjacent`")]
    UnknownPairing { found: String },

    /// A path that is missing, closed to us or not a folder, where a folder is needed.
    #[error("{} is not a folder that can be opened", path.display())]
    NotAFolder { path: PathBuf },
    /// Files of a data set that are not in its folder.
    #[error("{} lacks {}; each may be gzip'd (.gz) and spelt with `.idx` for `-idx`", folder.display(), missing.join(", "))]
    MissingFiles {
        folder: PathBuf,
        missing: Vec<String>,
    },
    /// A folder, pipe or device where a file is needed.
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    /// A file that the system does not let us read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A gzip stream that is damaged or cut short.
    #[error("{} is damaged: its gzip stream cannot be unpacked; fetch it again", path.display())]
    Gzip { path: PathBuf, source: io::Error },
    /// No room, or no right, to unpack a data set into the temporary folder.
    #[error(
        "cannot unpack the data set into a temporary folder; TMPDIR may name another with 55 MB free"
    )]
    Unpack { source: io::Error },
    /// A temporary folder whose name the parser cannot take.
    #[error("the temporary folder {} has a name that is not UTF-8; let TMPDIR name another", path.display())]
    TemporaryName { path: PathBuf },

    /// A file that is not IDX, or IDX of another type.
    #[error("{} starts with the bytes {found:02x?}; this IDX file has to start with {expected:02x?} (1f 8b if gzip'd)", path.display())]
    WrongMagic {
        path: PathBuf,
        found: [u8; 4],
        expected: [u8; 4],
    },
    /// Labels in the place of images, or images in the place of labels.
    #[error("{} holds {found}, not {expected}: the files of images and labels seem to be swapped", path.display())]
    WrongContents {
        path: PathBuf,
        found: &'static str,
        expected: &'static str,
    },
    /// Images that are not 28x28.
    #[error("{} holds images of {}x{} pixels; MNIST's format requires {}x{}", path.display(), found[0], found[1], expected[0], expected[1])]
    WrongSize {
        path: PathBuf,
        found: [u32; 2],
        expected: [u32; 2],
    },
    /// A file with another number of images or labels than MNIST has.
    #[error("{} holds {found} {contents}; MNIST's format requires {expected} here (60000 for training, 10000 for the test: are the two swapped?)", path.display())]
    WrongCount {
        path: PathBuf,
        contents: &'static str,
        found: u32,
        expected: u32,
    },
    /// A file shorter than its header says.
    #[error("{} is cut short: {found} bytes unpacked of {expected}; fetch it again", path.display())]
    Truncated {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
    /// A file longer than its header says.
    #[error("{} goes on after the {expected} bytes that its header announces; fetch it again", path.display())]
    TrailingBytes { path: PathBuf, expected: u64 },
    /// A label that MNIST's format does not have.
    #[error("{}: label {position} is {found}; labels go from 0 to {highest}", path.display())]
    LabelOutOfRange {
        path: PathBuf,
        position: u64,
        found: u8,
        highest: u8,
    },

    /// An image shape that nothing here can work with.
    #[error(
        "image shape {found:?} is not usable; it is [channels, height, width] with 1 or 3 channels and sides from 1 to 4096"
    )]
    Shape { found: [usize; 3] },
    /// Pixels that do not make one image per label.
    #[error("{found} pixel values for {labels} labels; images of {shape} need {}", shape.values().saturating_mul(*labels))]
    PixelCount {
        found: usize,
        labels: usize,
        shape: ImageShape,
    },
    /// A label beyond the list of classes.
    #[error("label {position} is {found}, but there are {classes} classes, numbered from 0")]
    LabelWithoutClass {
        position: usize,
        found: u32,
        classes: usize,
    },

    /// A setting out of its range.
    #[error("{name} is {found}; it has to be {expected}")]
    Setting {
        name: &'static str,
        found: String,
        expected: &'static str,
    },
    /// A class that the data set doesn't have.
    #[error("there is no class `{found}` to hold out; there are {}", classes.join(", "))]
    NoSuchClass { found: String, classes: Vec<String> },
    /// Too few classes to make dissimilar pairs.
    #[error("pairs need images of at least two classes; found {found}")]
    TooFewClasses { found: usize },
    /// No class with two images, so no similar pair.
    #[error(
        "similar pairs need a class with at least two images; none of the {classes} classes has"
    )]
    NoSimilarPair { classes: usize },
    /// Too few classes with the images that each class of a batch has.
    #[error(
        "{found} of the {classes} classes have at least {images} images; a batch needs {expected} such classes"
    )]
    TooFewFullClasses {
        found: usize,
        classes: usize,
        images: usize,
        expected: usize,
    },
    /// A sampler that was made from the labels of other images.
    #[error(
        "the sampler draws from {sampler} images, but {images} were given; make it from the same images' labels"
    )]
    OtherImages { sampler: usize, images: usize },

    /// A folder that should have one sub-folder a class.
    #[error("{} has no sub-folders; a folder of pictures has one for each class, named after it", folder.display())]
    NoClasses { folder: PathBuf },
    /// A folder in which nothing can be read as a picture.
    #[error("there is no picture to be read in {}", folder.display())]
    NoPictures { folder: PathBuf },
    /// `train` and `test` among other sub-folders: a split, or two classes of these names?
    #[error("{} has the sub-folders train and test, which would be a split of its pictures, beside `{other}`; take one or the other away", folder.display())]
    MixedSplit { folder: PathBuf, other: String },
    /// A class whose name cannot be written down.
    #[error("{} has a name that is not UTF-8; a class needs one that is", path.display())]
    ClassName { path: PathBuf },
    /// Pictures that cannot be read, each with its reason.
    #[error("{} of {pictures} pictures cannot be read; mend them, or leave them out with --skip-corrupt (data.skip_corrupt = true): {}", faults.len(), faults.join("; "))]
    CorruptPictures {
        pictures: usize,
        faults: Vec<String>,
    },
    /// No room, or no right, to keep pixels in a file.
    #[error(
        "cannot keep the pictures' pixels in a file of {bytes} bytes in the temporary folder; TMPDIR may name another"
    )]
    PixelFile { bytes: u64, source: io::Error },

    /// A file that is no picture of a known format, or is damaged.
    #[error("{} cannot be read as a picture; BMP, GIF, JPEG, PNG, PNM, QOI, TIFF and WebP can", path.display())]
    Picture {
        path: PathBuf,
        source: image::ImageError,
    },
    /// A JPEG without its end.
    #[error("{} is cut short: the JPEG has no end marker", path.display())]
    TruncatedPicture { path: PathBuf },
    /// A picture without a pixel, which some formats allow.
    #[error("{} has no pixels: it is {width}x{height}", path.display())]
    EmptyPicture {
        path: PathBuf,
        width: u32,
        height: u32,
    },
    /// A picture that would take too much memory.
    #[error("{} has {found} million pixels; at most {most} million are read", path.display())]
    PictureTooLarge {
        path: PathBuf,
        found: u64,
        most: u64,
    },
    /// A picture of one shade.
    #[error("{} is blank: nothing in it stands out from its background by {least} of 255 grey levels", path.display())]
    BlankPicture { path: PathBuf, least: u8 },
}
