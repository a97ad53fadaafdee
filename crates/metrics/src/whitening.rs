use std::collections::{BTreeMap, HashMap};

use faer::{Mat, Side};
use rayon::prelude::*;

use crate::retrieval::{check, check_finite, members};
use crate::wide::mean;
use crate::{Embeddings, MetricsError};

/// A linear map to the features that vary most, scaled so that they vary alike within a class.
///
/// Of features such as pixels it makes embeddings without training a network, which one that is
/// trained has to beat. Centred features are projected on their principal components, at most K, and
/// multiplied by S^(−1/2), where S is the covariance of the projected features within classes. S is
/// shrunk towards its mean variance with the weight of Ledoit and Wolf ("A well-conditioned estimator
/// for large-dimensional covariance matrices", Journal of Multivariate Analysis 88, 2004).
#[derive(Debug, Clone, PartialEq)]
pub struct Whitening {
    mean: Vec<f32>,
    matrix: Vec<f32>,
    shrinkage: f64,
}

impl Whitening {
    /// Learns it from `features` (N, D) with `labels` (N,), with at most `components` components:
    /// fewer if the features vary in fewer directions.
    ///
    /// Classes of one member count for the principal components alone. Takes O(N·D·M + M³) time, where
    /// M is the smaller of N and D, and O(N·D + M²) memory in f64.
    ///
    /// # Errors
    ///
    /// [`MetricsError::Embeddings`] if there is not one label for each row, there are none, a value is
    /// not finite, `components` is 0, no class has two members, or features do not vary at all or not
    /// within classes.
    pub fn fit(
        features: &Embeddings,
        labels: &[u32],
        components: usize,
    ) -> Result<Self, MetricsError> {
        Self::shrunk(features, labels, components, None)
    }

    /// As [`fit`](Self::fit), with S shrunk by the weight `shrinkage`, in (0, 1].
    ///
    /// What a network was trained on it has learnt to give alike, so within the classes of these features
    /// there is less variance than in those of new images, which the weight of Ledoit and Wolf cannot know:
    /// for such features a larger one does better.
    ///
    /// # Errors
    ///
    /// As [`fit`](Self::fit), and for another `shrinkage`.
    pub fn with_shrinkage(
        features: &Embeddings,
        labels: &[u32],
        components: usize,
        shrinkage: f64,
    ) -> Result<Self, MetricsError> {
        if !(shrinkage > 0.0 && shrinkage <= 1.0) {
            return refused(format!(
                "a shrinkage of {shrinkage}: it must be above 0 and at most 1"
            ));
        }
        Self::shrunk(features, labels, components, Some(shrinkage))
    }

    fn shrunk(
        features: &Embeddings,
        labels: &[u32],
        components: usize,
        shrinkage: Option<f64>,
    ) -> Result<Self, MetricsError> {
        check("features", features, labels)?;
        if components == 0 {
            return refused("whitening to 0 components: it must be at least 1");
        }
        let mean = mean(features);
        let centred = centred(features, &mean);
        let axes = principal_axes(&centred, components)?;
        let projected = &centred * &axes;
        let within = Within::new(&projected, labels)?;
        let spread = projected.squared_norm_l2() / projected.nrows() as f64;
        let (covariance, shrinkage) = within.covariance(shrinkage);
        // What is left of equal images is rounding.
        if trace(&covariance) <= 1e-20 * spread {
            return refused(
                "the features of each class are all equal: whitening needs some that differ",
            );
        }
        let matrix = rows(&(inverse_root(&covariance)? * axes.transpose()));
        if matrix.iter().any(|value| !value.is_finite()) {
            return refused("the features vary too little for whitening in f32: scale them up");
        }
        let mean = mean.into_iter().map(|value| value as f32).collect();
        Ok(Self {
            mean,
            matrix,
            shrinkage,
        })
    }

