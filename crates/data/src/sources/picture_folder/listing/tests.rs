//! Layouts that users have, right and wrong. The files are empty: only names count here, unless none
//! is that of a picture.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::Listing;
use crate::DataError;
use crate::dataset::Part;

/// A folder with these files, and folders where a path ends with `/`.
fn folder(paths: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for path in paths {
        let path_in = root.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(path_in).unwrap();
        } else {
            fs::create_dir_all(path_in.parent().unwrap()).unwrap();
            fs::write(path_in, "").unwrap();
        }
    }
    root
}

/// The listing, and its notes with paths from the folder on.
fn list(root: &Path) -> (Listing, Vec<String>) {
    let mut notes = Vec::new();
    let listing = Listing::of(root, &mut notes).unwrap();
    let within = format!("{}/", root.display());
    let whole = root.display().to_string();
    let notes = notes.iter();
    let notes = notes.map(|note| note.replace(&within, "").replace(&whole, "ROOT"));
    (listing, notes.collect())
}

/// Each file of the listing: its part, class and name.
fn files(listing: &Listing) -> Vec<String> {
    let file = |file: &super::Entry| {
        let part = match file.part {
            None => "",
            Some(Part::Train) => "train: ",
            Some(Part::Validation) => "validation: ",
            Some(Part::Test) => "test: ",
            Some(other) => panic!("{other:?}"),
        };
        let class = &listing.classes[file.class as usize];
        format!("{part}{class}: {}", file.name)
    };
    listing.files.iter().map(file).collect()
}

/// Asserts what a folder's classes, files and notes are.
#[track_caller]
fn assert_lists(paths: &[&str], classes: &[&str], expected: &[&str], notes: &[&str]) {
    let root = folder(paths);
    let (listing, found) = list(root.path());
    assert_eq!(listing.classes, classes);
    assert_eq!(files(&listing), expected);
    assert_eq!(found, notes);
    let has_part = |file: &super::Entry| file.part.is_some();
    let parted = listing.files.iter().filter(|file| has_part(file)).count();
    assert!(parted == 0 || parted == listing.files.len());
}

/// Asserts that a folder within the one made is refused, with these words.
#[track_caller]
fn assert_refused(paths: &[&str], at: &str, words: &str) {
    let root = folder(paths);
    match Listing::of(root.path(), &mut Vec::new()) {
        Err(DataError::Format { path, problem, .. }) => {
            // Joining nothing would add a slash, which paths are compared without.
            assert_eq!(path, root.path().join(at));
            assert_eq!(problem, words);
        }
        Err(error) => panic!("{error:?}"),
        Ok(listing) => panic!("accepted: {:?}", files(&listing)),
    }
}

#[test]
fn classes_and_their_files_are_in_the_order_of_their_names() {
    assert_lists(
        &["b/2.png", "b/10.png", "a/x.JPG", "a/notes.txt", "C/1.png"],
        &["C", "a", "b"],
        &[
            "C: C/1.png",
            "a: a/notes.txt",
            "a: a/x.JPG",
            "b: b/10.png",
            "b: b/2.png",
        ],
        &[],
    );
}

#[test]
fn parts_have_their_usual_names_in_any_case() {
    for (train, validation, test) in [
        ("train", "val", "test"),
        ("Training", "VALID", "Testing"),
        ("TRAIN", "Validation", "TEST"),
    ] {
        let file = |part: &str, rest: &str| format!("{part}/{rest}");
        let paths = [
            file(train, "x/1.png"),
            file(train, "y/1.png"),
            file(validation, "x/2.png"),
            file(test, "z/1.png"),
        ];
        let root = folder(&paths.each_ref().map(String::as_str));
        let (listing, notes) = list(root.path());
        assert!(notes.is_empty(), "{notes:?}");
        assert_eq!(listing.classes, ["x", "y", "z"]);
        let mut found = files(&listing);
        found.sort_unstable();
        let expected = [
            format!("test: z: {test}/z/1.png"),
            format!("train: x: {train}/x/1.png"),
            format!("train: y: {train}/y/1.png"),
            format!("validation: x: {validation}/x/2.png"),
        ];
        assert_eq!(found, expected);
    }
}

