//! Whitened features, against values worked by hand and a covariance that is known.

use metrics::{Embeddings, MetricsError, Whitening, principal_components};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn embeddings(values: &[f32], dim: usize) -> Embeddings {
    Embeddings::new(values.into(), dim).unwrap()
}

fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "found {found}, expected {expected} ± {tolerance}"
    );
}

/// Its variance is 1.
fn noise(rng: &mut ChaCha8Rng) -> f64 {
    let sum: f64 = (0..12).map(|_| rng.random::<f64>()).sum();
    sum - 6.0
}

/// The root of the covariance within the classes of `made`.
const ROOT: [[f64; 4]; 4] = [
    [2.0, 0.0, 0.0, 0.0],
    [1.0, 1.5, 0.0, 0.0],
    [-1.0, 0.5, 1.0, 0.0],
    [0.5, 0.5, 0.5, 1.0],
];

/// `members` of each of `classes` around centres of standard deviation 10, with ROOT · noise.
fn made(members: usize, classes: u32, seed: u64) -> (Vec<f32>, Vec<u32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for class in 0..classes {
        let centre: Vec<f64> = (0..4).map(|_| 10.0 * noise(&mut rng)).collect();
        for _ in 0..members {
            let z: Vec<f64> = (0..4).map(|_| noise(&mut rng)).collect();
            values.extend(centre.iter().zip(ROOT).map(|(centre, row)| {
                let within: f64 = row.iter().zip(&z).map(|(root, z)| root * z).sum();
                (centre + within) as f32
            }));
            labels.push(class);
        }
    }
    (values, labels)
}

/// The covariance within classes of `members` consecutive rows each.
fn within(rows: &Embeddings, members: usize) -> Vec<Vec<f64>> {
    let dim = rows.dimension();
    let mut sum = vec![vec![0.0; dim]; dim];
    for class in rows.values().chunks_exact(members * dim) {
        let mean = |column: usize| {
            let column = class.iter().skip(column).step_by(dim);
            column.map(|v| f64::from(*v)).sum::<f64>() / members as f64
        };
        for row in class.chunks_exact(dim) {
            let off = |column: usize| f64::from(row[column]) - mean(column);
            for (a, sums) in sum.iter_mut().enumerate() {
                for (b, sum) in sums.iter_mut().enumerate() {
                    *sum += off(a) * off(b);
                }
            }
        }
    }
    let degrees = (rows.len() - rows.len() / members) as f64;
    sum.iter_mut().flatten().for_each(|sum| *sum /= degrees);
    sum
}

fn assert_identity(matrix: &[Vec<f64>], tolerance: f64) {
    for (a, row) in matrix.iter().enumerate() {
        for (b, found) in row.iter().enumerate() {
            assert_near(*found, f64::from(u8::from(a == b)), tolerance);
        }
    }
}

#[test]
fn four_points_on_a_line_are_scaled_by_their_deviation() {
    // The deviations from the class means 1 and 11 are ±1: 4 in sum, of which 4 − 2 are free.
    let features = embeddings(&[0.0, 2.0, 10.0, 12.0], 1);
    let whitening = Whitening::fit(&features, &[0, 0, 1, 1], 1).unwrap();
    assert_eq!(whitening.mean(), [6.0]);
    assert_near(whitening.matrix()[0].abs().into(), 0.5_f64.sqrt(), 1e-7);
    let whitened = whitening.apply(&embeddings(&[6.0, 8.0], 1)).unwrap();
    assert_eq!(whitened.row(0), [0.0]);
    assert_near(whitened.row(1)[0].abs().into(), 2_f64.sqrt(), 1e-6);
}

#[test]
fn the_covariance_within_classes_becomes_the_identity() {
    let (values, labels) = made(50, 60, 1);
    let features = embeddings(&values, 4);
    let whitening = Whitening::fit(&features, &labels, 4).unwrap();
    assert!(whitening.shrinkage() < 0.01, "{}", whitening.shrinkage());
    // Of the features it was learnt from.
    assert_identity(&within(&whitening.apply(&features).unwrap(), 50), 0.02);
    // And of others of the same kind.
    let others = embeddings(&made(50, 60, 2).0, 4);
    assert_identity(&within(&whitening.apply(&others).unwrap(), 50), 0.1);
}

