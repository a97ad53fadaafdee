//! The two directions in which a cloud of points spreads the most (PCA), by power iteration on two
//! vectors at once. The start is fixed, so the same points give the same picture.

/// Enough for two axes whose variances differ from the third's by a tenth (1.1^-100 < 1e-4).
const ITERATIONS: usize = 100;

/// `rows` (each of length `dim`) on their first two principal axes, and the share of the variance
/// that these keep (1 where there is none).
pub fn project(rows: &[&[f32]], dim: usize) -> (Vec<(f64, f64)>, f64) {
    let n = rows.len().max(1) as f64;
    let mean: Vec<f64> = (0..dim)
        .map(|d| rows.iter().map(|row| f64::from(row[d])).sum::<f64>() / n)
        .collect();
    let centred: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .zip(&mean)
                .map(|(v, m)| f64::from(*v) - m)
                .collect()
        })
        .collect();

    let mut axes: [Vec<f64>; 2] = [
        (0..dim).map(|d| (d as f64).cos()).collect(),
        (0..dim).map(|d| (d as f64).sin()).collect(),
    ];
    for _ in 0..ITERATIONS {
        for axis in &mut axes {
            *axis = scatter_times(&centred, axis);
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

    let points: Vec<(f64, f64)> = centred
        .iter()
        .map(|row| (dot(row, &axes[0]), dot(row, &axes[1])))
        .collect();
    let total: f64 = centred.iter().map(|row| dot(row, row)).sum();
    let kept: f64 = points.iter().map(|p| p.0 * p.0 + p.1 * p.1).sum();
    (points, if total > 0.0 { kept / total } else { 1.0 })
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
