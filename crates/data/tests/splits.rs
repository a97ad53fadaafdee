//! How a folder of pictures is divided, and stays divided.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use data::{
    DataError, Dataset, FolderOptions, ImageShape, Manifest, Part, Source, SplitBy, SplitOptions,
};
use image::{Rgb, RgbImage};
use tempfile::TempDir;

/// Writes a picture that no other number gives.
fn save(path: &Path, number: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let bytes = number.to_le_bytes();
    let picture = RgbImage::from_fn(4, 4, |x, _| match x {
        0 => Rgb([bytes[0], bytes[1], bytes[2]]),
        x => Rgb([x as u8, 0, 0]),
    });
    picture.save(path).unwrap();
}

/// A folder of `classes` classes of `each` pictures.
fn folder(classes: usize, each: usize) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for class in 0..classes {
        add(root.path(), class, 0..each);
    }
    root
}

fn add(root: &Path, class: usize, pictures: std::ops::Range<usize>) {
    for i in pictures {
        let path = root.join(format!("class{class:02}/{i:03}.png"));
        save(&path, (class * 1000 + i) as u32);
    }
}

fn try_load(root: &Path, split: SplitOptions) -> Result<Dataset, DataError> {
    let options = FolderOptions {
        shape: ImageShape {
            channels: 3,
            height: 4,
            width: 4,
        },
        ..FolderOptions::default()
    };
    Source::Folder(root.into()).load(&split, &options)
}

fn load(root: &Path, split: SplitOptions) -> Dataset {
    try_load(root, split).unwrap()
}

/// The part of each image.
fn parts(manifest: &Manifest) -> BTreeMap<String, Part> {
    let images = manifest.images().iter();
    images
        .map(|image| (image.name.clone(), image.part))
        .collect()
}

/// The classes that have images of `part`.
fn classes(set: &Dataset, part: Part) -> BTreeSet<&str> {
    let images = set.manifest.images().iter();
    let images = images.filter(|image| image.part == part);
    images.map(|image| image.class.as_str()).collect()
}

/// How many images of each class `images` has, of those with any.
fn counts(images: &data::LabelledImages) -> Vec<usize> {
    let counts = images.class_counts().into_iter();
    counts.filter(|&count| count > 0).collect()
}

#[test]
fn from_a_dozen_classes_on_whole_ones_are_held_out() {
    let root = folder(20, 10);
    let set = load(root.path(), SplitOptions::default());
    assert_eq!(set.split, SplitBy::Classes);
    let [train, validation, test, closed] =
        [Part::Train, Part::Validation, Part::Test, Part::ClosedTest]
            .map(|part| classes(&set, part));
    assert!(test.len() >= 4 && validation.len() >= 3);
    assert_eq!(train.len() + validation.len() + test.len(), 20);
    assert!(train.is_disjoint(&validation) && train.is_disjoint(&test));
    assert!(closed.is_subset(&train) && closed.len() == 8, "{closed:?}");
    assert!(set.new_test_classes && set.new_validation_classes);
    // Held-out classes whole, of trained ones a fifth for the closed set.
    assert!(counts(&set.test).iter().all(|&count| count == 10));
    assert!(
        counts(set.closed_test.as_ref().unwrap())
            .iter()
            .all(|&count| count == 2)
    );
    let by_images = load(
        root.path(),
        SplitOptions {
            by: SplitBy::Images,
            ..SplitOptions::default()
        },
    );
    assert_eq!(by_images.split, SplitBy::Images);
    assert!(!by_images.new_test_classes && by_images.closed_test.is_none());
}

#[test]
fn ten_five_and_three_pictures_a_class_give_pairs_in_every_part() {
    for (number, each, by) in [
        (10, 10, SplitBy::Images),
        (6, 10, SplitBy::Images),
        (2, 10, SplitBy::Images),
        (2, 6, SplitBy::Images),
        (8, 5, SplitBy::Classes),
        (4, 5, SplitBy::Images),
        (6, 3, SplitBy::Classes),
        (30, 3, SplitBy::Classes),
        (12, 2, SplitBy::Classes),
    ] {
        let root = folder(number, each);
        for seed in 1..5 {
            let set = load(
                root.path(),
                SplitOptions {
                    seed,
                    ..SplitOptions::default()
                },
            );
            assert_eq!(set.split, by, "{number} classes of {each}");
            for images in [&*set.train, &set.validation, &set.test] {
                let counts = counts(images);
                assert!(counts.len() > 1, "{number} of {each}: {counts:?}");
                assert!(counts.iter().any(|&count| count > 1), "{number} of {each}");
            }
        }
    }
}