#[test]
fn the_directions_kept_are_those_that_vary_most() {
    // Along (3, 4)/5 the classes are far apart, across it they differ by a little.
    let mut values = Vec::new();
    for (along, across) in [(0.0, 0.0), (1.0, 1.0), (20.0, 1.0), (21.0, 0.0)] {
        values.extend([3.0 * along - 4.0 * across, 4.0 * along + 3.0 * across].map(|v| v / 5.0));
    }
    let features = embeddings(&values, 2);
    let whitening = Whitening::fit(&features, &[0, 0, 1, 1], 1).unwrap();
    assert_eq!(whitening.components(), 1);
    // Deviations along it are ±1/2: 1 in sum, of which 2 are free. The axis leans by the covariance of
    // the two over the difference of their variances, 0 / 401: not at all.
    let [a, b] = [0, 1].map(|at| f64::from(whitening.matrix()[at].abs()));
    assert_near(a, 2_f64.sqrt() * 0.6, 1e-6);
    assert_near(b, 2_f64.sqrt() * 0.8, 1e-6);
}

#[test]
fn wide_and_tall_features_give_the_same_distances() {
    let (values, labels) = made(3, 5, 3);
    let tall = embeddings(&values, 4);
    // Each number as 0.6 and 0.8 of it, which keeps distances, and pixels that never change: 15 rows
    // of 28.
    let wide: Vec<f32> = tall
        .rows()
        .flat_map(|row| {
            let mut wide = vec![0.7; 28];
            for (at, value) in row.iter().enumerate() {
                (wide[3 * at], wide[27 - 2 * at]) = (0.6 * value, 0.8 * value);
            }
            wide
        })
        .collect();
    let whitened = [tall, embeddings(&wide, 28)].map(|features| {
        let whitening = Whitening::fit(&features, &labels, 10).unwrap();
        assert_eq!(whitening.components(), 4);
        whitening.apply(&features).unwrap()
    });
    for a in 0..15 {
        for b in 0..15 {
            let [tall, wide] = [0, 1].map(|which: usize| {
                let rows = &whitened[which];
                f64::from(metrics::euclidean(rows.row(a), rows.row(b)))
            });
            assert_near(tall, wide, 1e-4 * wide);
        }
    }
}

#[test]
fn two_of_each_class_weigh_as_their_differences_do() {
    // Half the squared difference of two has the variance of one: 15 samples with a mean of 0.
    let (values, labels) = made(2, 15, 4);
    let features = embeddings(&values, 4);
    let samples: Vec<Vec<f64>> = (0..15)
        .map(|class| {
            let [a, b] = [0, 1].map(|member| features.row(2 * class + member));
            let difference = a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b));
            difference.map(|d| d / 2_f64.sqrt()).collect()
        })
        .collect();
    let product = |x: &[f64], a: usize, b: usize| x[a] * x[b];
    let covariance = |a, b| samples.iter().map(|x| product(x, a, b)).sum::<f64>() / 15.0;
    let mean = (0..4).map(|a| covariance(a, a)).sum::<f64>() / 4.0;
    let (mut error, mut distance) = (0.0, 0.0);
    for a in 0..4 {
        for b in 0..4 {
            let s = covariance(a, b);
            let squares = samples.iter().map(|x| (product(x, a, b) - s).powi(2));
            error += squares.sum::<f64>() / 15.0 / 15.0;
            distance += (s - if a == b { mean } else { 0.0 }).powi(2);
        }
    }
    let found = Whitening::fit(&features, &labels, 4).unwrap().shrinkage();
    assert!(found > 0.05 && found < 0.5, "{found}");
    assert_near(found, error / distance, 1e-6);
}

#[test]
fn a_shrinkage_that_is_given_mixes_the_covariance_with_its_mean_variance() {
    // Two pairs, ±1 apart along the first axis and ±3 along the second: with one of two degrees of freedom
    // each, variances of 1 and 9 within classes. Means at (±100, ±100) give both axes.
    let values = [
        -101.0, -100.0, -99.0, -100.0, 100.0, 97.0, 100.0, 103.0, //
    ];
    let labels = [0, 0, 1, 1];
    for (shrinkage, variances) in [(0.5, [3.0, 7.0]), (1.0, [5.0, 5.0])] {
        let features = embeddings(&values, 2);
        let whitening = Whitening::with_shrinkage(&features, &labels, 2, shrinkage).unwrap();
        assert_near(whitening.shrinkage(), shrinkage, 0.0);
        // A unit step along either axis is as long as its deviation is short.
        let steps = whitening.apply(&embeddings(&[0.0, 0.0, 1.0, 0.0, 0.0, 1.0], 2));
        let steps = steps.unwrap();
        for (axis, variance) in (1..).zip(variances) {
            let pairs = steps.row(axis).iter().zip(steps.row(0));
            let square: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
            assert_near(square, 1.0 / variance, 1e-5);
        }
    }
    for shrinkage in [0.0, -0.1, 1.5, f64::NAN] {
        let features = embeddings(&values, 2);
        let error = Whitening::with_shrinkage(&features, &labels, 2, shrinkage).unwrap_err();
        let said = format!("a shrinkage of {shrinkage}: it must be above 0 and at most 1");
        assert!(error.to_string().contains(&said), "{error}");
    }
}

