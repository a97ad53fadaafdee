use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::nearest::{Candidate, keep_nearest};
use crate::{Embeddings, MetricsError};

/// How well embeddings find others of their class, as measured by Musgrave, Belongie and Lim, "A
/// Metric Learning Reality Check" (2020).
///
/// Each embedding in turn is the probe, and all others are ranked by their Euclidean distance from
/// it. R is the number of others of the probe's class, and only the R nearest count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// Precision at 1: share of probes whose nearest embedding is of their class, in [0, 1].
    pub p_at_1: f64,
    /// R-precision: share of the probe's class among the R nearest, in [0, 1]; mean over probes.
    pub r_precision: f64,
    /// Mean average precision at R: (1/R) · Σ P(i) over the ranks i ≤ R that hold the probe's class,
    /// where P(i) is the share of that class among the i nearest; in [0, 1], mean over probes.
    pub map_at_r: f64,
    /// Number of probes: embeddings whose class has another member.
    pub queries: usize,
}

/// Ranks N labelled embeddings against each other, each left out of its own ranking.
///
/// `labels` is (N,). Embeddings whose class has no other member are not probes, but can be found.
/// Equal distances rank in order of index. Takes O(N²) time, and O(N) memory on each thread.
///
/// # Errors
///
/// [`MetricsError::Embeddings`] if there is not one label for each embedding, there are none, a value
/// is not finite, or no class has two members.
pub fn retrieval(embeddings: &Embeddings, labels: &[u32]) -> Result<Retrieval, MetricsError> {
    let rankings = leave_one_out(embeddings, labels, |distances, r, label| {
        let mut candidates: Vec<_> = candidates(distances).collect();
        keep_nearest(&mut candidates, r);
        Ranking::new(
            candidates
                .iter()
                .map(|found| labels[found.index()] == label),
        )
    })?;
    let queries = rankings.len();
    // Summed in order of probe, so that the threads' timing can't change the rounding.
    let mean =
        |value: fn(&Ranking) -> f64| rankings.iter().map(value).sum::<f64>() / queries as f64;
    Ok(Retrieval {
        p_at_1: mean(|ranking| ranking.precision_at_1),
        r_precision: mean(|ranking| ranking.r_precision),
        map_at_r: mean(|ranking| ranking.average_precision),
        queries,
    })
}

/// [`Retrieval::p_at_1`] alone, in a fraction of the time.
///
/// # Errors
///
/// As [`retrieval`].
pub fn precision_at_1(embeddings: &Embeddings, labels: &[u32]) -> Result<f64, MetricsError> {
    let hits = leave_one_out(embeddings, labels, |distances, _, label| {
        nearest_has(label, distances, labels)
    })?;
    Ok(share(&hits))
}

/// Share of probes whose nearest embedding of the gallery, by Euclidean distance, has their label; in
/// [0, 1].
///
/// For test images against training images. `probes` is (N, D) with `labels` (N,), `gallery` (M, D)
/// with `gallery_labels` (M,). At equal distances the lower index counts as nearer. A probe whose
/// label is not in the gallery counts as wrong. Takes O(N·M) time.
///
/// # Errors
///
/// [`MetricsError::Embeddings`] if there is not one label for each embedding, there is no probe or an
/// empty gallery, the two differ in dimension, or a value is not finite.
pub fn precision_at_1_against(
    probes: &Embeddings,
    labels: &[u32],
    gallery: &Embeddings,
    gallery_labels: &[u32],
) -> Result<f64, MetricsError> {
    check("queries", probes, labels)?;
    check("references", gallery, gallery_labels)?;
    if probes.dimension() != gallery.dimension() {
        let (probe, gallery) = (probes.dimension(), gallery.dimension());
        let problem = format!("queries of dimension {probe}, references of {gallery}");
        return Err(MetricsError::Embeddings(problem));
    }
    let columns = Columns::new(gallery);
    let hits: Vec<bool> = (0..probes.len())
        .into_par_iter()
        .map_init(Vec::new, |distances, probe| {
            columns.squared_distances(probes.row(probe), distances);
            nearest_has(labels[probe], distances, gallery_labels)
        })
        .collect();
    Ok(share(&hits))
}