    /// The same map, followed by a projection on the directions in which class means vary most: linear
    /// discriminant analysis. `features` (N, D) with `labels` (N,) are those that it was learnt from;
    /// every class counts alike.
    ///
    /// There are at most `dimensions` directions, and fewer if the means vary in fewer: C classes leave
    /// C − 1 at most.
    ///
    /// # Errors
    /// [`MetricsError::Embeddings`] as [`apply`](Self::apply), if there is not one label for each row,
    /// `dimensions` is 0, or the means do not differ.
    pub fn discriminant(
        &self,
        features: &Embeddings,
        labels: &[u32],
        dimensions: usize,
    ) -> Result<Self, MetricsError> {
        check("features", features, labels)?;
        if dimensions == 0 {
            return refused("a discriminant of 0 dimensions: there must be at least 1");
        }
        let components = self.components();
        let mut sums: BTreeMap<u32, (f64, Vec<f64>)> = BTreeMap::new();
        for (row, &label) in self.apply(features)?.rows().zip(labels) {
            let sum = sums.entry(label);
            let (count, sum) = sum.or_insert_with(|| (0.0, vec![0.0; components]));
            *count += 1.0;
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        let means: Vec<(f64, Vec<f64>)> = sums.into_values().collect();
        let mean = |class: usize, column: usize| means[class].1[column] / means[class].0;
        let centre: Vec<f64> = (0..components)
            .map(|column| {
                let all = (0..means.len()).map(|class| mean(class, column));
                all.sum::<f64>() / means.len() as f64
            })
            .collect();
        let centred = Mat::from_fn(means.len(), components, |class, column| {
            mean(class, column) - centre[column]
        });
        if means.len() < 2 {
            return refused("features of 1 class: a discriminant needs classes whose means differ");
        }
        let axes = principal_axes(&centred, dimensions)?;
        let dimension = self.mean.len();
        let matrix = Mat::from_fn(components, dimension, |row, column| {
            f64::from(self.matrix[row * dimension + column])
        });
        Ok(Self {
            mean: self.mean.clone(),
            matrix: rows(&(axes.transpose() * matrix)),
            shrinkage: self.shrinkage,
        })
    }

    /// The whitened `features` (N, D), (N, K): matrix · (x − mean) for each, computed in f64.
    ///
    /// # Errors
    ///
    /// [`MetricsError::Embeddings`] if they have another dimension than those it was learnt from, or a
    /// value is not finite.
    pub fn apply(&self, features: &Embeddings) -> Result<Embeddings, MetricsError> {
        // Enough for the product to run at full speed.
        const ROWS: usize = 128;
        let (dimension, components) = (self.mean.len(), self.components());
        if features.dimension() != dimension {
            let found = features.dimension();
            return refused(format!("features of dimension {found}, not {dimension}"));
        }
        check_finite("features", features)?;
        let matrix = Mat::from_fn(dimension, components, |row, column| {
            f64::from(self.matrix[column * dimension + row])
        });
        let values = features
            .values()
            .par_chunks(ROWS * dimension)
            .flat_map_iter(|rows| {
                let centred = Mat::from_fn(rows.len() / dimension, dimension, |row, column| {
                    f64::from(rows[row * dimension + column]) - f64::from(self.mean[column])
                });
                let whitened = centred * &matrix;
                (0..whitened.nrows() * components)
                    .map(move |at| whitened[(at / components, at % components)] as f32)
            })
            .collect();
        Embeddings::new(values, components)
    }

    /// Number of components, K.
    pub fn components(&self) -> usize {
        self.matrix.len() / self.mean.len()
    }

    /// The mean of the features, (D,).
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The map of centred features, (K, D), row by row.
    pub fn matrix(&self) -> &[f32] {
        &self.matrix
    }

    /// The weight of the mean variance in S, in (0, 1].
    pub fn shrinkage(&self) -> f64 {
        self.shrinkage
    }
}

/// The principal components of `features` (N, D): the directions in which they vary most about their mean,
/// (K, D) row by row, orthonormal, the one of most variance first. K is `most`, or fewer if they vary in fewer.
///
/// # Errors
/// [`MetricsError::Embeddings`] if `most` is 0, a value is not finite, or the features are all equal.
pub fn principal_components(features: &Embeddings, most: usize) -> Result<Vec<f32>, MetricsError> {
    check_finite("features", features)?;
    if most == 0 {
        return refused("0 principal components: there must be at least 1");
    }
    let axes = principal_axes(&centred(features, &mean(features)), most)?;
    Ok(rows(&axes.transpose().reverse_rows().to_owned()))
}

fn centred(features: &Embeddings, mean: &[f64]) -> Mat<f64> {
    Mat::from_fn(features.len(), features.dimension(), |row, column| {
        f64::from(features.row(row)[column]) - mean[column]
    })
}

/// The directions in which `centred` (N, D) varies most, (D, K): orthonormal, K at most `most`.
fn principal_axes(centred: &Mat<f64>, most: usize) -> Result<Mat<f64>, MetricsError> {
    let (rows, columns) = centred.shape();
    let wide = rows < columns;
    let (variances, vectors) = eigen(&if wide {
        centred * centred.transpose()
    } else {
        centred.transpose() * centred
    })?;
    // Ascending; below that share of the largest is rounding.
    let negligible = 1e-12 * variances.last().copied().unwrap_or(0.0);
    let varying = variances.iter().filter(|v| **v > negligible).count();
    let kept = variances.len() - varying.min(most)..variances.len();
    if kept.is_empty() {
        return refused(format!(
            "all {rows} rows of features are equal: whitening needs some that differ"
        ));
    }
    let vectors = vectors.get(.., kept.clone());
    if !wide {
        return Ok(vectors.to_owned());
    }
    // Eigenvectors of XXᵀ to those of XᵀX, whose lengths are the roots of the eigenvalues.
    let mut axes = centred.transpose() * vectors;
    for (axis, variance) in axes.col_iter_mut().zip(&variances[kept]) {
        axis.iter_mut().for_each(|value| *value /= variance.sqrt());
    }
    Ok(axes)
}

/// Deviations from the class means of classes with two or more members.
struct Within {
    /// (n, K).
    deviations: Mat<f64>,
    /// How many of the n are free: n less the number of these classes.
    degrees: usize,
}

impl Within {
    fn new(projected: &Mat<f64>, labels: &[u32]) -> Result<Self, MetricsError> {
        let members = members(labels);
        let rows: Vec<usize> = (0..labels.len())
            .filter(|row| members[&labels[*row]] > 1)
            .collect();
        if rows.is_empty() {
            let labels = labels.len();
            return refused(format!(
                "all {labels} labels differ: whitening needs a class with at least two members"
            ));
        }
        let mut means: HashMap<u32, Vec<f64>> = HashMap::new();
        for &row in &rows {
            let mean = means.entry(labels[row]);
            let mean = mean.or_insert_with(|| vec![0.0; projected.ncols()]);
            for (sum, value) in mean.iter_mut().zip(projected.row(row).iter()) {
                *sum += value / members[&labels[row]] as f64;
            }
        }
        let deviations = Mat::from_fn(rows.len(), projected.ncols(), |at, column| {
            projected[(rows[at], column)] - means[&labels[rows[at]]][column]
        });
        let degrees = rows.len() - means.len();
        Ok(Self {
            deviations,
            degrees,
        })
    }