#[test]
fn parts_come_one_after_the_other_and_need_no_third() {
    assert_lists(
        &[
            "val/b/1.png",
            "train/b/2.png",
            "train/a/1.png",
            "LICENCE",
            "docs/map.txt",
        ],
        &["a", "b"],
        &[
            "train: a: train/a/1.png",
            "train: b: train/b/2.png",
            "validation: b: val/b/1.png",
        ],
        &[
            "LICENCE is not in a class",
            "docs is not in a part of the split; it has no pictures",
        ],
    );
    assert_lists(
        &["train/b/1.png", "train/a/1.png", "test/b/1.png"],
        &["a", "b"],
        &[
            "test: b: test/b/1.png",
            "train: a: train/a/1.png",
            "train: b: train/b/1.png",
        ],
        &[],
    );
}

#[test]
fn a_split_that_is_none_is_refused() {
    assert_refused(
        &["Train/a/1.png", "training/a/2.png", "test/a/3.png"],
        "",
        "has the sub-folders `Train` and `training`, which are all for training; make them one",
    );
    assert_refused(
        &["train/a/1.png", "val/a/2.png", "validation/a/3.png"],
        "",
        "has the sub-folders `val` and `validation`, which are all for validation; make them one",
    );
    assert_refused(
        &["train/a/1.png", "Test/a/2.png", "other/1.png"],
        "",
        "has the sub-folders `Test` and `train`, which make a split, next to `other`, which would be \
         a class; remove one or the other",
    );
    let lone = |names| {
        format!(
            "has {names} with classes inside, which is no split: one has a folder train, and test or \
             validation beside it; add what is missing, or name the folder that has the classes"
        )
    };
    assert_refused(&["train/a/1.png", "train/b/1.png"], "", &lone("`train`"));
    assert_refused(
        &["Test/a/1.png", "val/a/1.png"],
        "",
        &lone("`Test` and `val`"),
    );
    assert_refused(
        &["zip/train/a/1.png", "zip/b/1.png"],
        "zip",
        &lone("`train`"),
    );
    assert_refused(
        &["docs/1.txt", "set/train/a/1.png", "set/test/a/1.png"],
        "set",
        "has a split of its own next to other folders; name this folder alone, or put the classes of \
         all into one train and one test",
    );
}

#[test]
fn a_part_has_its_pictures_in_classes() {
    let rule = "as a part of a split, it has one sub-folder for each class, named after it";
    assert_refused(
        &["train/a/1.png", "test/1.png", "test/2.png"],
        "test",
        &format!("has 2 pictures and no sub-folders; {rule}"),
    );
    assert_refused(
        &["train/1.png", "train/empty/", "test/a/1.png"],
        "train",
        &format!("has 1 picture and 1 sub-folder without pictures; {rule}"),
    );
    assert_lists(
        &["train/a/1.png", "test/"],
        &["a"],
        &["train: a: train/a/1.png"],
        &[],
    );
}

#[test]
fn a_name_of_a_part_may_be_that_of_a_class() {
    let note =
        "is taken for a class: a split has a folder to train on, and one to test or validate on";
    assert_lists(
        &["Anna/1.png", "Bob/1.png", "Test/1.png", "train"],
        &["Anna", "Bob", "Test"],
        &["Anna: Anna/1.png", "Bob: Bob/1.png", "Test: Test/1.png"],
        &[&format!("Test {note}"), "train is not in a class"],
    );
    assert_lists(
        &["train/1.png"],
        &["train"],
        &["train: train/1.png"],
        &[&format!("train {note}")],
    );
}

#[test]
fn what_wraps_the_classes_is_stepped_into() {
    assert_lists(
        &[
            "zip/Faces/a/1.png",
            "zip/Faces/b/1.png",
            "zip/README",
            "__MACOSX/zip/._1.png",
        ],
        &["a", "b"],
        &["a: zip/Faces/a/1.png", "b: zip/Faces/b/1.png"],
        &[
            "zip/README is not in a class",
            "zip/Faces is read in the place of ROOT, which has no other folder",
        ],
    );
    // A single class is no wrapping.
    assert_lists(&["a/1.png"], &["a"], &["a: a/1.png"], &[]);
}

