//! Folders in MNIST's format: MNIST itself, Fashion-MNIST, KMNIST.
//!
//! The `mnist` crate parses, but panics on most faults and misreads some (trailing bytes, labels
//! above 9). So each file is unpacked and checked into a temporary folder first, and the crate reads
//! that copy: what was checked is what is parsed, even if the user's file changes meanwhile.

use std::fs::File;
use std::io::{BufReader, BufWriter, Error, Write};
use std::path::{Path, PathBuf};

use mnist::{Mnist, MnistBuilder};

use super::idx::{self, Contents, Expected, UNPACK};
use super::{Form, Loaded, Source, check_folder};
use crate::{DataError, Framing, ImageShape, LabelledImages, file};

pub(super) const FORM: Form = Form {
    kind: "mnist",
    meaning: "a folder of MNIST-format files",
    parse: |folder| folder.map(|folder| Source::Mnist(folder.into())),
    load: |folder, _| mnist_folder(folder).map(Loaded::from),
    takes_shape: false,
    framing: Framing::of_drawings,
};

const TRAIN: u32 = 60_000;
const TEST: u32 = 10_000;

/// The files, by the names that the `mnist` crate looks for, and what each has to hold.
const FILES: [(&str, Expected); 4] = [
    ("train-images-idx3-ubyte", images(TRAIN)),
    ("train-labels-idx1-ubyte", labels(TRAIN)),
    ("t10k-images-idx3-ubyte", images(TEST)),
    ("t10k-labels-idx1-ubyte", labels(TEST)),
];

const fn images(count: u32) -> Expected {
    let contents = Contents::Images([28, 28]);
    Expected { contents, count }
}

const fn labels(count: u32) -> Expected {
    let contents = Contents::Labels(10);
    Expected { contents, count }
}

/// Reads the four files in `folder` as (training, test): 60,000 and 10,000 images of (1, 28, 28).
///
/// Each file may be gzip'd or not, with or without `.gz`, as `train-images-idx3-ubyte` or
/// `train-images.idx3-ubyte`; if several are there, the plainest is read. Classes are named 0 to 9.
///
/// # Errors
/// [`DataError::Format`] unless the folder is exactly in MNIST's format, [`DataError::Read`] and
/// [`DataError::Temporary`].
pub fn mnist_folder(folder: &Path) -> Result<(LabelledImages, LabelledImages), DataError> {
    let paths = find_files(folder)?;
    let unpacked = tempfile::tempdir().map_err(DataError::temporary(UNPACK))?;
    let base_path = unpacked.path().to_str().ok_or_else(|| {
        let problem = format!("{} is not UTF-8", unpacked.path().display());
        DataError::temporary(UNPACK)(Error::other(problem))
    })?;
    for (path, (name, expected)) in paths.iter().zip(FILES) {
        unpack(path, expected, &unpacked.path().join(name))?;
    }
    let Mnist {
        trn_img,
        trn_lbl,
        tst_img,
        tst_lbl,
        ..
    } = MnistBuilder::new()
        .base_path(base_path)
        .training_set_length(TRAIN)
        .validation_set_length(0)
        .test_set_length(TEST)
        .finalize();
    Ok((labelled(trn_img, trn_lbl)?, labelled(tst_img, tst_lbl)?))
}

fn find_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    check_folder(folder)?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for (name, _) in FILES {
        let dotted = name.replace("-idx", ".idx");
        let spellings = [
            name.to_string(),
            dotted.clone(),
            format!("{name}.gz"),
            format!("{dotted}.gz"),
        ];
        match spellings
            .iter()
            .map(|spelling| folder.join(spelling))
            .find(|path| path.exists())
        {
            Some(path) => found.push(path),
            None => missing.push(name.to_string()),
        }
    }
    if !missing.is_empty() {
        let problem = format!(
            "lacks {}; each may be gzip'd (.gz) and spelt with `.idx` for `-idx`",
            missing.join(", ")
        );
        return Err(DataError::format(folder, problem));
    }
    Ok(found)
}

