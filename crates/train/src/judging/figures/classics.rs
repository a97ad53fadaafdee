//! What takes no network: distances of pixels, plain and whitened within a class, on the same pairs.

use anyhow::Result;
use data::{LabelledImages, Pair};
use metrics::{Embeddings, Verification, Whitening};
use serde::{Deserialize, Serialize};

use super::{Figures, Row, decimal, percent};
use crate::judging::distances::{distances, roc};
use crate::judging::test_report::Judged;

/// Pixels along the longer side of an image at most; larger ones are averaged in blocks.
const LONGEST_SIDE: usize = 32;
/// Images that the whitening is fitted on at most, and the dimensions that it keeps.
const FITTED: (usize, usize) = (2_000, 128);

/// Verdicts and neighbours by the pixels alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classics {
    /// By the Euclidean distance of the pixels.
    pub pixels: Classic,
    /// By that of their principal components, whitened within a class of the training images; `None`
    /// where there are none to fit it on.
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
    let sets = [&judged.dataset.test, &judged.dataset.validation].map(features);
    let [test, validation] = [sets[0].as_ref(), sets[1].as_ref()];
    let (Some(test), validation) = (test, validation) else {
        anyhow::bail!("there are no images to test on");
    };
    let pixels = classic(judged, test, validation)?;
    Ok(Classics {
        pixels,
        whitened: whitened(judged, test, validation)?,
    })
}

fn whitened(
    judged: &Judged,
    test: &Embeddings,
    validation: Option<&Embeddings>,
) -> Result<Option<Classic>> {
    let (most, components) = FITTED;
    let train = &judged.dataset.train;
    let step = train.len().div_ceil(most).max(1);
    let some = train.select(&Vec::from_iter((0..train.len()).step_by(step)));
    let Some(fitted) = features(&some) else {
        return Ok(None);
    };
    // Classes of one image say nothing of what varies within a class.
    let Ok(whitening) = Whitening::fit(&fitted, some.labels(), components) else {
        return Ok(None);
    };
    let validation = validation.map(|rows| whitening.apply(rows)).transpose()?;
    classic(judged, &whitening.apply(test)?, validation.as_ref()).map(Some)
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
    let classics = figures.classics.as_ref()?;
    let known = [
        ("pixels", Some(classics.pixels)),
        ("whitened pixels", classics.whitened),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, classic)| Some((name, classic?)));
    let (name, best) = known.min_by(|(_, a), (_, b)| a.eer.total_cmp(&b.eer))?;
    let net: &Verification = &figures.verification;
    (best.eer < net.eer).then(|| {
        format!(
            "the network does not beat {name}, which take no training: an equal error rate of {} \
             against {}; more pictures of more classes, a longer run (--epochs), all pairs of a batch \
             (--loss in-batch), more dimensions (--embedding 64) or a deeper network (--trunk \
             small-resnet) may help",
            percent(net.eer),
            percent(best.eer)
        )
    })
}
