//! The report of a run: one HTML page that stands alone, with figures that a newcomer to metric
//! learning can read, and the data behind each as CSV.
//!
//! [`render`] is pure: no clock, no file, no network, no randomness. [`pca`] and [`contact_sheet`]
//! serve other views of the same embeddings and images too.

pub mod contact_sheet;
mod downsample;
mod figures;
mod ink;
mod page;
pub mod pca;
mod pictures;
mod table;
mod training;

#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};
use data::{LabelledImages, Pair};
use metrics::Embeddings;

pub use table::Table;
pub use training::TrainingImages;

/// All that the page shows. Every number must be finite.
pub struct Report<'a> {
    /// The page's heading.
    pub title: &'a str,
    /// What was trained on what and how to repeat it: label, value.
    pub facts: &'a [(&'static str, String)],
    /// What to know before believing the figures, a sentence each.
    pub notes: &'a [String],
    /// Figures of merit as the reader should see them: label, value.
    pub results: &'a [(&'a str, String)],
    /// The run's configuration, as its file has it.
    pub config: &'a str,
    /// (step, loss) of each logged training step, in the order of the steps.
    pub train_loss: &'a [(u64, f64)],
    /// (step, loss) of each evaluation on test pairs; may be empty.
    pub test_loss: &'a [(u64, f64)],
    /// Embeddings of the test images, (N, D).
    pub embeddings: &'a Embeddings,
    /// The test images with their classes, whose names may be any text.
    pub images: &'a LabelledImages,
    /// (false accept rate, true accept rate) in rising order, both in 0..=1.
    pub roc: &'a [(f64, f64)],
    /// Equal error rate, in 0..=1.
    pub eer: f64,
    /// (false accept rate, true accept rate) at `threshold`.
    pub operating_point: (f64, f64),
    /// The test pairs, of indices into `images`.
    pub pairs: &'a [Pair],
    /// Their distances, in the embedding's units.
    pub distances: &'a [f32],
    /// A pair at this distance or closer is judged similar.
    pub threshold: f64,
    /// The loss's margin: how far dissimilar pairs are pushed apart.
    pub margin: f64,
    /// What the network sees in training, or a sentence on why that is not shown.
    pub training: &'a Result<TrainingImages, String>,
}

impl Report<'_> {
    /// Distances of the test pairs that show the same class, or different ones.
    fn distances_of(&self, same: bool) -> Vec<f32> {
        let pairs = self.pairs.iter().zip(self.distances);
        pairs
            .filter(|(pair, _)| pair.similar == same)
            .map(|(_, distance)| *distance)
            .collect()
    }
}

/// The page, and the data behind its figures.
pub struct Page {
    /// The document.
    pub html: String,
    /// A table for each figure; the page has them as links.
    pub tables: Vec<Table>,
}

/// Renders the page.
///
/// # Errors
/// When the lengths of `embeddings` and `images` or of `pairs` and `distances` disagree, or a
/// number is not finite; the message says which.
pub fn render(report: &Report) -> Result<Page> {
    check(report)?;
    let figures = figures::all(report)?;
    Ok(Page {
        html: page::page(report, &figures, &training::section(report.training)?),
        tables: figures.into_iter().map(|figure| figure.table).collect(),
    })
}

fn check(report: &Report) -> Result<()> {
    let Report {
        images, embeddings, ..
    } = *report;
    let dim = embeddings.dimension();
    ensure!(
        embeddings.len() == images.len(),
        "report: {} embedding values for {} images of dimension {dim}; expected {}",
        embeddings.values().len(),
        images.len(),
        images.len() * dim,
    );
    ensure!(
        report.pairs.len() == report.distances.len(),
        "report: {} distances for {} pairs",
        report.distances.len(),
        report.pairs.len(),
    );
    if let Some(pair) = report.pairs.iter().find(|pair| {
        let last = pair.first.max(pair.second);
        last as usize >= images.len()
    }) {
        anyhow::bail!("report: {pair:?} is not among the {} images", images.len());
    }

    let losses = |points: &[(u64, f64)]| points.iter().all(|p| p.1.is_finite());
    let floats = |values: &[f32]| values.iter().all(|v| v.is_finite());
    let rates = |points: &[(f64, f64)]| points.iter().all(|p| p.0.is_finite() && p.1.is_finite());
    for (name, finite) in [
        ("train_loss", losses(report.train_loss)),
        ("test_loss", losses(report.test_loss)),
        ("embeddings", floats(embeddings.values())),
        ("distances", floats(report.distances)),
        ("roc", rates(report.roc)),
        ("operating_point", rates(&[report.operating_point])),
        ("eer", report.eer.is_finite()),
        ("threshold", report.threshold.is_finite()),
        ("margin", report.margin.is_finite()),
    ] {
        ensure!(
            finite,
            "report: {name} has a NaN or infinite value; leave out what diverged"
        );
    }
    Ok(())
}

/// A rate as a percentage, with two digits behind the point below one percent.
fn percent(rate: f64) -> String {
    let value = rate * 100.0;
    if value > 0.0 && value < 1.0 {
        format!("{value:.2}%")
    } else {
        format!("{value:.1}%")
    }
}

/// A count with commas between the thousands.
fn count(n: usize) -> String {
    match n / 1000 {
        0 => n.to_string(),
        thousands => format!("{},{:03}", count(thousands), n % 1000),
    }
}
