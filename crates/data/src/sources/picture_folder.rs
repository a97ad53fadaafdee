//! A folder of pictures, one sub-folder a class.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image::ImageFormat;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Form, Loaded, Source, check_folder};
use crate::dataset::hold_out;
use crate::pixel_file::PixelFile;
use crate::{
    DataError, Framing, ImageShape, LabelledImages, PictureProblem, Purpose, read_picture, stream,
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
    /// The shape that [`Framing::Letterbox`] gives each picture.
    pub shape: ImageShape,
    /// Fraction of each class's pictures held out for testing, where the folder has no split.
    pub test: f64,
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
    /// 64x64 pixels in colour, a fifth to test on, no corrupt picture accepted.
    fn default() -> Self {
        Self {
            shape: ImageShape {
                channels: 3,
                height: 64,
                width: 64,
            },
            test: 0.2,
            skip_corrupt: false,
            store: Store::Auto,
            transposed: false,
            progress: &|_, _| (),
        }
    }
}

/// Reads the pictures in `folder`: each sub-folder is a class, its name the class's.
///
/// Where there are two sub-folders `train` and `test`, they have the classes, and are the split.
/// Otherwise `options.test` of each class, chosen by `seed`, is held out for testing; a class of one
/// picture is trained on. Classes and pictures are in the order of their names. Hidden files and folders are
/// skipped; other files and folders where no picture can be are skipped with a note.
///
/// # Errors
/// [`DataError::Format`] and [`DataError::Read`] for a folder that is not laid out so, has no picture
/// or cannot be read; [`DataError::CorruptPictures`], which lists every picture that cannot be read,
/// unless `options.skip_corrupt`; [`DataError::Setting`] unless 0 < `options.test` < 1;
/// [`DataError::Temporary`].
pub fn picture_folder(
    folder: &Path,
    seed: u64,
    options: &FolderOptions,
) -> Result<Loaded, DataError> {
    let mut notes = Vec::new();
    let listing = Listing::of(folder, &mut notes)?;
    let split = listing.split;
    let (images, tested) = listing.read(folder, options, &mut notes)?;
    let (train, test) = match split {
        true => (0..images.len()).partition(|&i| !tested[i]),
        false => {
            let mut rng = stream(seed, Purpose::TestSplit, 0);
            hold_out(images.labels(), options.test, "test", &mut rng)?
        }
    };
    Ok(Loaded {
        train: images.select(&train),
        test: images.select(&test),
        notes,
    })
}

/// The files that may be pictures.
struct Listing {
    classes: Vec<String>,
    files: Vec<Entry>,
    /// Whether the folder has `train` and `test`.
    split: bool,
}

struct Entry {
    path: PathBuf,
    class: u32,
    tested: bool,
}

impl Listing {
    fn of(folder: &Path, notes: &mut Vec<String>) -> Result<Self, DataError> {
        check_folder(folder)?;
        let top = sub_folders(folder, notes)?;
        let is_split = |(name, _): &(String, PathBuf)| name == "train" || name == "test";
        let split = top.iter().filter(|entry| is_split(entry)).count() == 2;
        if split && let Some((other, _)) = top.iter().find(|entry| !is_split(entry)) {
            let problem = format!(
                "has the sub-folders train and test, which make a split, next to `{other}`, which would be a class; remove one or the other"
            );
            return Err(DataError::format(folder, problem));
        }
        // (class, its folder, whether it is tested on)
        let mut folders = Vec::new();
        for (name, path) in top {
            if split {
                let classes = sub_folders(&path, notes)?.into_iter();
                folders.extend(classes.map(|(class, path)| (class, path, name == "test")));
            } else {
                folders.push((name, path, false));
            }
        }
        if folders.is_empty() {
            let problem =
                "has no sub-folders; a folder of pictures has one for each class, named after it";
            return Err(DataError::format(folder, problem));
        }
        let mut classes: Vec<String> = folders.iter().map(|(class, ..)| class.clone()).collect();
        classes.sort_unstable();
        classes.dedup();
        let mut files = Vec::new();
        for (class, path, tested) in folders {
            // The class is among them.
            let class = classes.binary_search(&class).unwrap_or_default() as u32;
            for path in entries(&path)? {
                if path.is_dir() {
                    notes.push(format!(
                        "{} is a folder within a class; nothing in it is read",
                        path.display()
                    ));
                } else {
                    files.push(Entry {
                        path,
                        class,
                        tested,
                    });
                }
            }
        }
        Ok(Self {
            classes,
            files,
            split,
        })
    }

    /// The pictures, and whether each is of `test`.
    fn read(
        self,
        folder: &Path,
        options: &FolderOptions,
        notes: &mut Vec<String>,
    ) -> Result<(LabelledImages, Vec<bool>), DataError> {
        let shape = options.shape;
        let count = self.files.len();
        let on_disk = match options.store {
            Store::Auto => count as u64 * shape.values() as u64 > MOST_IN_MEMORY,
            store => store == Store::Disk,
        };
        let mut disk = on_disk.then(PixelFile::new).transpose()?;
        let mut pixels = Vec::new();
        let (mut labels, mut tested, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        let mut pictures = 0;
        (options.progress)(0, count);
        for (chunk, files) in self.files.chunks(AT_ONCE).enumerate() {
            let read: Vec<_> = files
                .par_iter()
                .map(|file| read_picture(&file.path, shape, Framing::Letterbox))
                .collect();
            for (file, read) in files.iter().zip(read) {
                match read {
                    Ok(picture) => {
                        match &mut disk {
                            Some(file) => file.append(&picture.pixels)?,
                            None => pixels.extend(picture.pixels),
                        }
                        labels.push(file.class);
                        tested.push(file.tested);
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
        Ok((images, tested))
    }
}

/// Name and path of each folder in `folder`, with a note of each file there.
fn sub_folders(
    folder: &Path,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut folders = Vec::new();
    for path in entries(folder)? {
        if !path.is_dir() {
            notes.push(format!("{} is not in a class", path.display()));
            continue;
        }
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => folders.push((name.to_string(), path)),
            None => {
                let problem = "has a name that is not UTF-8; a class needs one that is";
                return Err(DataError::format(&path, problem));
            }
        }
    }
    Ok(folders)
}

/// Paths of what is in `folder` and not hidden, in the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let mut paths = list().map_err(DataError::read(folder))?;
    paths.retain(|path| {
        path.file_name()
            .is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
    });
    paths.sort_unstable();
    Ok(paths)
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
