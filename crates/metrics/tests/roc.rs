//! Verification: the ROC curve and what is read off it, against values worked by hand.

use metrics::{ErrorRate, MetricsError, Roc, RocPoint, Verification, is_same};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn roc(same: &[f32], different: &[f32]) -> Roc {
    let truths: Vec<bool> = [vec![true; same.len()], vec![false; different.len()]].concat();
    Roc::new(&[same, different].concat(), &truths).unwrap()
}

/// Whole distances from 0 to 19, so with ties, and a lean of the same pairs to the near side.
fn random_pairs(seed: u64) -> (Vec<f32>, Vec<bool>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let pairs = rng.random_range(2..60);
    let mut same: Vec<bool> = (0..pairs).map(|_| rng.random_bool(0.4)).collect();
    (same[0], same[1]) = (true, false);
    let distances = same
        .iter()
        .map(|&same| rng.random_range(0..if same { 14 } else { 20 }) as f32)
        .collect();
    (distances, same)
}

fn assert_close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= 1e-15,
        "found {found}, expected {expected}"
    );
}

#[test]
fn a_pair_at_the_threshold_is_the_same() {
    assert!(is_same(1.0, 1.0));
    assert!(!is_same(1.0f32.next_up(), 1.0));
    assert!(!is_same(f32::NAN, 1.0));
    assert!(!is_same(1.0, f64::NAN));

    let roc = roc(&[1.0], &[2.0]);
    // Right verdicts: the same pair from 1 on, the different pair up to but not at 2.
    assert_eq!(roc.accuracy_at(2.0), 0.5);
    assert_eq!(roc.accuracy_at(2.0f64.next_down()), 1.0);
    assert_eq!(roc.accuracy_at(1.0), 1.0);
    assert_eq!(roc.accuracy_at(1.0f64.next_down()), 0.5);
}

#[test]
fn tied_pairs_make_one_step_of_the_curve() {
    // At 2 a same and a different pair are accepted together: no point lies between.
    let points: Vec<_> = roc(&[1.0, 2.0], &[2.0, 3.0]).points().collect();
    let point = |threshold, far, tar: f64| RocPoint {
        threshold,
        far,
        frr: 1.0 - tar,
        tar,
    };
    assert_eq!(
        points,
        [
            point(f64::NEG_INFINITY, 0.0, 0.0),
            point(1.0, 0.0, 0.5),
            point(2.0, 0.5, 1.0),
            point(3.0, 1.0, 1.0),
        ]
    );
}

#[test]
fn negative_zero_ties_with_zero() {
    let roc = roc(&[-0.0], &[0.0]);
    assert_eq!(roc.points().len(), 2);
    assert_eq!(roc.auc(), 0.5);
}

#[test]
fn auc_counts_a_tie_half() {
    // (same, different): (1, 2) won, (1, 3) won, (2, 2) half, (2, 3) won: 3.5 of 4.
    assert_eq!(roc(&[1.0, 2.0], &[2.0, 3.0]).auc(), 3.5 / 4.0);
}

#[test]
fn auc_is_1_for_a_perfect_order_0_for_the_reverse_and_a_half_for_none() {
    assert_eq!(roc(&[1.0, 2.0], &[3.0, 4.0, 5.0]).auc(), 1.0);
    assert_eq!(roc(&[3.0, 4.0], &[0.0, 1.0, 2.0]).auc(), 0.0);
    assert_eq!(roc(&[1.0, 1.0], &[1.0, 1.0, 1.0]).auc(), 0.5);
    // (1, 2) and (1, 3) won, (4, 2) and (4, 3) lost.
    assert_eq!(roc(&[1.0, 4.0], &[2.0, 3.0]).auc(), 0.5);
}

#[test]
fn eer_is_read_off_a_point_where_the_rates_are_equal() {
    // Up to 4, one of three different pairs is accepted (the 3) and one of three same pairs is not
    // (the 5).
    let eer = roc(&[1.0, 4.0, 5.0], &[3.0, 6.0, 7.0]).eer();
    assert_close(eer.rate, 1.0 / 3.0);
    assert_close(eer.threshold, 4.0);
}

#[test]
fn eer_is_interpolated_between_the_neighbouring_points() {
    // At 1: FAR 0, FRR 1/2, gap -1/2. At 2: FAR 2/3, FRR 0, gap 2/3. The gap is 0 at a share of
    // (1/2) / (1/2 + 2/3) = 3/7 of the way: rate 2/3 · 3/7 = 2/7, threshold 1 + 3/7.
    let eer = roc(&[1.0, 2.0], &[2.0, 2.0, 3.0]).eer();
    assert_close(eer.rate, 2.0 / 7.0);
    assert_close(eer.threshold, 1.0 + 3.0 / 7.0);
}

#[test]
fn eer_threshold_is_finite_where_the_first_distance_already_crosses() {
    // Nothing accepted: gap -1. All accepted, at 5: gap 1. Half of the way: rate 1/2.
    let eer = roc(&[5.0], &[5.0]).eer();
    assert_eq!((eer.rate, eer.threshold), (0.5, 5.0));
}

