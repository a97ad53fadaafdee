//! The report of a run: one self-contained HTML page with its figures, readable by someone new to
//! metric learning. [`render`] is pure: no clock, no file, no network, no randomness.

mod chart;
mod distances;
mod embedding_map;
mod ink;
mod loss_curves;
mod page;
mod principal_axes;
mod roc;
mod thinning;

#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};

/// All that the page shows. Every number must be finite.
pub struct Report<'a> {
    /// The page's heading.
    pub title: &'a str,
    /// What was trained on what and how to repeat it: label, value.
    pub facts: &'a [(String, String)],
    /// Figures of merit as the reader should see them: label, value.
    pub results: &'a [(String, String)],
    /// (step, loss) of each logged training step, in the order of the steps.
    pub train_loss: &'a [(u64, f64)],
    /// (step, loss) of each evaluation on test pairs; may be empty.
    pub test_loss: &'a [(u64, f64)],
    /// Embeddings of the test images, (N, `dim`), row by row.
    pub embeddings: &'a [f32],
    /// Length of one embedding.
    pub dim: usize,
    /// Class of each embedding, an index into `classes`, (N,).
    pub labels: &'a [u32],
    /// Class names; any text.
    pub classes: &'a [String],
    /// (false accept rate, true accept rate) in rising order, both in 0..=1.
    pub roc: &'a [(f64, f64)],
    /// Equal error rate, in 0..=1.
    pub eer: f64,
    /// (false accept rate, true accept rate) at `threshold`.
    pub operating_point: (f64, f64),
    /// Distances of the test pairs that show the same class, in the embedding's units.
    pub similar: &'a [f32],
    /// Distances of the test pairs that show different classes.
    pub dissimilar: &'a [f32],
    /// A pair at this distance or closer is judged similar.
    pub threshold: f64,
    /// The loss's margin: how far dissimilar pairs are pushed apart.
    pub margin: f64,
}

/// Renders the page.
///
/// # Errors
/// When the lengths of `embeddings`, `dim` and `labels` disagree, a label has no class, or a number
/// is not finite; the message says which.
pub fn render(report: &Report) -> Result<String> {
    check(report)?;
    let figures = [
        embedding_map::figure(report)?,
        loss_curves::figure(report)?,
        distances::figure(report)?,
        roc::figure(report)?,
    ];
    Ok(page::page(report, &figures))
}

fn check(report: &Report) -> Result<()> {
    let Report { labels, dim, .. } = *report;
    ensure!(
        report.embeddings.len() == labels.len() * dim,
        "report: {} embedding values for {} labels of dimension {dim}; expected {}",
        report.embeddings.len(),
        labels.len(),
        labels.len() * dim,
    );
    ensure!(
        dim > 0 || labels.is_empty(),
        "report: embeddings of dimension 0 can't be drawn; give at least 1"
    );
    if let Some(label) = labels.iter().find(|l| **l as usize >= report.classes.len()) {
        anyhow::bail!(
            "report: label {label} has no name among the {} classes",
            report.classes.len()
        );
    }

    let losses = |points: &[(u64, f64)]| points.iter().all(|p| p.1.is_finite());
    let floats = |values: &[f32]| values.iter().all(|v| v.is_finite());
    let rates = |points: &[(f64, f64)]| points.iter().all(|p| p.0.is_finite() && p.1.is_finite());
    for (name, finite) in [
        ("train_loss", losses(report.train_loss)),
        ("test_loss", losses(report.test_loss)),
        ("embeddings", floats(report.embeddings)),
        ("similar", floats(report.similar)),
        ("dissimilar", floats(report.dissimilar)),
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
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