fn unpack(path: &Path, expected: Expected, to: &Path) -> Result<(), DataError> {
    let packed = BufReader::new(file::open(path)?);
    let to = File::create(to).map_err(DataError::temporary(UNPACK))?;
    let mut sink = BufWriter::new(to);
    idx::unpack(path, packed, expected, &mut sink)?;
    sink.flush().map_err(DataError::temporary(UNPACK))
}

fn labelled(mut pixels: Vec<u8>, labels: Vec<u8>) -> Result<LabelledImages, DataError> {
    // The crate joins and splits training and test, which leaves room for twice the images.
    pixels.shrink_to_fit();
    LabelledImages::new(
        ImageShape::MNIST,
        pixels,
        labels.into_iter().map(u32::from).collect(),
        (0..10).map(|class| class.to_string()).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::fs;
    use std::io::{Cursor, Read};
    use tempfile::TempDir;

    fn idx_file(magic: u8, sizes: &[u32], body: Vec<u8>) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, magic];
        for size in sizes {
            bytes.extend(size.to_be_bytes());
        }
        bytes.extend(body);
        bytes
    }

    fn image_file(count: u32) -> Vec<u8> {
        let body = (0..count * 784).map(|i| (i % 251) as u8).collect();
        idx_file(3, &[count, 28, 28], body)
    }

    fn label_file(count: u32) -> Vec<u8> {
        idx_file(1, &[count], (0..count).map(|i| (i % 10) as u8).collect())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A sound folder, with one file replaced.
    fn folder_with(name: &str, bytes: &[u8]) -> TempDir {
        let folder = sound_folder();
        fs::write(folder.path().join(name), bytes).unwrap();
        folder
    }

    fn sound_folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
        put("train-images-idx3-ubyte", image_file(TRAIN));
        put("train-labels-idx1-ubyte", label_file(TRAIN));
        put("t10k-images-idx3-ubyte", image_file(TEST));
        put("t10k-labels-idx1-ubyte", label_file(TEST));
        folder
    }

    /// Asserts what a sound folder is refused with once `name` holds `bytes`.
    fn assert_refused(name: &str, bytes: &[u8], expected: &str) {
        let folder = folder_with(name, bytes);
        let error = mnist_folder(folder.path()).unwrap_err();
        assert!(
            matches!(&error, DataError::Format { path, problem, .. }
                if path.ends_with(name) && problem.contains(expected)),
            "{error:?}"
        );
    }

    #[test]
    fn gzipped_plain_and_dotted_files_give_the_same_images() {
        let folder = sound_folder();
        let (train, test) = mnist_folder(folder.path()).unwrap();
        assert_eq!((train.len(), test.len()), (60_000, 10_000));
        assert_eq!(train.pixels(), &image_file(TRAIN)[16..]);
        assert_eq!(train.class_counts(), [6_000; 10]);
        assert_eq!(test.pixels(), &image_file(TEST)[16..]);
        assert_eq!(test.labels()[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);

        let other = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| fs::write(other.path().join(name), bytes).unwrap();
        put("train-images.idx3-ubyte.gz", &gzip(&image_file(TRAIN)));
        put("train-labels-idx1-ubyte.gz", &label_file(TRAIN));
        put("t10k-images.idx3-ubyte", &image_file(TEST));
        put("t10k-labels-idx1-ubyte", &gzip(&label_file(TEST)));
        assert_eq!(mnist_folder(other.path()).unwrap(), (train, test));
    }

    #[test]
    fn a_missing_folder_or_a_file_in_its_place_is_not_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [folder.path().join("none"), file] {
            let error = mnist_folder(&path).unwrap_err();
            assert!(
                matches!(&error, DataError::Format { path: p, problem, .. }
                    if *p == path && problem.contains("not a folder")),
                "{error:?}"
            );
        }
    }

    #[test]
    fn all_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("t10k-images.idx3-ubyte.gz"), "").unwrap();
        let error = mnist_folder(folder.path()).unwrap_err().to_string();
        for name in [
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-labels-idx1-ubyte",
        ] {
            assert!(error.contains(name), "{error}");
        }
        assert!(!error.contains("t10k-images"), "{error}");
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_is_refused() {
        let folder = sound_folder();
        let path = folder.path().join("t10k-labels-idx1-ubyte");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = mnist_folder(folder.path()).unwrap_err();
        assert!(
            matches!(&error, DataError::Format { path: p, problem, .. }
                if *p == path && problem.contains("not a regular file")),
            "{error:?}"
        );
    }

    #[test]
    fn a_truncated_file_is_refused_wherever_it_ends() {
        let images = image_file(TEST);
        for length in [0, 3, 15, 16, images.len() - 1] {
            let expected = format!("is cut short: {length} bytes unpacked of 7840016;");
            assert_refused("t10k-images-idx3-ubyte", &images[..length], &expected);
        }
        let labels = label_file(TRAIN);
        let expected = "is cut short: 60007 bytes unpacked of 60008;";
        let cut = &labels[..labels.len() - 1];
        assert_refused("train-labels-idx1-ubyte", cut, expected);
    }

    #[test]
    fn a_trailing_byte_is_refused() {
        let mut labels = label_file(TEST);
        labels.push(0);
        for bytes in [gzip(&labels), labels] {
            let expected = "goes on after the 10008 bytes";
            assert_refused("t10k-labels-idx1-ubyte", &bytes, expected);
        }
    }

    #[test]
    fn a_web_page_in_the_place_of_a_file_is_not_idx() {
        let expected = "starts with the bytes [3c, 68, 74, 6d]";
        assert_refused("t10k-labels-idx1-ubyte", b"<html>404</html>", expected);
    }

    #[test]
    fn swapped_images_and_labels_are_named_as_such() {
        let images = label_file(TRAIN);
        assert_refused(
            "train-images-idx3-ubyte",
            &images,
            "holds labels, not images",
        );
        let labels = image_file(TEST);
        assert_refused(
            "t10k-labels-idx1-ubyte",
            &labels,
            "holds images, not labels",
        );
    }

    #[test]
    fn swapped_training_and_test_files_are_refused_by_their_counts() {
        let expected = "holds 10000 images; MNIST's format requires 60000 here";
        assert_refused("train-images-idx3-ubyte", &image_file(TEST), expected);
        let expected = "holds 60000 labels; MNIST's format requires 10000 here";
        assert_refused("t10k-labels-idx1-ubyte", &label_file(TRAIN), expected);
    }

    #[test]
    fn images_of_another_size_are_refused() {
        let bytes = idx_file(3, &[TEST, 32, 28], vec![0; 32 * 28 * TEST as usize]);
        assert_refused(
            "t10k-images-idx3-ubyte",
            &bytes,
            "holds images of 32x28 pixels",
        );
    }

    #[test]
    fn a_label_above_nine_is_refused_with_its_position() {
        let mut labels = label_file(TRAIN);
        labels[8 + 59_999] = 10;
        let expected = "has the label 10 at position 59999; labels go from 0 to 9";
        assert_refused("train-labels-idx1-ubyte", &labels, expected);
    }

    #[test]
    fn damaged_gzip_is_refused() {
        let sound = gzip(&label_file(TEST));
        let mut flipped = sound.clone();
        let checksum = flipped.len() - 8;
        flipped[checksum] ^= 1;
        let mut followed = sound.clone();
        followed.extend(b"more");
        for bytes in [
            &flipped[..],
            &followed,
            &sound[..sound.len() / 2],
            &sound[..5],
        ] {
            let expected = "its gzip stream cannot be unpacked";
            assert_refused("t10k-labels-idx1-ubyte", bytes, expected);
        }
    }

    #[test]
    fn a_gzip_bomb_is_read_no_further_than_the_expected_size() {
        struct Counted(u64, Cursor<Vec<u8>>);
        impl Read for Counted {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let header = self.1.read(buffer)?;
                let read = if header > 0 { header } else { buffer.len() };
                self.0 += read as u64;
                Ok(read)
            }
        }
        // Endless zeros after a sound header, as a bomb unpacks to.
        let mut bomb = Counted(0, Cursor::new(idx_file(1, &[TEST], Vec::new())));
        let mut sink = Vec::new();
        let packed = BufReader::with_capacity(1, &mut bomb);
        let error = idx::unpack(Path::new("bomb"), packed, labels(TEST), &mut sink).unwrap_err();
        assert!(error.to_string().contains("goes on after"), "{error}");
        assert_eq!((bomb.0, sink.len()), (10_009, 10_008));
    }
}