#[test]
fn eer_is_0_for_separable_and_1_for_reversed_pairs() {
    assert_eq!(roc(&[1.0, 2.0], &[3.0, 4.0]).eer().rate, 0.0);
    assert_eq!(roc(&[3.0, 4.0], &[1.0, 2.0]).eer().rate, 1.0);
}

#[test]
fn best_threshold_is_the_midpoint_between_the_kinds() {
    assert_eq!(roc(&[1.0, 2.0], &[3.0, 4.0]).best_threshold(), 2.5);
}

#[test]
fn best_threshold_is_the_middle_of_the_widest_interval() {
    // Right verdicts from 1, 2, 4 and 7 on: 3, 2, 3 and 2 of 4. The best, 3, holds from 1 to 2 and
    // from 4 to 7.
    assert_eq!(
        roc(&[1.0, 4.0], &[2.0, 7.0]).best_threshold(),
        (4.0 + 7.0) / 2.0
    );
    // The tie at 4 wins one and loses one: the best holds from 1 all the way to 7.
    assert_eq!(
        roc(&[1.0, 4.0], &[4.0, 7.0]).best_threshold(),
        (1.0 + 7.0) / 2.0
    );
    // From 1 to 2 and from 3 to 4: equally wide, so the lower.
    assert_eq!(roc(&[1.0, 3.0], &[2.0, 4.0]).best_threshold(), 1.5);
}

#[test]
fn best_threshold_lies_between_neighbouring_f32s() {
    let near = 1.0f32;
    let roc = roc(&[near], &[near.next_up()]);
    let threshold = roc.best_threshold();
    assert!(is_same(near, threshold) && !is_same(near.next_up(), threshold));
    assert_eq!(roc.accuracy_at(threshold), 1.0);
}

#[test]
fn best_threshold_accepts_all_where_none_beats_chance() {
    for (roc, accuracy) in [
        (roc(&[2.0, 3.0, 4.0], &[1.0]), 0.75),
        (roc(&[4.0], &[0.0, 1.0, 2.0]), 0.25),
    ] {
        assert_eq!(roc.best_threshold(), 4.0);
        assert_eq!(roc.accuracy_at(4.0), accuracy);
        assert_eq!(roc.balanced_accuracy_at(4.0), 0.5);
    }
}

#[test]
fn best_threshold_gives_both_kinds_the_same_weight() {
    // One of 2 similar and none of 10 dissimilar pairs are accepted from 1 on: 11 of 12 right, but
    // (1/2 + 1)/2 = 3/4 balanced. From 3.5 on both and 2: 10 of 12, but (1 + 8/10)/2 = 9/10.
    let different: Vec<f32> = (2..12).map(|d| d as f32).collect();
    let roc = roc(&[1.0, 3.5], &different);
    assert_eq!(roc.best_threshold(), 3.75);
    for (threshold, accuracy, balanced) in [(1.0, 11.0 / 12.0, 0.75), (3.75, 10.0 / 12.0, 0.9)] {
        assert_eq!(roc.accuracy_at(threshold), accuracy);
        assert_eq!(roc.balanced_accuracy_at(threshold), balanced);
    }
}

#[test]
fn balanced_accuracy_is_the_accuracy_of_equally_many_pairs() {
    let same = [1.0, 2.0, 5.0, 7.0, 7.0, 9.0, 11.0];
    let different = [2.0, 6.0, 7.0, 8.0, 9.0, 12.0, 13.0];
    let roc = roc(&same, &different);
    for threshold in 0..14 {
        let threshold = f64::from(threshold);
        assert_eq!(
            roc.balanced_accuracy_at(threshold),
            roc.accuracy_at(threshold)
        );
    }
}

#[test]
fn rates_at_a_threshold_count_what_the_verdict_counts() {
    let (distances, same) = random_pairs(7);
    let roc = Roc::new(&distances, &same).unwrap();
    for threshold in (-1..42).map(|half| f64::from(half) / 2.0) {
        let share = |truth: bool, verdict: bool| {
            let of_truth = || distances.iter().zip(&same).filter(|(_, s)| **s == truth);
            let wrong = of_truth().filter(|(d, _)| is_same(**d, threshold) == verdict);
            wrong.count() as f64 / of_truth().count() as f64
        };
        assert_eq!(roc.far_at(threshold), share(false, true), "{threshold}");
        assert_eq!(roc.frr_at(threshold), share(true, false), "{threshold}");
    }
}

#[test]
fn no_threshold_beats_the_best() {
    for seed in 0..200 {
        let (distances, same) = random_pairs(seed);
        let roc = Roc::new(&distances, &same).unwrap();
        let best = roc.balanced_accuracy_at(roc.best_threshold());
        for threshold in (-1..42).map(|half| f64::from(half) / 2.0) {
            let right = |truth: bool| {
                let of_truth = || distances.iter().zip(&same).filter(|(_, s)| **s == truth);
                let right = of_truth().filter(|(d, _)| is_same(**d, threshold) == truth);
                right.count() as f64 / of_truth().count() as f64
            };
            let balanced = (right(true) + right(false)) / 2.0;
            assert_close(roc.balanced_accuracy_at(threshold), balanced);
            assert!(
                best >= balanced - 1e-15,
                "seed {seed}: {balanced} at {threshold}"
            );
        }
    }
}