/// What `score` makes of each probe, in order, from the squared distances to all embeddings, where
/// its own is infinite, its R and its label.
fn leave_one_out<T: Send>(
    embeddings: &Embeddings,
    labels: &[u32],
    score: impl Fn(&[f64], usize, u32) -> T + Sync,
) -> Result<Vec<T>, MetricsError> {
    check("embeddings", embeddings, labels)?;
    let columns = Columns::new(embeddings);
    let mut members: HashMap<u32, usize> = HashMap::new();
    for &label in labels {
        *members.entry(label).or_default() += 1;
    }
    let scores: Vec<T> = (0..labels.len())
        .into_par_iter()
        .filter(|probe| members[&labels[*probe]] > 1)
        .map_init(Vec::new, |distances, probe| {
            columns.squared_distances(embeddings.row(probe), distances);
            distances[probe] = f64::INFINITY;
            let label = labels[probe];
            score(distances, members[&label] - 1, label)
        })
        .collect();
    if scores.is_empty() {
        return Err(MetricsError::Embeddings(format!(
            "all {} labels differ: retrieval needs a class with at least two members",
            labels.len()
        )));
    }
    Ok(scores)
}

fn candidates(distances: &[f64]) -> impl Iterator<Item = Candidate> {
    let candidate = |(index, &distance)| Candidate::new(distance, index);
    distances.iter().enumerate().map(candidate)
}

fn nearest_has(label: u32, distances: &[f64], labels: &[u32]) -> bool {
    let nearest = candidates(distances).min();
    nearest.is_some_and(|nearest| labels[nearest.index()] == label)
}

fn share(hits: &[bool]) -> f64 {
    hits.iter().filter(|hit| **hit).count() as f64 / hits.len() as f64
}

pub(crate) fn check(
    set: &str,
    embeddings: &Embeddings,
    labels: &[u32],
) -> Result<(), MetricsError> {
    let (values, dim) = (embeddings.values(), embeddings.dimension());
    let problem = if embeddings.len() != labels.len() {
        let (values, labels) = (values.len(), labels.len());
        format!(
            "{values} embedding values and {labels} labels with dimension {dim}: \
             give {dim} values for each label, row by row"
        )
    } else if labels.is_empty() {
        "no embeddings: give at least one".into()
    } else if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let (row, column, value) = (at / dim, at % dim, values[at]);
        format!("row {row}, column {column} is {value}: embeddings must be finite")
    } else {
        return Ok(());
    };
    Err(MetricsError::Embeddings(format!("{set}: {problem}")))
}

/// Embeddings to be searched by many probes, a column for each dimension: the distances of one probe
/// to all of them then vectorise, which is three times as fast as row by row at 2 to 128 dimensions.
struct Columns(Vec<Vec<f32>>);

impl Columns {
    fn new(embeddings: &Embeddings) -> Self {
        let column = |column| embeddings.rows().map(|row| row[column]).collect();
        Self((0..embeddings.dimension()).map(column).collect())
    }

    /// In f64, where finite f32 coordinates can't overflow.
    fn squared_distances(&self, probe: &[f32], distances: &mut Vec<f64>) {
        distances.clear();
        distances.resize(self.0[0].len(), 0.0);
        for (column, &of_probe) in self.0.iter().zip(probe) {
            for (distance, &of_embedding) in distances.iter_mut().zip(column) {
                *distance += (f64::from(of_embedding) - f64::from(of_probe)).powi(2);
            }
        }
    }
}

/// What one probe contributes.
struct Ranking {
    precision_at_1: f64,
    r_precision: f64,
    average_precision: f64,
}

impl Ranking {
    /// From whether each of the R nearest, near to far, is of the probe's class.
    fn new(hits: impl ExactSizeIterator<Item = bool>) -> Self {
        let r = hits.len() as f64;
        let (mut precision_at_1, mut found, mut sum) = (0.0, 0.0, 0.0);
        for (before, hit) in hits.enumerate() {
            if hit {
                found += 1.0;
                let rank = (before + 1) as f64;
                sum += found / rank;
                if before == 0 {
                    precision_at_1 = 1.0;
                }
            }
        }
        Self {
            precision_at_1,
            r_precision: found / r,
            average_precision: sum / r,
        }
    }
}
