//! Fewer points, the same picture.

/// Lowest and highest of each of `buckets` equal stretches, in their order: spikes survive.
pub fn extremes(points: &[(f64, f64)], buckets: usize) -> Vec<(f64, f64)> {
    let length = points.len().div_ceil(buckets).max(1);
    if length <= 2 {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(2 * buckets);
    for stretch in points.chunks(length) {
        let by_height = |a: &usize, b: &usize| stretch[*a].1.total_cmp(&stretch[*b].1);
        let low = (0..stretch.len()).min_by(by_height).unwrap_or(0);
        let high = (0..stretch.len()).max_by(by_height).unwrap_or(0);
        kept.push(stretch[low.min(high)]);
        if low != high {
            kept.push(stretch[low.max(high)]);
        }
    }
    kept
}

/// Centred mean over `half` points on either side (fewer at the ends), at about `samples` points.
pub fn centred_mean(points: &[(f64, f64)], half: usize, samples: usize) -> Vec<(f64, f64)> {
    let Some(last) = points.len().checked_sub(1) else {
        return Vec::new();
    };
    let stride = points.len().div_ceil(samples).max(1);
    (0..last)
        .step_by(stride)
        .chain([last])
        .map(|i| {
            let window = &points[i.saturating_sub(half)..=last.min(i + half)];
            let sum: f64 = window.iter().map(|p| p.1).sum();
            (points[i].0, sum / window.len() as f64)
        })
        .collect()
}

/// Leaves out each point that is nearer than `tolerance`, on both axes, to the last one kept; keeps
/// the ends. On a rising curve nothing moves by more than `tolerance`.
pub fn beyond(points: &[(f64, f64)], tolerance: f64) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (i, &(x, y)) in points.iter().enumerate() {
        let far = kept
            .last()
            .is_none_or(|l| (x - l.0).abs() >= tolerance || (y - l.1).abs() >= tolerance);
        if far || i + 1 == points.len() {
            kept.push((x, y));
        }
    }
    kept
}

/// At most `budget` rows, evenly taken over the classes and over each class, the classes by turns
/// so that none is drawn on top of all others.
pub fn even_over_classes(labels: &[u32], classes: usize, budget: usize) -> Vec<usize> {
    let mut members = vec![Vec::new(); classes];
    for (row, &label) in labels.iter().enumerate() {
        members[label as usize].push(row);
    }
    members.retain(|rows| !rows.is_empty());
    let Some(quota) = budget.checked_div(members.len()) else {
        return Vec::new();
    };
    let quota = quota.max(1);
    (0..quota)
        .flat_map(|turn| {
            members.iter().filter_map(move |rows| {
                let take = rows.len().min(quota);
                (turn < take).then(|| rows[turn * rows.len() / take])
            })
        })
        .take(budget)
        .collect()
}
