//! What takes no network: distances of pixels, plain and whitened within a class, on the same pairs.

use anyhow::{Context, Result};
use data::{LabelledImages, Pair};
use metrics::{Embeddings, Whitening};
use serde::{Deserialize, Serialize};

use super::{Figures, Row, decimal, percent};
use crate::judging::distances::{distances, roc};
use crate::judging::test_report::Judged;
use crate::training::refits;

/// Pixels along the longer side of an image at most; larger ones are averaged in blocks.
const LONGEST_SIDE: usize = 32;
/// Images that the whitening is fitted on at most, and the dimensions that it keeps.
const FITTED: (usize, usize) = (2_000, 128);

/// Verdicts and neighbours by the pixels alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classics {
    /// By the Euclidean distance of the pixels.
    pub pixels: Classic,
    /// By that of their principal components, whitened within a class of the training images and
    /// brought to unit length; `None` where there are none to fit it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whitened: Option<Classic>,
}

/// How good one of them is, on the pairs that the network is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classic {
    /// Share of right verdicts, both kinds of pairs weighing the same, at a threshold chosen as the
    /// network's is; `None` without validation images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Equal error rate.
    pub eer: f64,
    /// Share of test images whose nearest other shows the same class.
    pub p_at_1: f64,
}

/// # Errors
/// Where the pixels cannot be measured, which no images should cause.
pub fn measure(judged: &Judged) -> Result<Classics> {
    let test = features(&judged.dataset.test).context("there are no images to test on")?;
    let validation = features(&judged.dataset.validation);
    Ok(Classics {
        pixels: classic(judged, &test, validation.as_ref())?,
        whitened: whitened(judged, &test, validation.as_ref())?,
    })
}

fn whitened(
    judged: &Judged,
    test: &Embeddings,
    validation: Option<&Embeddings>,
) -> Result<Option<Classic>> {
    let whitened = |whitening: &Whitening, rows: &Embeddings| unit(&whitening.apply(rows)?);
    let (config, dataset) = (judged.config, judged.dataset);
    let Some(first) = whitening_of(&some_of(&dataset.train, None)) else {
        return Ok(None);
    };
    // The threshold is chosen and the rest judged as for the network.
    let validation = validation.map(|rows| whitened(&first, rows)).transpose()?;
    let last = match refits(config, dataset) {
        true => {
            let images = some_of(&dataset.train, Some(&dataset.validation));
            whitening_of(&images).unwrap_or(first)
        }
        false => first,
    };
    classic(judged, &whitened(&last, test)?, validation.as_ref()).map(Some)
}

fn whitening_of(images: &LabelledImages) -> Option<Whitening> {
    // Classes of one image say nothing of what varies within a class.
    Whitening::fit(&features(images)?, images.labels(), FITTED.1).ok()
}

/// Of `train`, and then of `more`, the images that are fitted on, evenly spaced.
fn some_of(train: &LabelledImages, more: Option<&LabelledImages>) -> LabelledImages {
    let count = train.len() + more.map_or(0, LabelledImages::len);
    let places = (0..count).step_by(count.div_ceil(FITTED.0).max(1));
    let (first, others): (Vec<_>, Vec<_>) = places.partition(|&place| place < train.len());
    let first = train.select(&first);
    let Some(more) = more else {
        return first;
    };
    let others = others.iter().map(|place| place - train.len());
    first.and(&more.select(&Vec::from_iter(others)))
}

/// Each row divided by its Euclidean length; a row of zeros stays.
fn unit(rows: &Embeddings) -> Result<Embeddings> {
    let unit = |row: &[f32]| {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        let length = if length > 0.0 { length } else { 1.0 };
        row.iter().map(|value| value / length).collect::<Vec<_>>()
    };
    Ok(Embeddings::new(
        rows.rows().flat_map(unit).collect(),
        rows.dimension(),
    )?)
}

