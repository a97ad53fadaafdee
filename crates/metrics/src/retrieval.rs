use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::narrow::Line;
use crate::nearest::{Candidate, keep_nearest};
use crate::wide::nearest_others;
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

/// Dimensions up to which a walk along one of them meets few embeddings.
const NARROW: usize = 4;

/// [`Retrieval::p_at_1`] alone, in a fraction of the time.
///
/// In up to 4 dimensions, only embeddings that are near along one of them are looked at. From 64 on, a matrix
/// product in f32 finds the few embeddings that may be the nearest within its rounding, and their distances in
/// f64 decide: the result is the same.
///
/// # Errors
///
/// As [`retrieval`].
pub fn precision_at_1(embeddings: &Embeddings, labels: &[u32]) -> Result<f64, MetricsError> {
    const WIDE: usize = 64;
    if embeddings.dimension() <= NARROW {
        let (probes, line) = (probes(embeddings, labels)?, Line::new(embeddings));
        let hits = probes.into_par_iter().map(|(probe, _)| {
            let nearest = line.nearest(embeddings.row(probe), Some(probe));
            nearest.is_some_and(|nearest| labels[nearest] == labels[probe])
        });
        return Ok(share(&hits.collect::<Vec<bool>>()));
    }
    if embeddings.dimension() < WIDE {
        let hits = leave_one_out(embeddings, labels, |distances, _, label| {
            nearest_has(label, distances, labels)
        })?;
        return Ok(share(&hits));
    }
    let probes = probes(embeddings, labels)?;
    let nearest = nearest_others(embeddings);
    let hit = |&(probe, _): &(usize, usize)| labels[nearest[probe]] == labels[probe];
    let hits: Vec<bool> = probes.iter().map(hit).collect();
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
    if gallery.dimension() <= NARROW {
        let line = Line::new(gallery);
        let hits = (0..probes.len()).into_par_iter().map(|probe| {
            let nearest = line.nearest(probes.row(probe), None);
            nearest.is_some_and(|nearest| gallery_labels[nearest] == labels[probe])
        });
        return Ok(share(&hits.collect::<Vec<bool>>()));
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
    let probes = probes(embeddings, labels)?;
    let columns = Columns::new(embeddings);
    let scores = probes
        .into_par_iter()
        .map_init(Vec::new, |distances, (probe, r)| {
            columns.squared_distances(embeddings.row(probe), distances);
            distances[probe] = f64::INFINITY;
            score(distances, r, labels[probe])
        })
        .collect();
    Ok(scores)
}

/// The embeddings whose class has another member, in order, each with its R.
fn probes(embeddings: &Embeddings, labels: &[u32]) -> Result<Vec<(usize, usize)>, MetricsError> {
    check("embeddings", embeddings, labels)?;
    let members = members(labels);
    let probes: Vec<_> = (0..labels.len())
        .map(|probe| (probe, members[&labels[probe]] - 1))
        .filter(|(_, r)| *r > 0)
        .collect();
    if probes.is_empty() {
        return Err(MetricsError::Embeddings(format!(
            "all {} labels differ: retrieval needs a class with at least two members",
            labels.len()
        )));
    }
    Ok(probes)
}

/// How many members each class has.
pub(crate) fn members(labels: &[u32]) -> HashMap<u32, usize> {
    let mut members = HashMap::new();
    for &label in labels {
        *members.entry(label).or_default() += 1;
    }
    members
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

/// Refuses embeddings without a label each, none, and numbers that are not finite.
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
    } else {
        return check_finite(set, embeddings);
    };
    Err(MetricsError::Embeddings(format!("{set}: {problem}")))
}

/// Refuses numbers that are not finite.
pub(crate) fn check_finite(set: &str, embeddings: &Embeddings) -> Result<(), MetricsError> {
    let (values, dim) = (embeddings.values(), embeddings.dimension());
    let Some(at) = values.iter().position(|value| !value.is_finite()) else {
        return Ok(());
    };
    let (row, column, value) = (at / dim, at % dim, values[at]);
    Err(MetricsError::Embeddings(format!(
        "{set}: row {row}, column {column} is {value}: embeddings must be finite"
    )))
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