#[test]
fn auc_and_eer_depend_on_the_order_of_distances_alone() {
    for seed in 0..200 {
        let (distances, same) = random_pairs(seed);
        let roc = Roc::new(&distances, &same).unwrap();
        // Exact in f32 for whole numbers up to 20, so no new ties.
        let mapped: Vec<f32> = distances.iter().map(|d| d * d * d + 7.0).collect();
        let mapped = Roc::new(&mapped, &same).unwrap();
        assert_eq!(roc.auc(), mapped.auc(), "seed {seed}");
        assert_eq!(roc.eer().rate, mapped.eer().rate, "seed {seed}");
    }
}

#[test]
fn flipped_truths_give_1_minus_auc() {
    for seed in 0..200 {
        let (distances, same) = random_pairs(seed);
        let flipped: Vec<bool> = same.iter().map(|same| !same).collect();
        assert_close(
            Roc::new(&distances, &flipped).unwrap().auc(),
            1.0 - Roc::new(&distances, &same).unwrap().auc(),
        );
    }
}

#[test]
fn the_order_of_pairs_does_not_matter() {
    let (mut distances, mut same) = random_pairs(3);
    let points: Vec<_> = Roc::new(&distances, &same).unwrap().points().collect();
    distances.reverse();
    same.reverse();
    let reversed: Vec<_> = Roc::new(&distances, &same).unwrap().points().collect();
    assert_eq!(points, reversed);
}

#[test]
fn verification_judges_test_pairs_at_a_threshold_from_elsewhere() {
    // At 2.5 all are right but the same pair at 3, which also loses two of the four comparisons.
    let result = Verification::new(&roc(&[1.0, 3.0], &[2.75, 2.75]), 2.5);
    assert_eq!(
        result,
        Verification {
            accuracy: 0.75,
            share_right: 0.75,
            threshold: 2.5,
            far: ErrorRate::new(0, 2),
            frr: ErrorRate::new(1, 2),
            auc: 0.5,
            // At 1 the gap is -1/2, at 2.75 it is 1/2: half of the way from FAR 0 to FAR 1.
            eer: 0.5,
            pairs: 4,
            similar: 2,
            dissimilar: 2,
            balanced: true,
        }
    );
    // Of 1 and 4 pairs the similar one and three dissimilar ones are right.
    let unequal = Verification::new(&roc(&[1.0], &[1.5, 2.0, 3.0, 4.0]), 1.5);
    assert!(!unequal.balanced);
    assert_eq!((unequal.similar, unequal.dissimilar), (1, 4));
    assert_eq!((unequal.accuracy, unequal.share_right), (0.875, 0.8));
}

#[test]
fn verification_survives_json() {
    let result = Verification::new(&roc(&[1.0, 3.0], &[2.75, 2.75]), 2.5);
    let json = serde_json::to_string(&result).unwrap();
    for part in [
        r#"{"accuracy":0.75,"share_right":0.75,"threshold":2.5,"far":{"rate":0.0,"low":0.0,"high":0."#,
        r#","errors":0,"pairs":2},"frr":{"rate":0.5,"low":0."#,
        r#","errors":1,"pairs":2},"auc":0.5,"eer":0.5,"pairs":4,"similar":2,"dissimilar":2,"balanced":true}"#,
    ] {
        assert!(json.contains(part), "{json}");
    }
    assert_eq!(serde_json::from_str::<Verification>(&json).unwrap(), result);

    // As it was before both kinds weighed the same, and without the counts of each.
    let old = json
        .replace(r#""share_right":0.75,"#, "")
        .replace(r#","similar":2,"dissimilar":2"#, "");
    assert!(old.len() < json.len() - 40, "{old}");
    assert_eq!(serde_json::from_str::<Verification>(&old).unwrap(), result);
}

#[test]
fn bad_pairs_are_refused_with_what_and_where() {
    let refusal = |distances: &[f32], same: &[bool]| Roc::new(distances, same).unwrap_err();
    assert_eq!(
        refusal(&[1.0, 2.0], &[true]).to_string(),
        "2 distances but 1 truths: give one truth for each pair's distance"
    );
    assert_eq!(
        refusal(&[], &[]),
        MetricsError::Pairs(
            "no pairs: a ROC needs at least one same and one different pair".into()
        )
    );
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(
            refusal(&[1.0, value, f32::NAN], &[true, false, true]).to_string(),
            format!("the distance of pair 1 is {value}: distances must be finite")
        );
    }
    assert_eq!(
        refusal(&[1.0, 2.0], &[false, false]).to_string(),
        "all 2 pairs are different pairs: a ROC needs at least one same and one different pair"
    );
    assert_eq!(
        refusal(&[1.0], &[true]),
        MetricsError::Pairs(
            "all 1 pairs are same pairs: a ROC needs at least one same and one different pair"
                .into()
        )
    );
}
