//! Folders in MNIST's format: MNIST itself, Fashion-MNIST, KMNIST.
//!
//! The `mnist` crate parses, but panics on most faults and misreads some (trailing bytes, labels
//! above 9). So each file is unpacked and checked into a temporary folder first, and the crate reads
//! that copy: what was checked is what is parsed, even if the user's file changes meanwhile.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use mnist::{Mnist, MnistBuilder};

use crate::idx::{Contents, Expected, copy};
use crate::{DataError, ImageShape, LabelledImages, file};

const TRAIN: u32 = 60_000;
const TEST: u32 = 10_000;

/// Each file under the name that the `mnist` crate looks for, and what it has to hold.
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
/// `train-images.idx3-ubyte`; of several spellings the plainest is taken. Classes are named 0 to 9.
///
/// # Errors
/// Whatever keeps the folder from being exactly in MNIST's format; see [`DataError`].
pub fn mnist_folder(folder: &Path) -> Result<(LabelledImages, LabelledImages), DataError> {
    let paths = find_files(folder)?;
    let unpacked = tempfile::tempdir().map_err(|source| DataError::Unpack { source })?;
    let base_path = unpacked
        .path()
        .to_str()
        .ok_or_else(|| DataError::TemporaryName {
            path: unpacked.path().into(),
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
    if !folder.is_dir() {
        return Err(DataError::NotAFolder {
            path: folder.into(),
        });
    }
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
        return Err(DataError::MissingFiles {
            folder: folder.into(),
            missing,
        });
    }
    Ok(found)
}

/// Gzip is told by its first two bytes, since browsers unpack files and keep the `.gz`.
fn unpack(path: &Path, expected: Expected, to: &Path) -> Result<(), DataError> {
    let packed = BufReader::new(file::open(path)?);
    let unpack_error = |source| DataError::Unpack { source };
    let mut sink = BufWriter::new(File::create(to).map_err(unpack_error)?);
    unpack_from(path, packed, expected, &mut sink)?;
    sink.flush().map_err(unpack_error)
}

/// Of the bytes of `packed`, which errors call `path`.
pub(crate) fn unpack_from(
    path: &Path,
    mut packed: impl BufRead,
    expected: Expected,
    sink: &mut dyn Write,
) -> Result<(), DataError> {
    let start = packed.fill_buf().map_err(|source| DataError::Read {
        path: path.into(),
        source,
    })?;
    let mut source: Box<dyn Read + '_> = if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(packed))
    } else {
        Box::new(packed)
    };
    copy(path, &mut source, expected, sink)
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
    use tempfile::TempDir;

    fn idx(magic: u8, sizes: &[u32], body: Vec<u8>) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, magic];
        for size in sizes {
            bytes.extend(size.to_be_bytes());
        }
        bytes.extend(body);
        bytes
    }

    fn image_file(count: u32) -> Vec<u8> {
        let body = (0..count * 784).map(|i| (i % 251) as u8).collect();
        idx(3, &[count, 28, 28], body)
    }

    fn label_file(count: u32) -> Vec<u8> {
        idx(1, &[count], (0..count).map(|i| (i % 10) as u8).collect())
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

    /// The error that a sound folder gives once `name` holds `bytes`; its text has to name the file.
    fn fault(name: &str, bytes: &[u8]) -> DataError {
        let folder = folder_with(name, bytes);
        let error = mnist_folder(folder.path()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        error
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
            assert!(matches!(&error, DataError::NotAFolder { path: p } if *p == path));
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
        assert!(matches!(error, DataError::NotAFile { path: p } if p == path));
    }

    #[test]
    fn a_truncated_file_is_refused_wherever_it_ends() {
        let images = image_file(TEST);
        for length in [0, 3, 15, 16, images.len() - 1] {
            let error = fault("t10k-images-idx3-ubyte", &images[..length]);
            assert!(
                matches!(error, DataError::Truncated { found, expected: 7_840_016, .. }
                    if found == length as u64),
                "{error:?}"
            );
        }
        let labels = label_file(TRAIN);
        let error = fault("train-labels-idx1-ubyte", &labels[..labels.len() - 1]);
        assert!(matches!(
            error,
            DataError::Truncated {
                found: 60_007,
                expected: 60_008,
                ..
            }
        ));
    }

    #[test]
    fn a_trailing_byte_is_refused() {
        let mut labels = label_file(TEST);
        labels.push(0);
        for bytes in [gzip(&labels), labels] {
            let error = fault("t10k-labels-idx1-ubyte", &bytes);
            assert!(matches!(
                error,
                DataError::TrailingBytes {
                    expected: 10_008,
                    ..
                }
            ));
        }
    }

    #[test]
    fn a_web_page_in_the_place_of_a_file_is_not_idx() {
        let error = fault("t10k-labels-idx1-ubyte", b"<html>404</html>");
        assert!(matches!(error, DataError::WrongMagic { found, .. } if &found == b"<htm"));
    }

    #[test]
    fn swapped_images_and_labels_are_named_as_such() {
        let error = fault("train-images-idx3-ubyte", &label_file(TRAIN));
        assert!(matches!(
            error,
            DataError::WrongContents {
                found: "labels",
                expected: "images",
                ..
            }
        ));
        let error = fault("t10k-labels-idx1-ubyte", &image_file(TEST));
        assert!(matches!(
            error,
            DataError::WrongContents {
                found: "images",
                expected: "labels",
                ..
            }
        ));
    }

    #[test]
    fn swapped_training_and_test_files_are_refused_by_their_counts() {
        let error = fault("train-images-idx3-ubyte", &image_file(TEST));
        assert!(matches!(
            error,
            DataError::WrongCount {
                found: 10_000,
                expected: 60_000,
                ..
            }
        ));
        let error = fault("t10k-labels-idx1-ubyte", &label_file(TRAIN));
        assert!(matches!(
            error,
            DataError::WrongCount {
                found: 60_000,
                expected: 10_000,
                ..
            }
        ));
    }

    #[test]
    fn images_of_another_size_are_refused() {
        let bytes = idx(3, &[TEST, 32, 28], vec![0; 32 * 28 * TEST as usize]);
        let error = fault("t10k-images-idx3-ubyte", &bytes);
        assert!(matches!(
            error,
            DataError::WrongSize {
                found: [32, 28],
                ..
            }
        ));
    }

    #[test]
    fn a_label_above_nine_is_refused_with_its_position() {
        let mut labels = label_file(TRAIN);
        labels[8 + 59_999] = 10;
        let error = fault("train-labels-idx1-ubyte", &labels);
        assert!(matches!(
            error,
            DataError::LabelOutOfRange {
                position: 59_999,
                found: 10,
                highest: 9,
                ..
            }
        ));
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
            let error = fault("t10k-labels-idx1-ubyte", bytes);
            assert!(matches!(error, DataError::Gzip { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_gzip_bomb_is_read_no_further_than_the_expected_size() {
        struct Counted(u64, std::io::Cursor<Vec<u8>>);
        impl Read for Counted {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let header = self.1.read(buffer)?;
                let read = if header > 0 { header } else { buffer.len() };
                self.0 += read as u64;
                Ok(read)
            }
        }
        // Endless zeros after a sound header, as a bomb unpacks to.
        let mut bomb = Counted(0, std::io::Cursor::new(idx(1, &[TEST], Vec::new())));
        let mut sink = Vec::new();
        let error = copy(Path::new("bomb"), &mut bomb, labels(TEST), &mut sink).unwrap_err();
        assert!(matches!(error, DataError::TrailingBytes { .. }));
        assert_eq!((bomb.0, sink.len()), (10_009, 10_008));
    }
}