#[test]
fn a_wrapped_split_of_nested_classes_is_read() {
    assert_lists(
        &[
            "zip/Dataset/Train/Greek/alpha/x.png",
            "zip/Dataset/Train/Greek/beta/x.png",
            "zip/Dataset/Train/Latin/a/x.png",
            "zip/Dataset/TEST/Greek/alpha/y.png",
        ],
        &["Greek/alpha", "Greek/beta", "Latin/a"],
        &[
            "test: Greek/alpha: zip/Dataset/TEST/Greek/alpha/y.png",
            "train: Greek/alpha: zip/Dataset/Train/Greek/alpha/x.png",
            "train: Greek/beta: zip/Dataset/Train/Greek/beta/x.png",
            "train: Latin/a: zip/Dataset/Train/Latin/a/x.png",
        ],
        &[
            "zip/Dataset is read in the place of ROOT, which has no other folder",
            "classes are the innermost folders, such as `Greek/alpha`: 3 classes in 2 groups",
        ],
    );
}

#[test]
fn classes_may_be_at_any_depth() {
    assert_lists(
        &[
            "b/c/d/1.png",
            "b/c/e/1.png",
            "b/c/readme.txt",
            "b-1/1.png",
            "b/f/",
        ],
        // As names go, not as paths do: `-` is before `/`.
        &["b-1", "b/c/d", "b/c/e", "b/f"],
        &["b-1: b-1/1.png", "b/c/d: b/c/d/1.png", "b/c/e: b/c/e/1.png"],
        &[
            "b/c/readme.txt is not in a class",
            "classes are the innermost folders, such as `b/c/d`: 3 classes in 2 groups",
        ],
    );
}

#[test]
fn folders_within_a_class_are_counted_and_not_read() {
    assert_lists(
        &[
            "a/1.png",
            "a/old/1.png",
            "a/old/more/2.png",
            "a/one/1.png",
            "b/empty/",
            "b/1.dat",
        ],
        &["a", "b"],
        &["a: a/1.png", "b: b/1.dat"],
        &[
            "a/old is a folder within a class; its 2 pictures are not read",
            "a/one is a folder within a class; its picture is not read",
            "b/empty is a folder within a class; nothing in it is read",
        ],
    );
}

#[test]
fn what_systems_leave_is_passed_over_silently() {
    let classes = ["a/1.png", "b/1.png"];
    let left = [
        ".git/1.png",
        ".DS_Store",
        "__MACOSX/a/1.png",
        "@eaDir/a/1.png",
        "a/Thumbs.db",
        "a/Desktop.ini",
        "a/.thumbnails/1.png",
        "b/.1.png",
    ];
    let paths = [&classes[..], &left[..]].concat();
    assert_lists(&paths, &["a", "b"], &["a: a/1.png", "b: b/1.png"], &[]);
}