#[test]
fn few_images_give_numbers() {
    let finite = |values: &[f32], dim, labels: &[u32]| {
        let features = embeddings(values, dim);
        let whitening = Whitening::fit(&features, labels, 100).unwrap();
        let whitened = whitening.apply(&features).unwrap();
        assert!(whitened.values().iter().all(|value| value.is_finite()));
        whitening
    };
    // One class: its deviations are all there is.
    finite(&[0.0, 1.0, 2.0, 2.0, 1.0, 0.0, 5.0, 5.0], 2, &[3; 4]);
    // One class of two among single images: 1 free deviation, so the mean variance alone.
    let singles = [0.0, 1.0, 2.0, 2.0, 1.0, 0.0, 5.0, 7.0, 9.0, 4.0, 4.0, 8.0];
    let whitening = finite(&singles, 3, &[0, 0, 1, 2]);
    assert_eq!(whitening.shrinkage(), 1.0);
    // Two classes that vary in one of two directions, by the same: the weight is as small as can be.
    let line = [0.0, 0.0, 2.0, 0.0, 1.0, 7.0, 3.0, 7.0];
    let whitening = finite(&line, 2, &[0, 0, 1, 1]);
    assert_eq!(whitening.components(), 2);
}

#[test]
fn features_that_cannot_be_whitened_are_refused_with_what_is_missing() {
    let refusal = |values: &[f32], labels: &[u32], components| {
        let found = Whitening::fit(&embeddings(values, 2), labels, components);
        found.unwrap_err().to_string()
    };
    let values = [0.0, 1.0, 2.0, 4.0];
    for (found, expected) in [
        (
            refusal(&values, &[1, 1], 0),
            "whitening to 0 components: it must be at least 1",
        ),
        (
            refusal(&values, &[1, 2], 2),
            "all 2 labels differ: whitening needs a class with at least two members",
        ),
        (
            refusal(&[0.1; 8], &[1, 1, 2, 2], 2),
            "all 4 rows of features are equal: whitening needs some that differ",
        ),
        (
            refusal(&[0.1, 0.2, 0.1, 0.2, 0.3, 0.3, 0.3, 0.3], &[1, 1, 2, 2], 2),
            "the features of each class are all equal: whitening needs some that differ",
        ),
        (
            refusal(&[0.0, 1e-42, 1e-42, 0.0], &[1, 1], 2),
            "the features vary too little for whitening in f32: scale them up",
        ),
        (
            refusal(&[0.0, f32::NAN], &[1], 2),
            "features: row 0, column 1 is NaN: embeddings must be finite",
        ),
        (
            refusal(&[], &[], 2),
            "features: no embeddings: give at least one",
        ),
    ] {
        assert_eq!(found, expected);
    }
    let whitening = Whitening::fit(&embeddings(&values, 2), &[1, 1], 1).unwrap();
    assert_eq!(
        whitening.apply(&embeddings(&[1.0; 3], 3)),
        Err(MetricsError::Embeddings(
            "features of dimension 3, not 2".into()
        ))
    );
    assert!(
        whitening
            .apply(&embeddings(&[1.0, f32::INFINITY], 2))
            .is_err()
    );
}

/// Classes at (±2, ±1/2), each with members at (±2, ±1/10) about its mean.
fn crossed() -> (Embeddings, Vec<u32>) {
    let corners = |x: f32, y: f32| [(x, y), (x, -y), (-x, y), (-x, -y)];
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for (label, centre) in (0..).zip(corners(2.0, 0.5)) {
        for member in corners(2.0, 0.1) {
            values.extend([centre.0 + member.0, centre.1 + member.1]);
            labels.push(label);
        }
    }
    (embeddings(&values, 2), labels)
}

