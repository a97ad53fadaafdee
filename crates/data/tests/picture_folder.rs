//! Folders of pictures as a user may have them, right and wrong.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use data::{
    DataError, FolderOptions, Framing, ImageShape, Loaded, Part, Store, picture_folder,
    read_picture,
};
use image::{DynamicImage, GrayImage, ImageEncoder, Rgb, RgbImage};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 8,
    width: 8,
};

fn options() -> FolderOptions<'static> {
    FolderOptions {
        shape: SHAPE,
        ..FolderOptions::default()
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a picture of one colour, whose number it is.
fn save(path: PathBuf, number: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(8, 8, Rgb([number, 0, 255]))
        .save(path)
        .unwrap();
}

/// Three classes of 10, 20 and 5 pictures.
fn three_classes(root: &Path) {
    let mut number = 0;
    for (class, count) in [("b", 20), ("a", 10), ("c", 5)] {
        for i in 0..count {
            save(root.join(class).join(format!("{i:02}.png")), number);
            number += 1;
        }
    }
}

fn read(root: &Path, options: &FolderOptions) -> Loaded {
    picture_folder(root, options).unwrap()
}

fn fault(root: &Path) -> DataError {
    picture_folder(root, &options()).unwrap_err()
}

/// Asserts that a folder is refused for its layout, with these words.
fn assert_refused(root: &Path, words: &str) {
    let error = fault(root);
    assert!(
        matches!(&error, DataError::Format { problem, .. } if problem.contains(words)),
        "{error:?}"
    );
}

#[test]
fn every_picture_is_read_in_order_and_known_by_its_file() {
    let root = folder();
    three_classes(root.path());
    let (first, last) = (Cell::new(None), Cell::new((0, 0)));
    let told = |done, all| {
        first.set(first.get().or(Some((done, all))));
        last.set((done, all));
    };
    let one = read(
        root.path(),
        &FolderOptions {
            progress: &told,
            ..options()
        },
    );
    assert_eq!((first.get(), last.get()), (Some((0, 35)), (35, 35)));
    assert_eq!(one.images.classes(), ["a", "b", "c"]);
    assert_eq!(one.images.class_counts(), [10, 20, 5]);
    assert_eq!(one.given, [None; 35]);
    assert!(one.notes.is_empty(), "{:?}", one.notes);
    let numbers: Vec<u8> = (0..35).map(|i| one.images.image(i)[0]).collect();
    assert_eq!(
        numbers,
        [
            Vec::from_iter(20..30),
            Vec::from_iter(0..20),
            Vec::from_iter(30..35)
        ]
        .concat()
    );
    assert_eq!(one.images.name(10), "b/00.png");
    let file = fs::read(root.path().join("b/00.png")).unwrap();
    let expected: [u8; 32] = Sha256::digest(&file).into();
    assert_eq!(one.images.content(10), Some(&expected));
}

#[test]
fn one_channel_is_given_to_pictures_that_are_all_grey_where_that_is_asked_for() {
    let root = folder();
    for number in 0..3u8 {
        for class in ["a", "b"] {
            let path = root.path().join(format!("{class}/{number}.png"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let picture = RgbImage::from_pixel(8, 8, Rgb([40 * number; 3]));
            picture.save(path).unwrap();
        }
    }
    let channels = |grey_as_found| {
        let options = FolderOptions {
            grey_as_found,
            ..options()
        };
        read(root.path(), &options).images.shape().channels
    };
    assert_eq!((channels(true), channels(false)), (1, 3));
    save(root.path().join("b/colour.png"), 7);
    assert_eq!(channels(true), 3);
}

#[test]
fn a_file_of_pixels_holds_the_same_images_as_memory() {
    let root = folder();
    three_classes(root.path());
    let [memory, disk] = [Store::Memory, Store::Disk]
        .map(|store| read(root.path(), &FolderOptions { store, ..options() }).images);
    assert_eq!(memory, disk);
    assert_eq!(memory.pixels(), disk.pixels());
    assert_eq!(memory.pixel_hashes(), disk.pixel_hashes());
    let [memory, disk] = [memory, disk].map(|images| images.select(&[5, 0, 5]));
    assert_eq!(memory, disk);
    assert_eq!(memory.name(0), "a/05.png");
    assert_eq!(disk.name(0), "a/05.png");
    assert_ne!(disk, disk.select(&[1, 0, 2]));
}

#[test]
fn train_and_test_are_taken_as_the_split() {
    let root = folder();
    for (path, number) in [
        ("train/x/1.png", 1),
        ("train/x/2.png", 2),
        ("train/y/1.png", 3),
        ("test/y/1.png", 4),
        ("test/z/1.png", 5),
    ] {
        save(root.path().join(path), number);
    }
    let read = read(root.path(), &options());
    assert_eq!(read.images.classes(), ["x", "y", "z"]);
    let parts: Vec<(String, Option<Part>)> = (0..5)
        .map(|i| (read.images.name(i).into_owned(), read.given[i]))
        .collect();
    for (name, part) in parts {
        let expected = match name.starts_with("test/") {
            true => Part::Test,
            false => Part::Train,
        };
        assert_eq!(part, Some(expected), "{name}");
    }

    save(root.path().join("other/1.png"), 6);
    assert_refused(
        root.path(),
        "sub-folders `test` and `train`, which make a split, next to `other`",
    );
}

#[test]
fn nested_classes_of_a_split_within_a_folder_are_read() {
    let root = folder();
    for (path, number) in [
        ("set/Training/g/x/1.png", 1),
        ("set/Training/h/y/1.png", 2),
        ("set/Testing/h/y/1.png", 3),
    ] {
        save(root.path().join(path), number);
    }
    let read = read(root.path(), &options());
    assert_eq!(read.images.classes(), ["g/x", "h/y"]);
    let parts = &read.given;
    let of = |part| (0..parts.len()).filter(move |&i| parts[i] == Some(part));
    let seen = |part| {
        let seen = of(part).map(|i| (read.images.labels()[i], read.images.image(i)[0]));
        seen.collect::<Vec<_>>()
    };
    assert_eq!(seen(Part::Train), [(0, 1), (1, 2)]);
    assert_eq!(seen(Part::Test), [(1, 3)]);
    assert_eq!(read.notes.len(), 2, "{:?}", read.notes);
}

#[test]
fn every_format_is_read_to_the_same_picture() {
    let root = folder();
    let picture = DynamicImage::from(RgbImage::from_fn(8, 8, |x, y| {
        Rgb([if x < 4 { 255 } else { 0 }, 0, if y < 4 { 255 } else { 0 }])
    }));
    for extension in ["bmp", "gif", "png", "ppm", "qoi", "tiff", "webp"] {
        let path = root.path().join(format!("picture.{extension}"));
        picture.save(&path).unwrap();
        let read = read_picture(&path, SHAPE, Framing::Letterbox).unwrap();
        assert_eq!(
            read.pixels[..64],
            [[255, 255, 255, 255, 0, 0, 0, 0]; 8].concat()
        );
        assert_eq!(read.pixels[64..128], [0; 64], "{extension}");
    }
}

#[test]
fn corrupt_pictures_are_all_listed_and_left_out_where_asked() {
    let root = folder();
    three_classes(root.path());
    let whole = fs::read(root.path().join("a/00.png")).unwrap();
    fs::write(root.path().join("a/cut.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(root.path().join("b/empty.jpg"), "").unwrap();
    // A picture by its content, whatever its name.
    fs::write(root.path().join("b/picture.data"), &whole).unwrap();
    fs::write(root.path().join("b/notes.txt"), "these are mine").unwrap();
    fs::write(root.path().join("b/.hidden.png"), "").unwrap();
    fs::write(root.path().join("LICENCE"), "fair").unwrap();
    fs::create_dir(root.path().join("b/deeper")).unwrap();
    fs::create_dir(root.path().join("empty")).unwrap();
    let DataError::CorruptPictures { pictures, faults } = fault(root.path()) else {
        panic!("accepted");
    };
    assert_eq!((pictures, faults.len()), (38, 2));
    assert!(
        faults[0].contains("cut.png") && faults[1].contains("empty.jpg"),
        "{faults:?}"
    );

    let read = read(
        root.path(),
        &FolderOptions {
            skip_corrupt: true,
            ..options()
        },
    );
    assert_eq!(read.images.len(), 36);
    for named in [
        "cut.png",
        "empty.jpg",
        "notes.txt",
        "LICENCE",
        "deeper",
        "class empty",
    ] {
        let count = read
            .notes
            .iter()
            .filter(|note| note.contains(named))
            .count();
        assert_eq!(count, 1, "{named}: {:?}", read.notes);
    }
    assert_eq!(read.notes.len(), 6, "{:?}", read.notes);
}

#[test]
fn a_folder_of_another_layout_is_refused() {
    let root = folder();
    let missing = root.path().join("missing");
    assert_refused(&missing, "not a folder");
    assert_refused(root.path(), "is empty");
    save(root.path().join("loose.png"), 1);
    assert_refused(root.path(), "has 1 picture and no sub-folders");
    fs::create_dir(root.path().join("class")).unwrap();
    assert_refused(
        root.path(),
        "has 1 picture and 1 sub-folder without pictures",
    );
    save(root.path().join("class/1.png"), 1);
    assert_eq!(read(root.path(), &options()).images.len(), 1);
}

#[cfg(unix)]
#[test]
fn links_that_lead_nowhere_are_corrupt_and_names_that_are_not_utf8_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    let root = folder();
    three_classes(root.path());
    symlink("itself.png", root.path().join("a/itself.png")).unwrap();
    symlink("..", root.path().join("a/above")).unwrap();
    let DataError::CorruptPictures { faults, .. } = fault(root.path()) else {
        panic!("accepted");
    };
    assert!(
        faults.len() == 1 && faults[0].contains("itself.png"),
        "{faults:?}"
    );
    fs::create_dir(root.path().join(OsStr::from_bytes(b"\xff"))).unwrap();
    assert_refused(root.path(), "a name that is not UTF-8");
}

#[test]
fn a_letterbox_keeps_the_proportions_and_fills_with_the_border() {
    let root = folder();
    let path = root.path().join("wide.png");
    // 16x8: red, with a blue block in the middle.
    RgbImage::from_fn(16, 8, |x, y| {
        match (4..12).contains(&x) && (2..6).contains(&y) {
            true => Rgb([0, 0, 255]),
            false => Rgb([255, 0, 0]),
        }
    })
    .save(&path)
    .unwrap();
    let read = read_picture(&path, SHAPE, Framing::Letterbox).unwrap();
    let (red, blue) = (&read.pixels[..64], &read.pixels[128..]);
    // 8x4 in the middle of 8x8.
    assert_eq!(red[..16], [255; 16]);
    assert_eq!(red[48..], [255; 16]);
    assert!(blue[3 * 8 + 3] > 230 && blue[4 * 8 + 4] > 230, "{blue:?}");
    assert_eq!(blue[..16], [0; 16]);
    let said = read.treatment[0].to_string();
    assert!(said.contains("from 16x8 to 8x4"), "{said}");
}

#[test]
fn a_picture_is_turned_as_its_exif_orientation_says() {
    let root = folder();
    let path = root.path().join("turned.jpg");
    // Dark on the left; orientation 6 turns it by 90 degrees clockwise: dark on top.
    let picture = GrayImage::from_fn(16, 16, |x, _| [if x < 8 { 0 } else { 255 }].into());
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new(&mut bytes);
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    encoder.set_exif_metadata(exif.to_vec()).unwrap();
    encoder
        .write_image(&picture, 16, 16, image::ExtendedColorType::L8)
        .unwrap();
    fs::write(&path, bytes).unwrap();
    let shape = ImageShape {
        channels: 1,
        height: 16,
        width: 16,
    };
    let read = read_picture(&path, shape, Framing::Letterbox).unwrap();
    let (top, bottom) = (&read.pixels[..32], &read.pixels[224..]);
    assert!(top.iter().all(|&v| v < 20) && bottom.iter().all(|&v| v > 235));
}