#[test]
fn a_folder_without_classes_is_refused_with_what_is_there() {
    let rule = "a folder of pictures has one sub-folder for each class, named after it";
    let many: Vec<String> = (0..120).map(|i| format!("{i}.png")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (paths, found) in [
        (&many[..], "has 120 pictures and no sub-folders"),
        (
            &["1.png", "a/"],
            "has 1 picture and 1 sub-folder without pictures",
        ),
        (&[".hidden"], "is empty, hidden files aside"),
        (
            &["x/y/", "z/"],
            "has no picture: found 3 sub-folders and no file",
        ),
        (
            &["x/notes.txt", "x/more.txt", "y/"],
            "has no picture: found 2 sub-folders and 2 files, such as x/more.txt; none is a picture \
             or named like one",
        ),
        (
            &["notes.txt"],
            "has no picture: found no sub-folders and 1 file, such as notes.txt; none is a picture \
             or named like one",
        ),
    ] {
        assert_refused(paths, "", &format!("{found}; {rule}"));
    }
}

#[test]
fn where_no_name_is_a_pictures_any_file_may_be_one() {
    let root = folder(&["g/a/1", "g/a/more/", "g/b/2", "h/c/3.dat"]);
    fs::write(root.path().join("g/b/2"), b"\x89PNG\r\n\x1a\n").unwrap();
    let (listing, notes) = list(root.path());
    assert_eq!(listing.classes, ["g/a", "g/b", "h/c"]);
    assert_eq!(
        files(&listing),
        ["g/a: g/a/1", "g/b: g/b/2", "h/c: h/c/3.dat"]
    );
    assert_eq!(
        notes,
        [
            "g/a/more is a folder within a class; nothing in it is read",
            "classes are the innermost folders, such as `g/a`: 3 classes in 2 groups",
        ]
    );
}

#[test]
fn names_that_differ_in_little_are_pointed_out() {
    let root = folder(&[
        "train/Anna/1.png",
        "test/anna/1.png",
        "train/Bob/1.png",
        "train/bob  B/1.png",
        "test/bob b/1.png",
        "train/Zo\u{eb}/1.png",
        "test/Zoe\u{308}/1.png",
        "val/ZOE\u{308}/1.png",
        "train/g/C/1.png",
        "train/g /C/1.png",
        "train/\u{212b}/1.png",
        "test/\u{c5}/1.png",
    ]);
    let (listing, notes) = list(root.path());
    assert_eq!(listing.classes.len(), 12);
    let alike = |names: &str, what: &str| {
        format!(
            "the classes {names} differ only in {what}: if they are the same, give them one name"
        )
    };
    assert_eq!(
        notes[1..],
        [
            alike("`Anna` and `anna`", "case"),
            alike("`bob  B` and `bob b`", "case and blanks"),
            alike("`g /C` and `g/C`", "blanks"),
            alike(
                "`ZOE\u{308}`, `Zoe\u{308}` and `Zo\u{eb}`",
                "case and Unicode form"
            ),
            alike("`\u{c5}` and `\u{212b}`", "Unicode form"),
        ]
    );
}

#[test]
fn a_folder_is_read_sixteen_levels_deep() {
    let path = |levels: usize| format!("{}1.png", "d/".repeat(levels));
    for (levels, is_read) in [(16, true), (17, false)] {
        let root = folder(&["a/1.png", &path(levels)]);
        let (listing, notes) = list(root.path());
        // The folder that is left out leaves an empty class.
        assert_eq!(listing.files.len(), if is_read { 2 } else { 1 });
        let deep = format!(
            "{}/d is more than 16 folders deep; nothing in it is read",
            ["d"; 16].join("/")
        );
        assert_eq!(notes.contains(&deep), !is_read, "{notes:?}");
    }
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_and_those_in_a_loop_are_not() {
        let root = folder(&["set/g/a/1.png", "set/g/b/2.png", "elsewhere/c/3.png"]);
        let root = root.path();
        let elsewhere = root.join("elsewhere");
        symlink("../../elsewhere/c", root.join("set/g/c")).unwrap();
        symlink("../a/1.png", root.join("set/g/b/link.png")).unwrap();
        symlink(&elsewhere, root.join("set/other")).unwrap();
        // Up, out of the tree, and around by another link.
        symlink("..", root.join("set/g/up")).unwrap();
        symlink("/", root.join("set/root")).unwrap();
        symlink(root.join("set"), elsewhere.join("round")).unwrap();
        let (listing, notes) = list(&root.join("set"));
        assert_eq!(
            files(&listing),
            [
                "g/a: g/a/1.png",
                "g/b: g/b/2.png",
                "g/b: g/b/link.png",
                "g/c: g/c/3.png",
                "other/c: other/c/3.png",
            ]
        );
        let looping = |path: &str| {
            format!("{path} is a link to a folder that it is in; nothing in it is read")
        };
        assert_eq!(
            notes,
            [
                looping("g/up"),
                looping("other/round"),
                looping("root"),
                "classes are the innermost folders, such as `g/a`: 4 classes in 2 groups"
                    .to_string(),
            ]
        );
    }

    #[test]
    fn folders_that_all_link_to_each_other_are_read_a_few_times() {
        let names: Vec<String> = (0..12).map(|i| format!("f{i:02}")).collect();
        let root = folder(&["a/1.png"]);
        for name in &names {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            for other in &names {
                symlink(root.path().join(other), folder.join(other)).unwrap();
            }
        }
        let (listing, notes) = list(root.path());
        assert_eq!(files(&listing), ["a: a/1.png"]);
        let stopped = |note: &&String| note.contains("that has been read 16 times");
        assert!(notes.iter().filter(stopped).count() > 0);
    }
}
