//! Embeddings of any dimension on a sheet of paper.

/// Sweeps of the power iteration. Its error falls by the ratio of the variances with each, and
/// directions of nearly equal variance show a map equally well.
const SWEEPS: usize = 200;

/// A plane to show embeddings in: their own if they have two dimensions, else the one in which they
/// spread most (principal components).
pub struct Plane {
    mean: Vec<f64>,
    /// Orthonormal, each (D,).
    axes: [Vec<f64>; 2],
}

impl Plane {
    /// The plane of `values` (N, D), row by row; N is at least 1.
    pub fn of(values: &[f32], dim: usize) -> Self {
        if dim <= 2 {
            let axis = |k| (0..dim).map(|i| f64::from(u8::from(i == k))).collect();
            return Self {
                mean: vec![0.0; dim],
                axes: [axis(0), axis(1)],
            };
        }
        let rows = || values.chunks_exact(dim);
        let count = rows().len() as f64;
        let mut mean = vec![0.0; dim];
        for row in rows() {
            for (sum, &value) in mean.iter_mut().zip(row) {
                *sum += f64::from(value) / count;
            }
        }
        let mut covariance = vec![0.0; dim * dim];
        for row in rows() {
            let centred: Vec<f64> = row
                .iter()
                .zip(&mean)
                .map(|(&v, m)| f64::from(v) - m)
                .collect();
            for (products, &x) in covariance.chunks_exact_mut(dim).zip(&centred) {
                for (product, &y) in products.iter_mut().zip(&centred) {
                    *product += x * y / count;
                }
            }
        }
        let first = principal(&covariance, dim, None);
        let second = principal(&covariance, dim, Some(&first));
        Self {
            mean,
            axes: [first, second],
        }
    }

    /// Where an embedding (D,) lies.
    pub fn place(&self, embedding: &[f32]) -> [f32; 2] {
        self.axes.each_ref().map(|axis| {
            let centred = embedding
                .iter()
                .zip(&self.mean)
                .map(|(&v, m)| f64::from(v) - m);
            centred.zip(axis).map(|(v, a)| v * a).sum::<f64>() as f32
        })
    }
}

/// The direction of the largest variance, orthogonal to `other`.
fn principal(covariance: &[f64], dim: usize, other: Option<&Vec<f64>>) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let orthonormal = |mut v: Vec<f64>| {
        if let Some(other) = other {
            let along = dot(&v, other);
            v.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
        }
        let length = dot(&v, &v).sqrt();
        (length > 1e-12).then(|| v.iter().map(|v| v / length).collect::<Vec<f64>>())
    };
    // Any start that is not orthogonal to the answer does.
    let start = (0..dim).map(|i| 1.0 + (i as f64 * 0.7).sin()).collect();
    let Some(mut direction) = orthonormal(start) else {
        return vec![0.0; dim];
    };
    for _ in 0..SWEEPS {
        let turned = covariance.chunks_exact(dim).map(|row| dot(row, &direction));
        match orthonormal(turned.collect()) {
            Some(turned) => direction = turned,
            // No variance is left.
            None => break,
        }
    }
    direction
}

#[cfg(test)]
mod tests {
    use super::Plane;

    #[test]
    fn two_dimensions_are_shown_as_they_are() {
        let plane = Plane::of(&[5.0, 6.0, -1.0, 2.0], 2);
        assert_eq!(plane.place(&[5.0, 6.0]), [5.0, 6.0]);
        assert_eq!(Plane::of(&[3.0], 1).place(&[3.0]), [3.0, 0.0]);
    }

    #[test]
    fn more_are_shown_where_they_spread_most() {
        // Spread 10 along (0, 0.6, 0.8), 2 along (1, 0, 0) and 0.1 along (0, 0.8, -0.6).
        let mut values = Vec::new();
        for (u, v, w) in [
            (10.0, 2.0, 0.1),
            (10.0, -2.0, -0.1),
            (-10.0, 2.0, -0.1),
            (-10.0, -2.0, 0.1),
        ] {
            values.extend([v, 0.6 * u + 0.8 * w, 0.8 * u - 0.6 * w].map(|x: f64| x as f32 + 7.0));
        }
        let plane = Plane::of(&values, 3);
        for (row, expected) in
            values
                .chunks_exact(3)
                .zip([[10.0, 2.0], [10.0, 2.0], [10.0, 2.0], [10.0, 2.0]])
        {
            let place = plane.place(row).map(f32::abs);
            let near = place
                .iter()
                .zip(expected)
                .all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-4);
            assert!(near, "{place:?} is not {expected:?}");
        }
    }

    #[test]
    fn equal_embeddings_lie_on_one_point() {
        let plane = Plane::of(&[1.0; 12], 4);
        assert_eq!(plane.place(&[1.0; 4]), [0.0, 0.0]);
    }
}