fn classic(judged: &Judged, test: &Embeddings, validation: Option<&Embeddings>) -> Result<Classic> {
    let on = |rows: &Embeddings, pairs: &[Pair]| roc(&distances(rows, pairs), pairs);
    let tested = on(test, judged.pairs)?;
    let threshold = match (validation, judged.validation_pairs) {
        (Some(rows), Some(pairs)) => {
            Some(judged.config.calibration.at.threshold(&on(rows, pairs)?)?)
        }
        _ => None,
    };
    Ok(Classic {
        accuracy: threshold.map(|threshold| tested.balanced_accuracy_at(threshold)),
        auc: tested.auc(),
        eer: tested.eer().rate,
        p_at_1: metrics::precision_at_1(test, judged.dataset.test.labels())?,
    })
}

/// The pixels of each image, a row each, averaged in square blocks where they are many; `None`
/// without images.
fn features(images: &LabelledImages) -> Option<Embeddings> {
    let shape = images.shape();
    let block = shape.height.max(shape.width).div_ceil(LONGEST_SIDE);
    let (rows, columns) = (shape.height / block, shape.width / block);
    let (rows, columns) = (rows.max(1), columns.max(1));
    let mut values = Vec::with_capacity(images.len() * shape.channels * rows * columns);
    for i in 0..images.len() {
        for plane in images.image(i).chunks_exact(shape.height * shape.width) {
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |c| (row, c))) {
                let lines = plane
                    .chunks_exact(shape.width)
                    .skip(row * block)
                    .take(block);
                let block = lines.flat_map(|line| line.iter().skip(column * block).take(block));
                let (sum, count) = block.fold((0u32, 0u32), |(sum, count), &value| {
                    (sum + u32::from(value), count + 1)
                });
                values.push(sum as f32 / count as f32);
            }
        }
    }
    let dimension = shape.channels * rows * columns;
    (!images.is_empty()).then(|| Embeddings::new(values, dimension).ok())?
}

pub fn rows(classics: Option<&Classics>) -> Vec<Row> {
    let Some(classics) = classics else {
        return Vec::new();
    };
    let words = |classic: &Classic| {
        let accuracy = classic.accuracy;
        let accuracy = accuracy.map_or_else(|| "–".into(), percent);
        format!(
            "accuracy {accuracy}, AUC {}, EER {}, P@1 {}",
            decimal(classic.auc),
            percent(classic.eer),
            percent(classic.p_at_1)
        )
    };
    let pixels = Some(("no network: pixels", words(&classics.pixels)));
    let whitened = classics.whitened.as_ref();
    let whitened = whitened.map(|classic| ("no network: whitened pixels", words(classic)));
    pixels.into_iter().chain(whitened).collect()
}

/// What to say where a network is no better than the pixels.
pub fn advice(figures: &Figures) -> Option<String> {
    let (eer, p_at_1) = (figures.verification.eer, figures.retrieval.p_at_1);
    compared(figures.classics.as_ref()?, eer, p_at_1)
}