#[test]
fn pictures_keep_their_parts_as_a_folder_grows() {
    let root = folder(5, 100);
    let before = load(root.path(), SplitOptions::default());
    let shares = [before.test.len(), before.validation.len()];
    assert!(
        (70..130).contains(&shares[0]) && (25..60).contains(&shares[1]),
        "{shares:?}"
    );
    for class in 0..5 {
        add(root.path(), class, 100..140);
    }
    let after = load(root.path(), SplitOptions::default());
    let (before, after) = (parts(&before.manifest), parts(&after.manifest));
    assert_eq!(after.len(), before.len() + 200);
    for (name, part) in before {
        assert_eq!(after[&name], part, "{name}");
    }
}

#[test]
fn what_was_trained_on_is_never_tested_on_whatever_becomes_of_it() {
    for (number, each) in [(4, 10), (16, 6)] {
        let root = folder(number, each);
        let first = load(root.path(), SplitOptions::default());
        let used: BTreeSet<String> = first
            .manifest
            .images()
            .iter()
            .filter(|image| image.part.is_used())
            .map(|image| image.pixels.clone())
            .collect();
        // New pictures, renamed ones, copies, and a class under another name.
        for class in 0..number {
            add(root.path(), class, each..2 * each);
            let of = |i: usize| root.path().join(format!("class{class:02}/{i:03}.png"));
            fs::rename(of(0), root.path().join(format!("class{class:02}/a.png"))).unwrap();
            let other = format!("class{:02}/copy.png", (class + 1) % number);
            fs::copy(of(1), root.path().join(other)).unwrap();
            // The same pixels in another file.
            let other = root.path().join(format!("class{class:02}/same.bmp"));
            image::open(of(2)).unwrap().save(other).unwrap();
        }
        fs::rename(root.path().join("class01"), root.path().join("renamed")).unwrap();
        let again = load(
            root.path(),
            SplitOptions {
                before: Some(&first.manifest),
                ..SplitOptions::default()
            },
        );
        let tested = again.manifest.images().iter();
        let tested: Vec<_> = tested
            .filter(|image| image.part >= Part::ClosedTest)
            .collect();
        assert!(tested.len() > number, "{}", tested.len());
        for image in &tested {
            assert!(
                !used.contains(&image.pixels),
                "{}: {:?}",
                image.name,
                image.part
            );
        }
        // The images of the former test are still for the test, but for copies in other classes.
        for image in first.manifest.images() {
            let mut now = again.manifest.images().iter();
            let now = now.find(|other| other.name == image.name && other.class == image.class);
            if let Some(now) = now {
                assert_eq!(now.part.is_used(), image.part.is_used(), "{}", now.name);
            }
        }
        let changes = first.manifest.changes(&again.manifest);
        assert_eq!(changes.renamed.len(), number - 1);
        assert_eq!(changes.reclassed.len(), each);
        assert_eq!(changes.new.len(), number * each + 2 * number);
    }
}

#[test]
fn copies_count_once_and_are_told() {
    let root = folder(3, 20);
    for class in 0..3 {
        for i in 0..20 {
            let path = |suffix: &str| root.path().join(format!("class{class:02}/{i:03}{suffix}"));
            fs::copy(path(".png"), path("b.png")).unwrap();
        }
    }
    let set = load(root.path(), SplitOptions::default());
    for images in [&set.validation, &set.test] {
        let hashes = images.pixel_hashes();
        assert_eq!(BTreeSet::from_iter(&hashes).len(), hashes.len());
        let trained = set.train.pixel_hashes();
        assert!(hashes.iter().all(|hash| !trained.contains(hash)));
    }
    let again = load(
        root.path(),
        SplitOptions {
            before: Some(&set.manifest),
            ..SplitOptions::default()
        },
    );
    assert!(parts(&again.manifest) == parts(&set.manifest));
    let held_out = set.test.len() + set.validation.len();
    let said = set.notes.join("\n");
    assert!(
        said.contains(&format!("{held_out} images held out are copies of others")),
        "{said}"
    );
    assert!(
        said.contains(&format!("{} images to train on are copies", 60 - held_out)),
        "{said}"
    );
}

