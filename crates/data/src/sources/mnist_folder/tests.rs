use std::fs;
use std::io::{Cursor, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::super::FolderOptions;
use super::super::idx::MOST;
use super::*;

const TRAIN: u32 = 12;
const TEST: u32 = 6;

fn idx_file(magic: [u8; 2], sizes: &[u32], body: Vec<u8>) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
    let header = [0, 0].into_iter().chain(magic).chain(sizes);
    header.chain(body).collect()
}

fn image_file(count: u32) -> Vec<u8> {
    let body = (0..count * 784).map(|i| (i % 251) as u8).collect();
    idx_file([8, 3], &[count, 28, 28], body)
}

fn labels_of(labels: &[u8]) -> Vec<u8> {
    idx_file([8, 1], &[labels.len() as u32], labels.to_vec())
}

/// Labels 0, 1, 2, 0, …
fn label_file(count: u32) -> Vec<u8> {
    labels_of(&(0..count).map(|i| (i % 3) as u8).collect::<Vec<u8>>())
}

/// QMNIST's form: a row of eight numbers, the label first.
fn label_rows(labels: &[i32]) -> Vec<u8> {
    let row = |&label| [label, 4, 2083, 1, label + 48, 7, 0, 0];
    let numbers = labels.iter().flat_map(row).flat_map(i32::to_be_bytes);
    idx_file([0xc, 2], &[labels.len() as u32, 8], numbers.collect())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn folder_of(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn sound_folder() -> TempDir {
    folder_of(&[
        ("train-images-idx3-ubyte", &image_file(TRAIN)),
        ("train-labels-idx1-ubyte", &label_file(TRAIN)),
        ("t10k-images-idx3-ubyte", &image_file(TEST)),
        ("t10k-labels-idx1-ubyte", &label_file(TEST)),
    ])
}

/// A set as EMNIST names its own, gzip'd, with these labels.
fn add_emnist(folder: &TempDir, prefix: &str, train: &[u8], test: &[u8]) {
    for (part, labels) in [("train", train), ("test", test)] {
        let path = |kind| {
            folder
                .path()
                .join(format!("{prefix}-{part}-{kind}-ubyte.gz"))
        };
        let images = image_file(labels.len() as u32);
        fs::write(path("images-idx3"), gzip(&images)).unwrap();
        fs::write(path("labels-idx1"), gzip(&labels_of(labels))).unwrap();
    }
}

fn read(place: &Path) -> (LabelledImages, LabelledImages) {
    mnist_folder(place, false).unwrap()
}

fn error(place: &Path) -> DataError {
    mnist_folder(place, false).unwrap_err()
}

fn assert_format(error: &DataError, of: &Path, expected: &str) {
    assert!(
        matches!(error, DataError::Format { path, problem, .. }
            if path == of && problem.contains(expected)),
        "{error:?}"
    );
}

/// Asserts what a sound folder is refused with once `name` holds `bytes`.
fn assert_refused(name: &str, bytes: &[u8], expected: &str) {
    let folder = sound_folder();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    assert_format(&error(folder.path()), &path, expected);
}

#[test]
fn gzipped_plain_and_dotted_files_give_the_same_images() {
    let folder = sound_folder();
    let (train, test) = read(folder.path());
    assert_eq!((train.len(), test.len()), (12, 6));
    assert_eq!(*train.pixels(), image_file(TRAIN)[16..]);
    assert_eq!(*test.pixels(), image_file(TEST)[16..]);
    assert_eq!(train.classes(), ["0", "1", "2"]);
    assert_eq!(train.class_counts(), [4; 3]);
    assert_eq!(test.labels(), [0, 1, 2, 0, 1, 2]);

    let other = folder_of(&[
        ("train-images.idx3-ubyte.gz", &gzip(&image_file(TRAIN))),
        ("train-labels-idx1-ubyte.gz", &label_file(TRAIN)),
        ("test-images.idx3-ubyte", &image_file(TEST)),
        ("t10k-labels-idx1-ubyte", &gzip(&label_file(TEST))),
        // Less plain than the right ones, so not read.
        ("train-labels.idx1-ubyte.gz", b"no IDX"),
        ("other-train-images-idx3-ubyte", b"no IDX"),
    ]);
    assert_eq!(read(other.path()), (train, test));
}

/// More images than the `mnist` crate takes at once: two blocks to train on, three to test on.
#[test]
fn images_beyond_the_sizes_of_mnist_are_all_read_in_order() {
    let (train, test) = (60_002, 20_003);
    let folder = folder_of(&[
        ("train-images-idx3-ubyte", &image_file(train)),
        ("train-labels-idx1-ubyte", &label_file(train)),
        ("t10k-images-idx3-ubyte", &image_file(test)),
        ("t10k-labels-idx1-ubyte", &label_file(test)),
    ]);
    let (trained, tested) = read(folder.path());
    for (images, count) in [(trained, train), (tested, test)] {
        assert!(*images.pixels() == image_file(count)[16..]);
        let labels = label_file(count).into_iter().skip(8).map(u32::from);
        assert!(images.labels().iter().copied().eq(labels));
    }
}

#[test]
fn there_may_be_fewer_images_to_train_on_than_to_test_on() {
    let folder = tempfile::tempdir().unwrap();
    add_emnist(&folder, "small", &[0, 1], &[1, 0, 1]);
    let (train, test) = read(folder.path());
    assert_eq!((train.len(), test.len()), (2, 3));
}

#[test]
fn classes_go_to_the_largest_label_of_both_parts() {
    let folder = tempfile::tempdir().unwrap();
    add_emnist(&folder, "emnist-balanced", &[0, 3, 3], &[46, 0]);
    let (train, test) = read(folder.path());
    assert_eq!(train.classes(), test.classes());
    let numbers: Vec<String> = (0..47).map(|label| label.to_string()).collect();
    assert_eq!(train.classes(), numbers);
    assert_eq!(
        (train.labels(), test.labels()),
        (&[0, 3, 3][..], &[46, 0][..])
    );
    assert_eq!(train.class_counts()[..5], [1, 0, 0, 2, 0]);
}

#[test]
fn the_classes_of_letters_have_the_names_of_the_mapping() {
    let folder = tempfile::tempdir().unwrap();
    let letters: Vec<u8> = (1..=26).collect();
    add_emnist(&folder, "emnist-letters", &letters, &[26, 1]);
    let lines = (1..=26).map(|label| format!("{label} {} {}\n", label + 64, label + 96));
    let mapping = folder.path().join("emnist-letters-mapping.txt");
    fs::write(mapping, lines.collect::<String>()).unwrap();
    let (train, test) = read(folder.path());
    assert_eq!(train.classes().len(), 27);
    // No image has the label 0, and no line names it.
    assert_eq!(train.classes()[..3], ["0", "Aa", "Bb"]);
    assert_eq!(test.classes()[test.labels()[0] as usize], "Zz");
    assert_eq!(train.class_counts()[..2], [0, 1]);
}

#[test]
fn a_mapping_of_another_form_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    add_emnist(&folder, "set", &[0, 1, 2], &[0]);
    let mapping = folder.path().join("set-mapping.txt");
    for (text, expected) in [
        ("0 65\n1\n", "in line 2: `1`"),
        ("0 65\n\n", "in line 2: ``"),
        ("0 A", "in line 1: `0 A`"),
        ("0 65\n256 66", "in line 2: `256 66`"),
        ("0 65\n1 32", "in line 2: `1 32`"),
        ("0 65\n0 66", "a label that it has already in line 2"),
        ("0 65\n1 65", "gives two classes the name `A`"),
        // Label 2 has no line, and keeps its number.
        ("0 65\n1 50", "gives two classes the name `2`"),
    ] {
        fs::write(&mapping, text).unwrap();
        assert_format(&error(folder.path()), &mapping, expected);
    }
    fs::write(&mapping, "2 97 65\r\n0 48\r\n").unwrap();
    assert_eq!(read(folder.path()).0.classes(), ["0", "1", "aA"]);
}

#[test]
fn the_labels_of_qmnist_are_the_first_of_each_row() {
    // More rows than are read at a time.
    let many: Vec<i32> = (0..3000).map(|i| i * 7 % 10).collect();
    let folder = folder_of(&[
        (
            "qmnist-train-images-idx3-ubyte.gz",
            &gzip(&image_file(3000)),
        ),
        ("qmnist-train-labels-idx2-int.gz", &gzip(&label_rows(&many))),
        ("qmnist-test-images-idx3-ubyte", &image_file(3)),
        ("qmnist-test-labels-idx2-int", &label_rows(&[255, 0, 9])),
    ]);
    let (train, test) = read(folder.path());
    assert!(
        train
            .labels()
            .iter()
            .copied()
            .eq(many.iter().map(|&label| label as u32))
    );
    assert_eq!(test.labels(), [255, 0, 9]);

    let path = folder.path().join("qmnist-test-labels-idx2-int");
    let mut nine_columns = label_rows(&[0; 3]);
    nine_columns[11] = 9;
    for (bytes, expected) in [
        (label_rows(&[0, 256, 0]), "has the label 256 at position 1"),
        (label_rows(&[0, 0, -1]), "has the label -1 at position 2"),
        (nine_columns, "holds labels in 9 columns"),
        (
            label_rows(&[0; 3])[..107].to_vec(),
            "cut short: 107 bytes unpacked of 108",
        ),
    ] {
        fs::write(&path, bytes).unwrap();
        assert_format(&error(folder.path()), &path, expected);
    }
}

#[test]
fn one_of_several_sets_is_chosen_by_what_its_files_begin_with() {
    let folder = tempfile::tempdir().unwrap();
    add_emnist(&folder, "emnist-digits", &[0, 1], &[0]);
    add_emnist(&folder, "emnist-letters", &[1, 2], &[2]);
    // What some systems put next to each file.
    let hidden = folder
        .path()
        .join("._emnist-mnist-train-images-idx3-ubyte.gz");
    fs::write(hidden, "").unwrap();
    let one = folder.path().join("emnist-digits");
    let expected = format!(
        "holds several sets: emnist-digits, emnist-letters; name one, as in mnist:{}",
        one.display()
    );
    assert_format(&error(folder.path()), folder.path(), &expected);
    assert_eq!(read(&one).0.labels(), [0, 1]);
    let (train, test) = read(&folder.path().join("emnist-letters"));
    assert_eq!((train.labels(), test.labels()), (&[1, 2][..], &[2][..]));

    for none in ["emnist", "emnist-letter", "emnist-letters-", "emnist-mnist"] {
        let path = folder.path().join(none);
        assert_format(&error(&path), &path, "not a folder");
    }
    fs::remove_file(
        folder
            .path()
            .join("emnist-letters-test-labels-idx1-ubyte.gz"),
    )
    .unwrap();
    let error = error(&folder.path().join("emnist-letters"));
    assert_format(
        &error,
        folder.path(),
        "lacks emnist-letters-t10k-labels-idx1-ubyte;",
    );
}

#[test]
fn rows_and_columns_are_swapped_on_request() {
    let folder = sound_folder();
    let (straight, _) = read(folder.path());
    let options = FolderOptions {
        transposed: true,
        ..FolderOptions::default()
    };
    let Loaded { images, test, .. } = (FORM.load)(folder.path(), &options).unwrap();
    let (train, test) = (images, test.unwrap());
    for images in [&train, &test] {
        for i in 0..images.len() {
            for (row, column) in [(0, 0), (0, 27), (27, 0), (3, 19), (19, 3)] {
                let at = images.image(i)[row * 28 + column];
                assert_eq!(at, straight.image(i)[column * 28 + row]);
            }
        }
    }
    assert_eq!(train.labels(), straight.labels());
}

#[test]
fn a_missing_folder_or_a_file_in_its_place_is_not_a_folder() {
    let folder = folder_of(&[("file", b"")]);
    for path in ["none", "file", "none/none"] {
        let path = folder.path().join(path);
        assert_format(&error(&path), &path, "not a folder");
    }
}

#[test]
fn all_missing_files_are_named() {
    let folder = folder_of(&[("t10k-images.idx3-ubyte.gz", b"")]);
    let error = error(folder.path()).to_string();
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
    assert_format(&error(folder.path()), &path, "not a regular file");
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let images = image_file(TEST);
    for (length, of) in [
        (0, "where the header alone takes more"),
        (3, "where the header alone takes more"),
        (15, "where the header alone takes more"),
        (16, "of 4720"),
        (images.len() - 1, "of 4720"),
    ] {
        let expected = format!("is cut short: {length} bytes unpacked");
        assert_refused("t10k-images-idx3-ubyte", &images[..length], &expected);
        assert_refused("t10k-images-idx3-ubyte", &images[..length], of);
    }
    let labels = label_file(TRAIN);
    let cut = &labels[..labels.len() - 1];
    let expected = "is cut short: 19 bytes unpacked of 20;";
    assert_refused("train-labels-idx1-ubyte", cut, expected);
}

#[test]
fn a_trailing_byte_is_refused() {
    let mut labels = label_file(TEST);
    labels.push(0);
    for bytes in [gzip(&labels), labels] {
        let expected = "goes on after the 14 bytes";
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
    for labels in [label_file(TRAIN), label_rows(&[0; TRAIN as usize])] {
        let expected = "holds labels, not images";
        assert_refused("train-images-idx3-ubyte", &labels, expected);
    }
    let images = image_file(TEST);
    assert_refused(
        "t10k-labels-idx1-ubyte",
        &images,
        "holds images, not labels",
    );
}

#[test]
fn images_and_labels_of_different_counts_are_both_named() {
    let folder = sound_folder();
    let [images, labels] =
        ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"].map(|name| folder.path().join(name));
    fs::write(&labels, label_file(TRAIN)).unwrap();
    let labels = labels.display();
    let expected = format!("holds 6 images, but {labels} holds 12 labels");
    assert_format(&error(folder.path()), &images, &expected);
}

#[test]
fn no_images_and_absurdly_many_are_refused_by_the_header() {
    let images = "t10k-images-idx3-ubyte";
    assert_refused(images, &image_file(0), "holds no images");
    assert_refused("train-labels-idx1-ubyte", &label_file(0), "holds no labels");
    for count in [MOST + 1, u32::MAX] {
        let bytes = idx_file([8, 3], &[count, 28, 28], Vec::new());
        let expected = format!("announces {count} images; at most 10000000 are read");
        assert_refused(images, &bytes, &expected);
    }
    let most = idx_file([8, 3], &[MOST, 28, 28], Vec::new());
    assert_refused(images, &most, "holds 10000000 images, but");
}

#[test]
fn images_of_another_size_are_refused() {
    let bytes = idx_file([8, 3], &[TEST, 32, 28], vec![0; 32 * 28 * TEST as usize]);
    let expected = "holds images of 32x28 pixels; MNIST's format requires 28x28";
    assert_refused("t10k-images-idx3-ubyte", &bytes, expected);
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
fn a_gzip_bomb_is_read_no_further_than_the_announced_size() {
    struct Counted<'a>(&'a mut u64, Cursor<Vec<u8>>);
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let header = self.1.read(buffer)?;
            let read = if header > 0 { header } else { buffer.len() };
            *self.0 += read as u64;
            Ok(read)
        }
    }
    // Endless zeros after a sound header, as a bomb unpacks to.
    for (header, whole, kept) in [
        (idx_file([8, 1], &[10_000], Vec::new()), 10_008, 10_000),
        (
            idx_file([0xc, 2], &[10_000, 8], Vec::new()),
            320_012,
            10_000,
        ),
    ] {
        let mut taken = 0;
        let bomb = Counted(&mut taken, Cursor::new(header));
        let packed = BufReader::with_capacity(1, bomb);
        let reader = Reader::open(Path::new("bomb"), packed, Contents::Labels).unwrap();
        let mut sink = Vec::new();
        let error = reader.unpack(&mut sink).unwrap_err();
        assert!(error.to_string().contains("goes on after"), "{error}");
        assert_eq!((taken, sink.len()), (whole + 1, kept));
    }
}
