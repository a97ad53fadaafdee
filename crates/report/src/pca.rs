//! Embeddings of any dimension on a sheet of paper.

/// Enough for two axes whose variances differ from the third's by a tenth (1.1^-100 < 1e-4).
const ITERATIONS: usize = 100;

/// A plane to show embeddings in: their own if they have two dimensions, else the one in which they
/// spread the most (principal components). The same embeddings always get the same plane.
pub struct Plane {
    mean: Vec<f64>,
    /// Orthonormal, each (D,).
    axes: [Vec<f64>; 2],
    kept: f64,
}

impl Plane {
    /// The plane of `rows`, each (`dim`,).
    pub fn of(rows: &[&[f32]], dim: usize) -> Self {
        if dim <= 2 {
            let axis = |k| (0..dim).map(|i| f64::from(u8::from(i == k))).collect();
            return Self {
                mean: vec![0.0; dim],
                axes: [axis(0), axis(1)],
                kept: 1.0,
            };
        }
        let n = rows.len().max(1) as f64;
        let mean: Vec<f64> = (0..dim)
            .map(|d| rows.iter().map(|row| f64::from(row[d])).sum::<f64>() / n)
            .collect();
        let centred: Vec<Vec<f64>> = rows.iter().map(|row| centred(row, &mean)).collect();
        let axes = principal_axes(&centred, dim);
        let total: f64 = centred.iter().map(|row| dot(row, row)).sum();
        let squares = |row| axes.iter().map(|axis| dot(row, axis).powi(2)).sum::<f64>();
        let kept: f64 = centred.iter().map(|row| squares(row)).sum();
        Self {
            mean,
            axes,
            kept: if total > 0.0 { kept / total } else { 1.0 },
        }
    }

    /// Where an embedding (D,) lies.
    pub fn place(&self, embedding: &[f32]) -> (f64, f64) {
        let embedding = centred(embedding, &self.mean);
        (
            dot(&embedding, &self.axes[0]),
            dot(&embedding, &self.axes[1]),
        )
    }

    /// The share of the embeddings' variance that the plane keeps; 1 where there is none.
    pub fn kept(&self) -> f64 {
        self.kept
    }
}

fn centred(row: &[f32], mean: &[f64]) -> Vec<f64> {
    row.iter()
        .zip(mean)
        .map(|(v, m)| f64::from(*v) - m)
        .collect()
}

/// By power iteration on two vectors at once, from a fixed start.
fn principal_axes(centred: &[Vec<f64>], dim: usize) -> [Vec<f64>; 2] {
    let mut axes: [Vec<f64>; 2] = [
        (0..dim).map(|d| (d as f64).cos()).collect(),
        (0..dim).map(|d| (d as f64).sin()).collect(),
    ];
    for _ in 0..ITERATIONS {
        for axis in &mut axes {
            *axis = scatter_times(centred, axis);
        }
        let [first, second] = &mut axes;
        scale_to_unit(first, 0.0);
        let before = dot(second, second).sqrt();
        let along = dot(first, second);
        second
            .iter_mut()
            .zip(&*first)
            .for_each(|(s, f)| *s -= along * f);
        // What is left of points on one line is rounding error, not a second direction.
        scale_to_unit(second, 1e-9 * before);
    }
    axes
}

fn scatter_times(rows: &[Vec<f64>], axis: &[f64]) -> Vec<f64> {
    let mut product = vec![0.0; axis.len()];
    for row in rows {
        let along = dot(row, axis);
        product
            .iter_mut()
            .zip(row)
            .for_each(|(p, v)| *p += along * v);
    }
    product
}

fn scale_to_unit(v: &mut [f64], floor: f64) {
    let norm = dot(v, v).sqrt();
    let factor = if norm > floor { 1.0 / norm } else { 0.0 };
    v.iter_mut().for_each(|x| *x *= factor);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::Plane;

    #[test]
    fn two_dimensions_are_shown_as_they_are() {
        let plane = Plane::of(&[&[5.0, 6.0], &[-1.0, 2.0]], 2);
        assert_eq!(plane.place(&[5.0, 6.0]), (5.0, 6.0));
        assert_eq!(Plane::of(&[&[3.0]], 1).place(&[3.0]), (3.0, 0.0));
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
        let rows: Vec<&[f32]> = values.chunks_exact(3).collect();
        let plane = Plane::of(&rows, 3);
        let expected = (10.0, 2.0);
        for row in rows {
            let (x, y) = plane.place(row);
            let near = |a: f64, b: f64| (a.abs() - b).abs() < 1e-4;
            assert!(
                near(x, expected.0) && near(y, expected.1),
                "{:?} is not {expected:?}",
                (x, y)
            );
        }
    }

    #[test]
    fn equal_embeddings_lie_on_one_point() {
        let plane = Plane::of(&[&[1.0; 4][..]; 3], 4);
        assert_eq!(plane.place(&[1.0; 4]), (0.0, 0.0));
    }
}