#[test]
fn a_picture_of_test_that_is_in_train_is_left_out() {
    let root = tempfile::tempdir().unwrap();
    for class in ["x", "y"] {
        for i in 0..6 {
            let number = i + 100 * u32::from(class == "y");
            save(&root.path().join(format!("train/{class}/{i}.png")), number);
            save(
                &root.path().join(format!("test/{class}/{i}.png")),
                10 + number,
            );
        }
    }
    let copy =
        |from: &str, to: &str| fs::copy(root.path().join(from), root.path().join(to)).unwrap();
    copy("train/x/0.png", "test/x/0.png");
    copy("train/x/1.png", "test/y/1.png");
    let set = load(root.path(), SplitOptions::default());
    assert_eq!(counts(&set.test), [5, 5]);
    let said = set.notes.join("\n");
    assert!(
        said.contains("2 images held out are copies of ones trained on"),
        "{said}"
    );
    assert!(said.contains("1 image is also in another class"), "{said}");
    for class in ["x", "y"] {
        for i in 0..6 {
            copy(
                &format!("train/{class}/{i}.png"),
                &format!("test/{class}/{i}.png"),
            );
        }
    }
    let error = try_load(root.path(), SplitOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("nothing is left to test on"),
        "{error}"
    );
}

#[test]
fn classes_to_hold_out_may_be_patterns_with_a_split_of_ones_own_too() {
    let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let root = folder(15, 8);
    let hold_out = named(&["class0[0-2]", "class14"]);
    let split = SplitOptions {
        hold_out: &hold_out,
        ..SplitOptions::default()
    };
    let set = load(root.path(), split);
    let expected = BTreeSet::from(["class00", "class01", "class02", "class14"]);
    assert_eq!(classes(&set, Part::Test), expected);
    assert_eq!(counts(&set.test), [8; 4]);
    assert!(set.new_test_classes && set.new_validation_classes);
    let unknown = named(&["classe*"]);
    let split = SplitOptions {
        hold_out: &unknown,
        ..split
    };
    let error = try_load(root.path(), split).unwrap_err().to_string();
    assert!(error.contains("no class `classe*`"), "{error}");

    // Classes that are in train alone.
    let root = tempfile::tempdir().unwrap();
    for (part, numbers) in [("train", 0..6), ("test", 4..6)] {
        for class in numbers {
            for i in 0..8 {
                let path = root.path().join(format!("{part}/c{class}/{i}.png"));
                save(&path, class * 100 + i + 50 * u32::from(part == "test"));
            }
        }
    }
    let hold_out = named(&["c[01]"]);
    let split = SplitOptions {
        hold_out: &hold_out,
        ..SplitOptions::default()
    };
    let set = load(root.path(), split);
    assert_eq!(classes(&set, Part::Test), BTreeSet::from(["c0", "c1"]));
    assert_eq!(
        classes(&set, Part::ClosedTest),
        BTreeSet::from(["c4", "c5"])
    );
}

#[test]
fn another_folder_is_tested_whole() {
    let root = folder(3, 10);
    let split = SplitOptions {
        only_test: true,
        ..SplitOptions::default()
    };
    let set = load(root.path(), split);
    assert_eq!(counts(&set.test), [10; 3]);
    assert!(set.train.is_empty() && set.validation.is_empty());
}

#[test]
fn without_a_test_the_validation_images_are_judged() {
    let root = folder(4, 10);
    let split = SplitOptions {
        test: 0.0,
        ..SplitOptions::default()
    };
    let set = load(root.path(), split);
    assert!(set.tests_validation);
    assert_eq!(set.test, set.validation);
    assert_eq!(set.train.len() + set.validation.len(), 40);
    for test in [-0.1, 1.0, f64::NAN] {
        let error = try_load(root.path(), SplitOptions { test, ..split }).unwrap_err();
        assert!(matches!(error, DataError::Setting { name: "test", .. }));
    }
}

#[test]
fn blank_pictures_and_classes_of_one_are_told() {
    let root = folder(3, 8);
    for (name, level) in [("class00/blank.png", 9), ("class01/blank.png", 7)] {
        let blank = RgbImage::from_pixel(4, 4, Rgb([level, 2, 3]));
        blank.save(root.path().join(name)).unwrap();
    }
    save(&root.path().join("alone/1.png"), 77);
    let set = load(root.path(), SplitOptions::default());
    let said = set.notes.join("\n");
    assert!(
        said.contains("2 images are blank") && said.contains("class01/blank.png"),
        "{said}"
    );
    assert!(
        said.contains("1 class has a single image") && said.contains("alone"),
        "{said}"
    );
}