fn compared(classics: &Classics, eer: f64, p_at_1: f64) -> Option<String> {
    let known = || {
        let all = [
            ("pixels", Some(classics.pixels)),
            ("whitened pixels", classics.whitened),
        ];
        all.into_iter()
            .filter_map(|(name, classic)| Some((name, classic?)))
    };
    let by_eer = known().min_by(|(_, a), (_, b)| a.eer.total_cmp(&b.eer))?;
    let by_p_at_1 = known().max_by(|(_, a), (_, b)| a.p_at_1.total_cmp(&b.p_at_1))?;
    // A tie does not beat, but where nothing goes wrong nothing can be better.
    let eer = (by_eer.1.eer <= eer && eer > 0.0).then(|| {
        let (name, best) = (by_eer.0, percent(by_eer.1.eer));
        format!(
            "{name} have an equal error rate of {best}, the network {}",
            percent(eer)
        )
    });
    let p_at_1 = (by_p_at_1.1.p_at_1 >= p_at_1 && p_at_1 < 1.0).then(|| {
        let (name, best) = (by_p_at_1.0, percent(by_p_at_1.1.p_at_1));
        format!(
            "{name} have a P@1 of {best}, the network {}",
            percent(p_at_1)
        )
    });
    let lost: Vec<String> = eer.into_iter().chain(p_at_1).collect();
    (!lost.is_empty()).then(|| {
        format!(
            "the network does not beat what takes no training: {}. More pictures of more classes, a \
             longer run (--epochs), all pairs of a batch (--loss in-batch), more dimensions \
             (--embedding 64) or a deeper network (--trunk small-resnet) may help",
            lost.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use data::ImageShape;

    use super::*;

    #[test]
    fn large_images_are_averaged_in_blocks() {
        // Blocks of 2x2.
        let shape = ImageShape {
            channels: 1,
            height: 64,
            width: 32,
        };
        let pixels: Vec<u8> = (0..64 * 32).map(|i| (i % 32 + i / 32) as u8).collect();
        let images = LabelledImages::new(shape, pixels, vec![0], vec!["x".into()]).unwrap();
        let rows = features(&images).unwrap();
        assert_eq!((rows.len(), rows.dimension()), (1, 32 * 16));
        // The mean of x + y over a block, which begins at (0, 0) or (2, 2).
        assert_eq!(rows.row(0)[0], 1.0);
        assert_eq!(rows.row(0)[16 + 1], 5.0);
        let small = LabelledImages::new(ImageShape::MNIST, vec![7; 784], vec![0], vec!["x".into()]);
        assert_eq!(features(&small.unwrap()).unwrap().row(0), [7.0; 784]);
    }

    /// As if they were selected from both, joined.
    #[test]
    fn the_whitening_is_of_evenly_spaced_images() {
        let images = |count: usize, first: usize| {
            let shape = ImageShape {
                channels: 1,
                height: 1,
                width: 1,
            };
            let pixels = (first..first + count).map(|i| (i % 251) as u8).collect();
            let labels = (first..first + count).map(|i| (i % 7) as u32).collect();
            let classes = (0..7).map(|class| class.to_string()).collect();
            LabelledImages::new(shape, pixels, labels, classes).unwrap()
        };
        for (train, more, step) in [(5, 3, 1), (3_001, 1_500, 3), (1, 4_000, 3), (4_000, 0, 2)] {
            let found = some_of(&images(train, 0), Some(&images(more, train)));
            let expected = (0..train + more).step_by(step);
            let expected: Vec<u8> = expected.map(|i| (i % 251) as u8).collect();
            assert_eq!(found.pixels(), expected, "{train} and {more}");
            assert_eq!(found.labels().len(), expected.len());
        }
        assert_eq!(some_of(&images(2_001, 0), None).len(), 1_001);
    }

    #[test]
    fn rows_are_brought_to_unit_length() {
        let rows = Embeddings::new(vec![3.0, 4.0, 0.0, 0.0], 2).unwrap();
        assert_eq!(unit(&rows).unwrap().values(), [0.6, 0.8, 0.0, 0.0]);
    }

    #[test]
    fn a_tie_is_noted_unless_both_are_perfect() {
        let noted = |eer, p_at_1, network: (f64, f64)| {
            let pixels = Classic {
                accuracy: None,
                auc: 0.9,
                eer,
                p_at_1,
            };
            let whitened = None;
            compared(&Classics { pixels, whitened }, network.0, network.1)
        };
        assert_eq!(noted(0.2, 0.7, (0.1, 0.8)), None);
        assert_eq!(noted(0.0, 1.0, (0.0, 1.0)), None);
        let tied = noted(0.2, 0.7, (0.2, 0.7)).unwrap();
        assert!(tied.contains("equal error rate of 20.00%") && tied.contains("P@1 of 70.00%"));
        let one = noted(0.0, 0.7, (0.0, 0.7)).unwrap();
        assert!(!one.contains("equal error rate") && one.contains("P@1 of 70.00%"));
    }
}
