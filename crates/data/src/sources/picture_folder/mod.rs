//! A folder of pictures, one sub-folder for each class.

mod listing;

use std::error::Error;
use std::path::Path;

use image::ImageFormat;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::listing::Listing;
use super::{Form, Loaded, Source};
use crate::dataset::Part;
use crate::pixel_file::PixelFile;
use crate::{
    DataError, Framing, ImageFile, ImageShape, LabelledImages, PictureProblem, read_picture,
    read_picture_hashed,
};

pub(super) const FORM: Form = Form {
    kind: "folder",
    meaning: "pictures, one sub-folder a class",
    parse: |folder| folder.map(|folder| Source::Folder(folder.into())),
    load: picture_folder,
    takes_shape: true,
    framing: |_| Framing::Letterbox,
};

/// Pictures decoded at a time, on all threads.
const AT_ONCE: usize = 256;

/// Bytes of pixels that [`Store::Auto`] keeps in memory at most.
const MOST_IN_MEMORY: u64 = 1 << 30;

/// Where the pixels of a folder's pictures are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// In memory up to 1 GiB, in a file beyond.
    #[default]
    Auto,
    /// In memory.
    Memory,
    /// In a file without a name in the temporary folder, which the system reads as it is needed: for
    /// sets larger than memory.
    Disk,
}

/// How a folder is read.
#[derive(Clone, Copy)]
pub struct FolderOptions<'a> {
    /// The shape that each picture is given.
    pub shape: ImageShape,
    /// Whether to give it one channel instead where all pictures are grey, as far as a sample of them tells.
    pub grey_as_found: bool,
    /// How.
    pub framing: Framing,
    /// Whether to leave out pictures that cannot be read, instead of failing.
    pub skip_corrupt: bool,
    /// Where the pixels are kept.
    pub store: Store,
    /// Whether to swap rows and columns of images in MNIST's format, as EMNIST needs.
    pub transposed: bool,
    /// Called with how many files have been read, and how many there are.
    pub progress: &'a dyn Fn(usize, usize),
}

impl Default for FolderOptions<'_> {
    /// Letterboxed to 64x64 pixels in colour, no corrupt picture accepted.
    fn default() -> Self {
        Self {
            shape: ImageShape {
                channels: 3,
                height: 64,
                width: 64,
            },
            grey_as_found: false,
            framing: Framing::Letterbox,
            skip_corrupt: false,
            store: Store::Auto,
            transposed: false,
            progress: &|_, _| (),
        }
    }
}

/// Reads the pictures in `folder`: each sub-folder is a class, whose name it has.
///
/// In groups of folders the innermost ones are the classes, named by their paths. Sub-folders `train`
/// and `test`, `val` or both have the classes in them, and are the split. Classes and pictures are in
/// the order of their names. Hidden files and folders are skipped; other
/// files and folders where no picture can be are skipped with a note.
///
/// # Errors
/// [`DataError::Format`] and [`DataError::Read`] for a folder that is not laid out so, has no picture
/// or cannot be read; [`DataError::CorruptPictures`], which lists every picture that cannot be read,
/// unless `options.skip_corrupt`; [`DataError::Temporary`].
pub fn picture_folder(folder: &Path, options: &FolderOptions) -> Result<Loaded, DataError> {
    let mut notes = Vec::new();
    let listing = Listing::of(folder, &mut notes)?;
    let mut options = *options;
    if options.grey_as_found && listing.is_grey() {
        options.shape.channels = 1;
    }
    let (images, given) = listing.read(folder, &options, &mut notes)?;
    Ok(Loaded {
        images,
        given,
        test: None,
        notes,
    })
}

impl Listing {
    /// Whether all of a sample of the pictures, spread evenly over them, are grey; those that cannot be read
    /// are passed over.
    fn is_grey(&self) -> bool {
        const SAMPLE: usize = 100;
        /// Large enough for a spot of colour.
        const SHAPE: ImageShape = ImageShape {
            channels: 3,
            height: 64,
            width: 64,
        };
        let files = &self.files;
        let sample = files.iter().step_by(files.len().div_ceil(SAMPLE).max(1));
        let sample: Vec<_> = sample.collect();
        let plane = SHAPE.values() / SHAPE.channels;
        sample.into_par_iter().all(|file| {
            let picture = read_picture(&file.path, SHAPE, Framing::Letterbox);
            picture.map_or(true, |picture| {
                let mut planes = picture.pixels.chunks_exact(plane);
                let red = planes.next();
                planes.all(|other| Some(other) == red)
            })
        })
    }

    /// The pictures, and the part of each.
    fn read(
        self,
        folder: &Path,
        options: &FolderOptions,
        notes: &mut Vec<String>,
    ) -> Result<(LabelledImages, Vec<Option<Part>>), DataError> {
        let (shape, framing) = (options.shape, options.framing);
        let count = self.files.len();
        let on_disk = match options.store {
            Store::Auto => count as u64 * shape.values() as u64 > MOST_IN_MEMORY,
            store => store == Store::Disk,
        };
        let mut disk = on_disk.then(PixelFile::new).transpose()?;
        let mut pixels = Vec::new();
        let (mut labels, mut parts, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        let mut sources = Vec::new();
        let mut pictures = 0;
        (options.progress)(0, count);
        for (chunk, files) in self.files.chunks(AT_ONCE).enumerate() {
            let read: Vec<_> = files
                .par_iter()
                .map(|file| read_picture_hashed(&file.path, shape, framing))
                .collect();
            for (file, read) in files.iter().zip(read) {
                match read {
                    Ok((picture, content)) => {
                        match &mut disk {
                            Some(file) => file.append(&picture.pixels)?,
                            None => pixels.extend(picture.pixels),
                        }
                        labels.push(file.class);
                        parts.push(file.part);
                        sources.push(ImageFile {
                            name: file.name.clone(),
                            content,
                        });
                    }
                    Err(DataError::Picture {
                        problem: PictureProblem::Unreadable,
                        ..
                    }) if ImageFormat::from_path(&file.path).is_err() => {
                        notes.push(format!("{} is not a picture", file.path.display()));
                        continue;
                    }
                    Err(error) => faults.push(chain(&error)),
                }
                pictures += 1;
            }
            (options.progress)(chunk * AT_ONCE + files.len(), count);
        }
        if !faults.is_empty() {
            if !options.skip_corrupt {
                return Err(DataError::CorruptPictures { pictures, faults });
            }
            notes.extend(faults.into_iter().map(|fault| format!("left out: {fault}")));
        }
        if labels.is_empty() {
            return Err(DataError::format(folder, "has no picture that can be read"));
        }
        for (class, name) in self.classes.iter().enumerate() {
            if !labels.contains(&(class as u32)) {
                notes.push(format!("the class {name} has no picture"));
            }
        }
        let images = match disk {
            Some(file) => LabelledImages::mapped(shape, file.finish()?, labels, self.classes),
            None => LabelledImages::new(shape, pixels, labels, self.classes)?,
        };
        Ok((images.in_files(sources), parts))
    }
}

/// An error with its causes, in one line.
fn chain(error: &DataError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