/// As [`load`], for a network that is trained already on what `before` says.
fn judge(root: &Path, before: &Manifest) -> Dataset {
    load(
        root,
        SplitOptions {
            before: Some(before),
            trained: true,
            ..SplitOptions::default()
        },
    )
}

/// The pictures of `set` of this part, by class.
fn of_part(set: &Dataset, part: Part) -> Vec<(String, String)> {
    let images = set.manifest.images().iter();
    let images = images.filter(|image| image.part == part);
    images
        .map(|image| (image.class.clone(), image.name.clone()))
        .collect()
}

#[test]
fn what_was_trained_on_is_not_forgotten_in_a_class_that_is_tested_on() {
    let root = folder(16, 6);
    let first = load(root.path(), SplitOptions::default());
    let [(tested, _), ..] = &of_part(&first, Part::Test)[..] else {
        panic!("nothing is tested on");
    };
    let (class, name) = of_part(&first, Part::Train).remove(0);
    let to = |name: &str| root.path().join(tested).join(name);
    fs::rename(root.path().join(&name), to("moved.png")).unwrap();
    let options = |before| SplitOptions {
        before: Some(before),
        ..SplitOptions::default()
    };
    // A run that starts from the first one's weights, and one from that one's.
    let second = load(root.path(), options(&first.manifest));
    fs::rename(to("moved.png"), to("again.png")).unwrap();
    let third = load(root.path(), options(&second.manifest));
    for set in [&second, &third, &judge(root.path(), &second.manifest)] {
        let tests = of_part(set, Part::Test);
        assert!(tests.iter().any(|(of, _)| of == tested), "{class}");
        for name in ["moved.png", "again.png"] {
            assert!(
                !tests.iter().any(|(_, test)| test.ends_with(name)),
                "{name}"
            );
        }
    }
}

#[test]
fn a_class_under_another_name_keeps_its_part() {
    let root = folder(16, 6);
    let first = load(root.path(), SplitOptions::default());
    for (n, part) in [Part::Train, Part::Validation, Part::Test]
        .into_iter()
        .enumerate()
    {
        let (class, _) = of_part(&first, part).remove(0);
        let other = format!("other{n}");
        fs::rename(root.path().join(class), root.path().join(&other)).unwrap();
        let now = load(
            root.path(),
            SplitOptions {
                before: Some(&first.manifest),
                ..SplitOptions::default()
            },
        );
        let images = now.manifest.images().iter();
        let mut images = images.filter(|image| image.class == other);
        assert!(images.all(|image| image.part == part), "{part:?}");
    }
}

#[test]
fn a_trained_network_was_not_trained_on_what_is_new_since() {
    for (number, each) in [(5, 10), (16, 6)] {
        let root = folder(number, each);
        let first = load(root.path(), SplitOptions::default());
        for class in 0..number {
            add(root.path(), class, each..each + 4);
        }
        for class in number..number + 4 {
            add(root.path(), class, 0..12);
        }
        let now = judge(root.path(), &first.manifest);
        assert_eq!(of_part(&now, Part::Train), of_part(&first, Part::Train));
        assert_eq!(
            of_part(&now, Part::Validation),
            of_part(&first, Part::Validation)
        );
        assert!(now.test.len() > first.test.len());
        assert_eq!(now.new_test_classes, first.new_test_classes);
    }
}

#[test]
fn the_file_tells_what_was_trained_on_at_another_size() {
    let root = folder(3, 8);
    let first = load(root.path(), SplitOptions::default());
    let options = FolderOptions {
        shape: ImageShape {
            channels: 3,
            height: 8,
            width: 8,
        },
        ..FolderOptions::default()
    };
    let split = SplitOptions {
        only_test: true,
        before: Some(&first.manifest),
        ..SplitOptions::default()
    };
    let source = Source::Folder(root.path().into());
    let other = source.load(&split, &options).unwrap();
    let (tests, now) = (of_part(&first, Part::Test), of_part(&other, Part::Test));
    assert!(
        now.len() > 2 && now.iter().all(|image| tests.contains(image)),
        "{now:?}"
    );
}
