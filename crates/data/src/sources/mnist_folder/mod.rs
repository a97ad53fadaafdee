//! Folders in MNIST's format: MNIST itself, Fashion-MNIST, KMNIST, QMNIST, EMNIST.
//!
//! The `mnist` crate parses, but panics on most faults and misreads trailing bytes. So each file is
//! unpacked and checked into a temporary file first, and the crate reads that copy: what was checked is
//! what is parsed, even if the user's file changes meanwhile.

mod blocks;
mod files;
mod mapping;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};

use super::idx::{Contents, Reader};
use super::{Form, Loaded, Source};
use crate::{DataError, Framing, ImageShape, LabelledImages, file};
use blocks::{Part, Unpacked};
use files::Files;

pub(super) const FORM: Form = Form {
    kind: "mnist",
    meaning: "a folder of MNIST-format files",
    parse: |folder| folder.map(|folder| Source::Mnist(folder.into())),
    load: |folder, options| mnist_folder(folder, options.transposed).map(Loaded::from),
    takes_shape: false,
    framing: Framing::of_drawings,
};

/// What [`DataError::Temporary`] says was attempted.
const UNPACK: &str = "unpack the data set";

/// Side of an image.
const SIDE: usize = 28;

/// Reads the four files of a set as (training, test), images of (1, 28, 28); `transposed` swaps rows and
/// columns.
///
/// `place` is a folder with one set, or `FOLDER/PREFIX` for one of several, whose files begin with
/// `PREFIX-`. Each file may be gzip'd or not, with or without `.gz`, as `train-images-idx3-ubyte` or
/// `train-images.idx3-ubyte`, and for testing as `t10k` or `test`; labels may be QMNIST's, in
/// `train-labels-idx2-int`. If several spellings are there, the plainest is read. Counts are the
/// headers'. Classes go from 0 to the largest label, and have the names of EMNIST's
/// `PREFIX-mapping.txt`, or their numbers.
///
/// # Errors
/// [`DataError::Format`] unless there is exactly one set and it is in MNIST's format,
/// [`DataError::Read`] and [`DataError::Temporary`].
pub fn mnist_folder(
    place: &Path,
    transposed: bool,
) -> Result<(LabelledImages, LabelledImages), DataError> {
    let files = Files::find(place)?;
    let [train, test] = &files.parts;
    // All headers first: they are read at once, and tell most mistakes.
    let [train, test] = [open(train)?, open(test)?];
    let mut parts = blocks::parse([unpack(train)?, unpack(test)?])?;
    if transposed {
        for part in &mut parts {
            transpose(&mut part.pixels);
        }
    }
    let labels = parts.iter().flat_map(|part| &part.labels);
    let last = labels.copied().max().unwrap_or_default();
    let classes = match &files.mapping {
        Some(path) => mapping::class_names(path, last)?,
        None => (0..=last).map(|label| label.to_string()).collect(),
    };
    let [train, test] = parts;
    Ok((labelled(train, &classes)?, labelled(test, &classes)?))
}

/// Opens a part's files of images and labels, and checks that their headers agree.
fn open([images, labels]: &[PathBuf; 2]) -> Result<[Reader<'_>; 2], DataError> {
    let reader = |path, contents| Reader::open(path, BufReader::new(file::open(path)?), contents);
    let side = SIDE as u32;
    let readers = [
        reader(images, Contents::Images([side, side]))?,
        reader(labels, Contents::Labels)?,
    ];
    let [held, labelled] = readers.each_ref().map(Reader::count);
    if held != labelled {
        let problem = format!(
            "holds {held} images, but {} holds {labelled} labels; they have to be of the same set",
            labels.display()
        );
        return Err(DataError::format(images, problem));
    }
    Ok(readers)
}

fn unpack([images, labels]: [Reader<'_>; 2]) -> Result<Unpacked, DataError> {
    let count = images.count();
    let [images, labels] = [unpack_file(images)?, unpack_file(labels)?];
    Ok(Unpacked {
        count,
        images,
        labels,
    })
}

fn unpack_file(reader: Reader<'_>) -> Result<File, DataError> {
    let mut file = tempfile::tempfile().map_err(DataError::temporary(UNPACK))?;
    reader.unpack(&mut file)?;
    file.rewind().map_err(DataError::temporary(UNPACK))?;
    Ok(file)
}

/// Swaps the rows and columns of each image of (1, 28, 28).
fn transpose(pixels: &mut [u8]) {
    for image in pixels.chunks_exact_mut(SIDE * SIDE) {
        for row in 0..SIDE {
            for column in 0..row {
                image.swap(row * SIDE + column, column * SIDE + row);
            }
        }
    }
}

fn labelled(part: Part, classes: &[String]) -> Result<LabelledImages, DataError> {
    LabelledImages::new(
        ImageShape::MNIST,
        part.pixels,
        part.labels.into_iter().map(u32::from).collect(),
        classes.to_vec(),
    )
}