#[test]
fn a_discriminant_takes_the_directions_in_which_whitened_means_differ() {
    let (features, labels) = crossed();
    let whitening = Whitening::fit(&features, &labels, 2).unwrap();
    // 16 deviations, of which 12 are free: variances of 16/3 and 16/1200, no covariance.
    let weight = whitening.shrinkage();
    let (x, y) = (16.0 / 3.0, 16.0 / 1200.0);
    let shrunk = |variance: f64| (1.0 - weight) * variance + weight * (x + y) / 2.0;
    // The means vary more along x, but less than the members do.
    assert!(0.25 / shrunk(y) > 4.0 / shrunk(x));
    let found = whitening.discriminant(&features, &labels, 1).unwrap();
    assert_eq!((found.components(), found.mean()), (1, [0.0; 2].as_slice()));
    assert_near(found.matrix()[0].into(), 0.0, 1e-5);
    let expected = 1.0 / shrunk(y).sqrt();
    assert_near(
        f64::from(found.matrix()[1].abs()),
        expected,
        1e-5 * expected,
    );
    // All directions keep the whitened distances.
    let all = whitening.discriminant(&features, &labels, 9).unwrap();
    assert_eq!(all.components(), 2);
    let [plain, turned] = [&whitening, &all].map(|map| map.apply(&features).unwrap());
    for row in 1..16 {
        let distance = |rows: &Embeddings| metrics::euclidean(rows.row(0), rows.row(row));
        let (found, expected) = (distance(&turned).into(), distance(&plain).into());
        assert_near(found, expected, 1e-5 * expected);
    }
}

#[test]
fn every_class_counts_alike_in_a_discriminant() {
    let (features, labels) = crossed();
    let whitening = Whitening::fit(&features, &labels, 2).unwrap();
    let once = whitening.discriminant(&features, &labels, 2).unwrap();
    // The first class three times.
    let thrice = [
        &features.values()[..8],
        &features.values()[..8],
        features.values(),
    ]
    .concat();
    let labels = [&labels[..4], &labels[..4], &labels[..]].concat();
    let thrice = whitening.discriminant(&embeddings(&thrice, 2), &labels, 2);
    for (one, other) in once.matrix().iter().zip(thrice.unwrap().matrix()) {
        assert_near(one.abs().into(), other.abs().into(), 1e-5);
    }
}

#[test]
fn means_that_do_not_differ_have_no_discriminant() {
    let (features, labels) = crossed();
    let whitening = Whitening::fit(&features, &labels, 2).unwrap();
    let one = [0; 16];
    for (labels, dimensions, words) in [
        (&labels[..], 0, "0 dimensions"),
        (
            &one,
            1,
            "features of 1 class: a discriminant needs classes whose means differ",
        ),
        (&labels[..3], 1, "3 labels"),
    ] {
        let error = whitening
            .discriminant(&features, labels, dimensions)
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn principal_components_are_the_directions_of_most_variance() {
    // Around (10, 20): 2 along (3, 4)/5 either way, and 1 along (-4, 3)/5.
    let along = [[6.0, 8.0], [-6.0, -8.0], [-4.0, 3.0], [4.0, -3.0]];
    let points: Vec<f32> = along
        .iter()
        .flat_map(|[x, y]| [10.0 + 0.2 * x, 20.0 + 0.2 * y])
        .collect();
    let points = embeddings(&points, 2);
    let found = principal_components(&points, 5).unwrap();
    for (found, expected) in found.chunks_exact(2).zip([[0.6, 0.8], [-0.8, 0.6]]) {
        let dot = found[0] * expected[0] + found[1] * expected[1];
        assert!((dot.abs() - 1.0).abs() < 1e-5, "{found:?}");
    }
    assert_eq!(found.len(), 2 * 2);
    assert_eq!(principal_components(&points, 1).unwrap(), found[..2]);
    let refused = |points: &Embeddings, most| principal_components(points, most).unwrap_err();
    assert!(refused(&points, 0).to_string().contains("at least 1"));
    let equal = embeddings(&[1.0, 2.0, 1.0, 2.0], 2);
    assert!(refused(&equal, 1).to_string().contains("equal"));
    let nan = embeddings(&[1.0, f32::NAN], 2);
    assert!(refused(&nan, 1).to_string().contains("finite"));
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (values, labels) = made(20, 60, 5);
    let features = embeddings(&values, 4);
    let learnt = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let whitening = Whitening::fit(&features, &labels, 4).unwrap();
            let found = whitening.discriminant(&features, &labels, 3).unwrap();
            (whitening, found)
        })
    };
    let one = learnt(1);
    assert!([2, 3, 8].into_iter().all(|threads| learnt(threads) == one));
}