    /// Their covariance, (K, K), shrunk towards its mean variance, and the weight of the latter: `weight`,
    /// or that of Ledoit and Wolf.
    fn covariance(&self, weight: Option<f64>) -> (Mat<f64>, f64) {
        let dimension = self.deviations.ncols();
        let scatter = self.deviations.transpose() * &self.deviations;
        let weight = weight.unwrap_or_else(|| self.weight(&scatter));
        let free = scatter / (self.degrees as f64);
        let mean = trace(&free) / dimension as f64;
        let shrunk = Mat::from_fn(dimension, dimension, |row, column| {
            let target = if row == column { weight * mean } else { 0.0 };
            (1.0 - weight) * free[(row, column)] + target
        });
        (shrunk, weight)
    }

    /// The Ledoit-Wolf weight: how far the covariance is from the truth in the square mean, as a share
    /// of how far it is from its mean variance.
    ///
    /// Theirs is for n samples whose mean is known. Here n deviations hold as much as fewer free ones,
    /// so the error is as many times larger.
    fn weight(&self, scatter: &Mat<f64>) -> f64 {
        // A single free deviation says nothing about its own error.
        if self.degrees < 2 {
            return 1.0;
        }
        let (count, dimension) = self.deviations.shape();
        let count = count as f64;
        let square = scatter.squared_norm_l2() / (count * count);
        let mean = trace(scatter) / (count * dimension as f64);
        let fourth = self
            .deviations
            .row_iter()
            .map(|row| row.squared_norm_l2().powi(2));
        let error = (fourth.sum::<f64>() / count - square) / self.degrees as f64;
        let distance = square - dimension as f64 * mean * mean;
        // Some, so that the inverse exists.
        const LEAST: f64 = 1e-6;
        if distance > 0.0 {
            (error / distance).clamp(LEAST, 1.0)
        } else {
            1.0
        }
    }
}

/// A matrix in f32, row by row.
fn rows(matrix: &Mat<f64>) -> Vec<f32> {
    let row = |row: usize| matrix.row(row).iter().map(|value| *value as f32);
    (0..matrix.nrows()).flat_map(row).collect()
}

fn trace(matrix: &Mat<f64>) -> f64 {
    matrix.diagonal().column_vector().iter().sum()
}

/// M^(−1/2) of a symmetric, positive definite M.
fn inverse_root(matrix: &Mat<f64>) -> Result<Mat<f64>, MetricsError> {
    let (values, vectors) = eigen(matrix)?;
    let mut scaled = vectors.clone();
    for (column, value) in scaled.col_iter_mut().zip(values) {
        column.iter_mut().for_each(|entry| *entry /= value.sqrt());
    }
    Ok(scaled * vectors.transpose())
}

/// Eigenvalues, ascending, and eigenvectors, a column each, of a symmetric matrix.
fn eigen(matrix: &Mat<f64>) -> Result<(Vec<f64>, Mat<f64>), MetricsError> {
    let Ok(eigen) = matrix.self_adjoint_eigen(Side::Lower) else {
        return refused("the eigenvalues of the features' covariance did not converge");
    };
    let values = eigen.S().column_vector().iter().copied().collect();
    Ok((values, eigen.U().to_owned()))
}

fn refused<T>(problem: impl Into<String>) -> Result<T, MetricsError> {
    Err(MetricsError::Embeddings(problem.into()))
}
