use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::MetricsError;

/// How well points find their own class, as Musgrave, Belongie and Lim, "A Metric Learning Reality
/// Check" (2020), measure it.
///
/// Each point in turn is the query and all others are ranked by Euclidean distance to it. R is the
/// number of others of the query's class, and only the R nearest count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// Precision at 1: share of queries whose nearest point is of their class, in [0, 1].
    pub p_at_1: f64,
    /// R-precision: share of the query's class among the R nearest, in [0, 1]; mean over queries.
    pub r_precision: f64,
    /// Mean average precision at R: (1/R) · Σ P(i) over those ranks i ≤ R that hold the query's
    /// class, where P(i) is the share of that class among the i nearest; in [0, 1], mean over
    /// queries.
    pub map_at_r: f64,
    /// Points that were queries: those whose class has another member.
    pub queries: usize,
}

/// Ranks N labelled points against each other, each left out of its own ranking.
///
/// `embeddings` is (N, `dim`) row by row, `labels` (N,). Points whose class has no other member
/// are no queries, but remain to be found. Equal distances rank in order of index. Takes O(N²)
/// time, and O(N) memory for each thread.
///
/// # Errors
///
/// If `dim` is 0, the lengths do not fit, there is no point, a value is NaN or infinite, or no
/// class has two members.
pub fn retrieval(
    embeddings: &[f32],
    dim: usize,
    labels: &[u32],
) -> Result<Retrieval, MetricsError> {
    check("embeddings", embeddings, dim, labels)?;
    let gallery = Gallery::new(embeddings, dim);
    let members = members(labels);

    let rankings: Vec<Ranking> = (0..labels.len())
        .into_par_iter()
        .filter(|&query| members[&labels[query]] > 1)
        .map_init(
            || (Vec::new(), Vec::new()),
            |(distances, neighbours), query| {
                gallery.squared_distances(row(embeddings, dim, query), distances);
                neighbours.clear();
                neighbours.extend(
                    (0..labels.len())
                        .filter(|&index| index != query)
                        .map(|index| Neighbour::new(distances[index], index)),
                );
                let r = members[&labels[query]] - 1;
                neighbours.select_nth_unstable(r - 1);
                neighbours[..r].sort_unstable();
                Ranking::new(
                    neighbours[..r]
                        .iter()
                        .map(|neighbour| labels[neighbour.index()] == labels[query]),
                )
            },
        )
        .collect();

    let queries = rankings.len();
    if queries == 0 {
        return Err(MetricsError::NoClassmates {
            labels: labels.len(),
        });
    }
    // Summed in order of query, so that the threads' timing can't change the rounding.
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
pub fn precision_at_1(embeddings: &[f32], dim: usize, labels: &[u32]) -> Result<f64, MetricsError> {
    check("embeddings", embeddings, dim, labels)?;
    let gallery = Gallery::new(embeddings, dim);
    let members = members(labels);
    let queries: usize = members.values().filter(|&&count| count > 1).sum();
    if queries == 0 {
        return Err(MetricsError::NoClassmates {
            labels: labels.len(),
        });
    }
    let hits = (0..labels.len())
        .into_par_iter()
        .filter(|&query| members[&labels[query]] > 1)
        .map_init(Vec::new, |distances, query| {
            gallery.squared_distances(row(embeddings, dim, query), distances);
            distances[query] = f64::INFINITY;
            labels[nearest(distances)] == labels[query]
        })
        .filter(|&hit| hit)
        .count();
    Ok(hits as f64 / queries as f64)
}

/// Share of queries whose nearest reference, by Euclidean distance, has their label; in [0, 1].
///
/// For test images against training images. `queries` is (N, `dim`) and `references` (M, `dim`),
/// row by row. Of equally near references the first counts. A query whose label no reference has
/// counts as wrong. Takes O(N·M) time.
///
/// # Errors
///
/// If `dim` is 0, the lengths do not fit, there is no query or no reference, or a value is NaN or
/// infinite.
pub fn precision_at_1_against(
    queries: &[f32],
    query_labels: &[u32],
    references: &[f32],
    reference_labels: &[u32],
    dim: usize,
) -> Result<f64, MetricsError> {
    check("queries", queries, dim, query_labels)?;
    check("references", references, dim, reference_labels)?;
    let gallery = Gallery::new(references, dim);
    let hits = (0..query_labels.len())
        .into_par_iter()
        .map_init(Vec::new, |distances, query| {
            gallery.squared_distances(row(queries, dim, query), distances);
            reference_labels[nearest(distances)] == query_labels[query]
        })
        .filter(|&hit| hit)
        .count();
    Ok(hits as f64 / query_labels.len() as f64)
}

fn check(
    set: &'static str,
    embeddings: &[f32],
    dim: usize,
    labels: &[u32],
) -> Result<(), MetricsError> {
    if dim == 0 {
        return Err(MetricsError::ZeroDimension);
    }
    if !embeddings.len().is_multiple_of(dim) || embeddings.len() / dim != labels.len() {
        return Err(MetricsError::EmbeddingCount {
            set,
            values: embeddings.len(),
            labels: labels.len(),
            dim,
        });
    }
    if labels.is_empty() {
        return Err(MetricsError::NoEmbeddings { set });
    }
    if let Some(at) = embeddings.iter().position(|value| !value.is_finite()) {
        return Err(MetricsError::NonFiniteEmbedding {
            set,
            row: at / dim,
            column: at % dim,
            value: embeddings[at],
        });
    }
    Ok(())
}

/// The index of the smallest distance, of equal ones the first.
fn nearest(distances: &[f64]) -> usize {
    let mut nearest = 0;
    for (index, distance) in distances.iter().enumerate() {
        if *distance < distances[nearest] {
            nearest = index;
        }
    }
    nearest
}

/// How many have each label.
fn members(labels: &[u32]) -> HashMap<u32, usize> {
    let mut members = HashMap::new();
    for &label in labels {
        *members.entry(label).or_default() += 1;
    }
    members
}

fn row(embeddings: &[f32], dim: usize, index: usize) -> &[f32] {
    &embeddings[index * dim..][..dim]
}

/// The points to search, a column for each dimension: one query's distances to all of them then
/// vectorise, which is three times as fast as row by row at 2 to 128 dimensions.
struct Gallery {
    columns: Vec<Vec<f32>>,
}

impl Gallery {
    fn new(embeddings: &[f32], dim: usize) -> Self {
        let columns = (0..dim)
            .map(|column| {
                embeddings
                    .iter()
                    .skip(column)
                    .step_by(dim)
                    .copied()
                    .collect()
            })
            .collect();
        Self { columns }
    }

    /// In f64, where finite f32 coordinates can't overflow.
    fn squared_distances(&self, query: &[f32], distances: &mut Vec<f64>) {
        distances.clear();
        distances.resize(self.columns[0].len(), 0.0);
        for (column, &of_query) in self.columns.iter().zip(query) {
            for (distance, &of_point) in distances.iter_mut().zip(column) {
                *distance += (f64::from(of_point) - f64::from(of_query)).powi(2);
            }
        }
    }
}

/// A point as seen from a query; orders by distance, then by index.
///
/// The high half holds the bits of the squared distance: those of floats that are not negative
/// order as the floats do, and one integer sorts 1.7 times as fast as a pair of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Neighbour(u128);

impl Neighbour {
    fn new(squared_distance: f64, index: usize) -> Self {
        Self(u128::from(squared_distance.to_bits()) << 64 | index as u128)
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// What one query contributes.
struct Ranking {
    precision_at_1: f64,
    r_precision: f64,
    average_precision: f64,
}

impl Ranking {
    /// From whether each of the R nearest, near to far, is of the query's class.
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
