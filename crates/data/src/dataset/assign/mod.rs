//! Which part each image is given.

mod before;
mod divide;
mod held_out;

use self::divide::Split;
use self::held_out::held_out_classes;
use super::{Divided, Part, SplitBy, SplitOptions, hold_out};
use crate::manifest::Seen;
use crate::{DataError, LabelledImages, Purpose, stream};

/// Gives each of a source's images its part, and says by what they were divided; `given` are the parts
/// that the source gives them itself, `test` its test images where they lie elsewhere. These come last.
pub fn parts(
    images: LabelledImages,
    given: &[Option<Part>],
    test: Option<LabelledImages>,
    options: &SplitOptions,
) -> Result<(Vec<Divided>, SplitBy), DataError> {
    let hashes = images.pixel_hashes();
    let Some(test) = test else {
        let (parts, by) = pictures(&images, given, &hashes, options)?;
        let pictures = Divided {
            images,
            hashes,
            parts,
        };
        return Ok((vec![pictures], by));
    };
    let (parts, of_test) = fixed(&images, &hashes, &test, options)?;
    let train = Divided {
        images,
        hashes,
        parts,
    };
    let test = Divided {
        hashes: test.pixel_hashes(),
        images: test,
        parts: of_test,
    };
    Ok((vec![train, test], SplitBy::Auto))
}

/// Parts of a source's training images and of its test images.
///
/// Validation images are drawn from each class; held-out classes keep their test images alone.
/// `hashes` are of the pixels of the training images.
fn fixed(
    images: &LabelledImages,
    hashes: &[u64],
    test: &LabelledImages,
    options: &SplitOptions,
) -> Result<(Vec<Part>, Vec<Part>), DataError> {
    if options.only_test {
        let unused = vec![Part::Unused; images.len()];
        return Ok((unused, vec![Part::Test; test.len()]));
    }
    if options.by == SplitBy::Classes {
        return Err(DataError::Setting {
            name: "the split",
            found: "by classes".into(),
            expected: "by images, since the data set has a split of its own; name the classes to \
                       hold out instead"
                .into(),
        });
    }
    let held_out = held_out_classes(images.classes(), options.hold_out)?;
    let unseen = |label: u32| held_out.contains(&(label as usize));
    let of_test = test.labels().iter().map(|&label| match unseen(label) {
        false if !held_out.is_empty() => Part::ClosedTest,
        _ => Part::Test,
    });
    let of_test = of_test.collect();
    let mut rng = stream(options.seed, Purpose::Split, 0);
    let (_, validation) = hold_out(images.labels(), options.validation, "validation", &mut rng)?;
    let mut parts = vec![Part::Train; images.len()];
    for i in validation {
        parts[i] = Part::Validation;
    }
    if let Some(before) = options.before {
        before::keep(&mut parts, images, hashes, before);
    }
    for (part, &label) in parts.iter_mut().zip(images.labels()) {
        if unseen(label) {
            *part = Part::Unused;
        }
    }
    Ok((parts, of_test))
}

/// Parts of a folder's pictures, and by what they were divided; `given` are those of the folder's own
/// split, `hashes` of the pixels.
fn pictures(
    images: &LabelledImages,
    given: &[Option<Part>],
    hashes: &[u64],
    options: &SplitOptions,
) -> Result<(Vec<Part>, SplitBy), DataError> {
    for (name, fraction) in [("test", options.test), ("validation", options.validation)] {
        if !(0.0..1.0).contains(&fraction) {
            return Err(DataError::Setting {
                name,
                found: fraction.to_string(),
                expected: "a fraction from 0 to below 1".into(),
            });
        }
    }
    let given = given_parts(given);
    if options.only_test {
        let part = |part: &Option<Part>| match part {
            None | Some(Part::Test) => Part::Test,
            Some(_) => Part::Unused,
        };
        return Ok((given.iter().map(part).collect(), SplitBy::Auto));
    }
    let held_out = held_out_classes(images.classes(), options.hold_out)?;
    let mut split = Split {
        images,
        hashes,
        options,
        parts: given
            .iter()
            .map(|part| part.unwrap_or(Part::Train))
            .collect(),
        roles: vec![Part::Train; images.classes().len()],
    };
    let own_test = given.contains(&Some(Part::Test));
    let by = split.divide(own_test, &held_out);
    if let Some(before) = options.before {
        split.keep_parts(&given, by, &Seen::new(before));
    }
    Ok((split.parts, by))
}

/// A folder's own parts: without `test`, people test on the other one.
fn given_parts(given: &[Option<Part>]) -> Vec<Option<Part>> {
    let has_test = given.contains(&Some(Part::Test));
    let part = |&part: &Option<Part>| match part {
        Some(Part::Validation) if !has_test => Some(Part::Test),
        part => part,
    };
    given.iter().map(part).collect()
}
