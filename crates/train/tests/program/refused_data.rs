use std::fs;

use crate::scratch::Scratch;

const FIRST: &str = "train-images-idx3-ubyte";
const OTHERS: [&str; 3] = [
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

#[test]
fn a_missing_folder_is_named() {
    let scratch = Scratch::with_run();
    let expected = ["nowhere", "not a folder"];
    scratch.refuses(1, "fit --data mnist:nowhere --out new", &expected);
    scratch.refuses(1, "evaluate run --data mnist:nowhere", &expected);
    scratch.refuses(1, "fit --data mnist:quick.toml", &["quick.toml"]);
}

#[test]
fn the_files_that_a_folder_lacks_are_named() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("mnist")).unwrap();
    scratch.write(&format!("mnist/{FIRST}"), "");
    scratch.refuses(1, "fit --data mnist:mnist", &OTHERS);
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_named_with_what_it_is() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("mnist")).unwrap();
    let header = |magic: u8, sizes: &[u32]| {
        let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
        [0, 0, 8, magic]
            .into_iter()
            .chain(sizes)
            .collect::<Vec<u8>>()
    };
    for (name, header) in OTHERS.iter().zip([
        header(1, &[60_000]),
        header(3, &[10_000, 28, 28]),
        header(1, &[10_000]),
    ]) {
        scratch.write(&format!("mnist/{name}"), header);
    }
    let truncated = [header(3, &[60_000, 28, 28]), vec![0; 1000]].concat();
    for (bytes, words) in [
        (truncated, &["cut short", "1016", "47040016"][..]),
        (
            header(1, &[60_000]),
            &["holds labels, not images", "swapped"],
        ),
        (header(3, &[60_000, 32, 28]), &["32x28", "28x28"]),
        (
            header(3, &[10_000, 28, 28]),
            &["10000", "train-labels-idx1-ubyte", "60000"],
        ),
        (b"<html>404</html>".to_vec(), &["3c", "has to start with"]),
        (vec![0x1f, 0x8b, 8, 0, 1, 2, 3], &["gzip", "fetch it again"]),
        (vec![], &["cut short", "0 bytes"]),
    ] {
        scratch.write(&format!("mnist/{FIRST}"), bytes);
        let words = [&[FIRST], words].concat();
        scratch.refuses(1, "fit --data mnist:mnist --out new", &words);
    }
}
