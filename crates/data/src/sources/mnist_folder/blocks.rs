//! Sets of any size, through the `mnist` crate.
//!
//! The crate takes files of exactly 60,000 images to train on and 10,000 to test on, whatever lengths
//! it is asked for. So larger parts go through it in blocks of that many, and the last block is filled
//! up with zeros, which the crate is told to set aside as validation images. MNIST itself is one block.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use mnist::{Mnist, MnistBuilder};

use super::UNPACK;
use crate::{DataError, ImageShape};

/// Images that the crate takes to train on, and to test on.
const BLOCK: [u32; 2] = [60_000, 10_000];

/// A part's checked values in temporary files: (N, 1, 28, 28) pixels and (N,) labels.
pub struct Unpacked {
    pub count: u32,
    pub images: File,
    pub labels: File,
}

/// A part in memory: (N, 1, 28, 28) pixels and (N,) labels.
pub struct Part {
    pub pixels: Vec<u8>,
    pub labels: Vec<u8>,
}

/// Parses both parts, training and test.
///
/// # Errors
/// [`DataError::Temporary`].
pub fn parse([train, test]: [Unpacked; 2]) -> Result<[Part; 2], DataError> {
    let temporary = || DataError::temporary(UNPACK);
    let folder = tempfile::tempdir().map_err(temporary())?;
    let base_path = folder.path().to_str().ok_or_else(|| {
        let problem = format!("{} is not UTF-8", folder.path().display());
        temporary()(io::Error::other(problem))
    })?;
    let mut left = [train.count, test.count];
    let mut parts = left.map(|count| Part::with_capacity(count as usize));
    while left != [0, 0] {
        write_block(folder.path(), "train", BLOCK[0], &train).map_err(temporary())?;
        write_block(folder.path(), "t10k", BLOCK[1], &test).map_err(temporary())?;
        let lengths = [left[0].min(BLOCK[0]), left[1].min(BLOCK[1])];
        left = [left[0] - lengths[0], left[1] - lengths[1]];
        let Mnist {
            trn_img,
            trn_lbl,
            tst_img,
            tst_lbl,
            ..
        } = MnistBuilder::new()
            .base_path(base_path)
            .training_set_length(lengths[0])
            .validation_set_length(BLOCK[0] - lengths[0])
            .test_set_length(lengths[1])
            .finalize();
        parts[0].append(trn_img, trn_lbl);
        parts[1].append(tst_img, tst_lbl);
    }
    Ok(parts)
}

/// Writes the next `size` images and labels, by the names that the crate looks for.
fn write_block(folder: &Path, name: &str, size: u32, part: &Unpacked) -> io::Result<()> {
    let path = |kind| folder.join(format!("{name}-{kind}-ubyte"));
    write_file(&path("images-idx3"), &[0x0803, size, 28, 28], &part.images)?;
    write_file(&path("labels-idx1"), &[0x0801, size], &part.labels)
}

/// Writes an IDX file of the next `values`, filled up with zeros to the header's size.
fn write_file(path: &Path, header: &[u32], values: &File) -> io::Result<()> {
    let size = header[1..].iter().map(|&side| u64::from(side)).product();
    let header: Vec<u8> = header.iter().flat_map(|side| side.to_be_bytes()).collect();
    let mut file = File::create(path)?;
    file.write_all(&header)?;
    io::copy(&mut values.take(size), &mut file)?;
    file.set_len(header.len() as u64 + size)
}

impl Part {
    fn with_capacity(count: usize) -> Self {
        Self {
            pixels: Vec::with_capacity(count * ImageShape::MNIST.values()),
            labels: Vec::with_capacity(count),
        }
    }

    fn append(&mut self, mut pixels: Vec<u8>, mut labels: Vec<u8>) {
        self.pixels.append(&mut pixels);
        self.labels.append(&mut labels);
    }
}
