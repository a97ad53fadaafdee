//! What to know of a data set before its figures are believed.

use super::Dataset;
use crate::LabelledImages;

/// Names that a note gives as examples.
const EXAMPLES: usize = 5;

/// A sentence for each thing.
pub fn notes(set: &Dataset) -> Vec<String> {
    [blank(set), one_sided(set), single(set)].concat()
}

/// `x, y and 3 more`
fn some(names: &[&str]) -> String {
    let shown = names[..names.len().min(EXAMPLES)].join(", ");
    match names.len().saturating_sub(EXAMPLES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn blank(set: &Dataset) -> Vec<String> {
    let names = |images: &LabelledImages| {
        let plane = images.shape().height * images.shape().width;
        let blank = (0..images.len()).filter(|&i| {
            let mut planes = images.image(i).chunks_exact(plane);
            planes.all(|plane| plane.iter().all(|value| *value == plane[0]))
        });
        let names = blank.map(|i| images.name(i).into_owned());
        names.collect::<Vec<_>>()
    };
    let mut all = [names(&set.train), names(&set.validation)].concat();
    if !set.tests_validation {
        all.extend(names(&set.test));
    }
    all.extend(set.closed_test.iter().flat_map(names));
    if all.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let verb = if all.len() == 1 {
        "image is"
    } else {
        "images are"
    };
    vec![format!("{} {verb} blank: {}", all.len(), some(&names))]
}

/// Classes that are either trained on or tested on, where others are both.
fn one_sided(set: &Dataset) -> Vec<String> {
    if set.closed_test.is_some() || set.tests_validation {
        return Vec::new();
    }
    let (train, test) = (set.train.class_counts(), set.test.class_counts());
    let counts = || train.iter().zip(&test).zip(set.train.classes());
    if !counts().any(|((train, test), _)| *train > 0 && *test > 0) {
        return Vec::new();
    }
    let of = |of: fn(usize, usize) -> bool| {
        let classes = counts().filter(|((train, test), _)| of(**train, **test));
        classes.map(|(_, name)| name.as_str()).collect::<Vec<_>>()
    };
    let only_train = of(|train, test| train > 1 && test == 0);
    let only_test = of(|train, test| train == 0 && test > 0);
    let note = |classes: Vec<&str>, part: &str| {
        let verb = if classes.len() == 1 {
            "class is"
        } else {
            "classes are"
        };
        let count = classes.len();
        (count > 0).then(|| format!("{count} {verb} only {part}: {}", some(&classes)))
    };
    [
        note(only_train, "trained on, and not tested on"),
        note(only_test, "tested on, and not trained on"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Classes of one image.
fn single(set: &Dataset) -> Vec<String> {
    let sets = [Some(&*set.train), Some(&set.validation), Some(&set.test)];
    let sets = sets.into_iter().chain([set.closed_test.as_ref()]).flatten();
    let mut counts = vec![0; set.train.classes().len()];
    for images in sets {
        for (count, more) in counts.iter_mut().zip(images.class_counts()) {
            *count += more;
        }
    }
    let names = counts.iter().zip(set.train.classes());
    let names = names.filter(|(count, _)| **count == 1);
    let names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
    let verb = if names.len() == 1 {
        "class has"
    } else {
        "classes have"
    };
    match names.len() {
        0 => Vec::new(),
        count => vec![format!(
            "{count} {verb} a single image, which no other shows the same as: {}",
            some(&names)
        )],
    }
}
