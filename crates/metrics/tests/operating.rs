//! Operating points and intervals, against values worked by hand or published.

use metrics::{Calibration, ErrorRate, MetricsError, OperatingPoint, Roc};

fn roc(same: &[f32], different: &[f32]) -> Roc {
    let truths: Vec<bool> = [vec![true; same.len()], vec![false; different.len()]].concat();
    Roc::new(&[same, different].concat(), &truths).unwrap()
}

/// Dissimilar pairs at 1, 2, …, 1000; similar pairs at 0.5, 1.5, …, 19.5.
fn hundreds() -> Roc {
    let different: Vec<f32> = (1..=1000).map(|d| d as f32).collect();
    let same: Vec<f32> = (0..20).map(|d| d as f32 + 0.5).collect();
    roc(&same, &different)
}

#[test]
fn wilsons_interval_has_its_known_values() {
    // Agresti and Coull, The American Statistician 52 (1998): 0 of 10 gives 0 to 0.278; 9 of 10
    // gives 0.596 to 0.982.
    for (errors, pairs, low, high) in [
        (0, 10, 0.0, 0.2775),
        (9, 10, 0.5958, 0.9821),
        (10, 100, 0.0552, 0.1744),
        (10, 10, 0.7225, 1.0),
    ] {
        let rate = ErrorRate::new(errors, pairs);
        assert!((rate.low - low).abs() < 5e-5, "{rate:?}");
        assert!((rate.high - high).abs() < 5e-5, "{rate:?}");
        assert!(rate.low <= rate.rate && rate.rate <= rate.high);
    }
    assert_eq!(
        (ErrorRate::new(0, 0).low, ErrorRate::new(0, 0).high),
        (0.0, 1.0)
    );
}

#[test]
fn a_false_accept_rate_is_kept_and_used_up() {
    let roc = hundreds();
    // 10 of 1000 may pass: those up to 10, and the same one at 10.5.
    let threshold = roc.threshold_at_far(0.01).unwrap();
    assert_eq!(threshold, 10.5);
    assert_eq!(roc.far_at(threshold), 0.01);
    let rates = (
        roc.false_accepts_at(threshold),
        roc.false_rejects_at(threshold),
    );
    assert_eq!((rates.0.errors, rates.0.pairs), (10, 1000));
    assert_eq!((rates.1.errors, rates.1.pairs), (9, 20));
}

#[test]
fn where_nothing_may_be_accepted_nothing_is() {
    let different = vec![1.0; 1000];
    let roc = roc(&[2.0], &different);
    let threshold = roc.threshold_at_far(0.01).unwrap();
    assert_eq!(threshold, 1f64.next_down());
    assert_eq!(roc.far_at(threshold), 0.0);
}

#[test]
fn a_rate_that_the_pairs_cannot_show_is_refused() {
    let refusal = hundreds().threshold_at_far(0.001).unwrap_err();
    let expected = MetricsError::TooFewPairs {
        far: 0.001,
        found: 1000,
        needed: 10_000,
    };
    assert_eq!(refusal, expected);
    for far in [0.0, 1.0, -0.1, f64::NAN] {
        let refusal = hundreds().threshold_at_far(far).unwrap_err();
        assert!(
            matches!(refusal, MetricsError::OperatingPoint(_)),
            "{refusal}"
        );
    }
}

#[test]
fn operating_points_are_read_as_they_are_written() {
    for text in ["accuracy", "eer", "far=0.001"] {
        let point: OperatingPoint = text.parse().unwrap();
        assert_eq!(point.to_string(), text);
    }
    for text in [
        "", "Eer", "far", "far=", "far=much", "far=0", "far=1", "far=nan",
    ] {
        assert!(text.parse::<OperatingPoint>().is_err(), "{text}");
    }
    let roc = hundreds();
    for (point, threshold) in [
        ("accuracy", roc.best_threshold()),
        ("eer", roc.eer().threshold),
    ] {
        let point: OperatingPoint = point.parse().unwrap();
        assert_eq!(point.threshold(&roc).unwrap(), threshold);
    }
}

#[test]
fn a_curve_comes_back_from_its_columns() {
    // Less than a hundred errors of either kind: every step is kept.
    let small = roc(&[0.5, 1.0, 3.0], &[1.0, 2.0, 4.0]);
    let back = Roc::from_calibration(&small.calibration(OperatingPoint::Accuracy)).unwrap();
    assert!(back.points().eq(small.points()));

    // 50,000 pairs that overlap over and over.
    let spread = |count: u32, by: u32| {
        (0..count)
            .map(|i| (i * by % 49_999) as f32)
            .collect::<Vec<_>>()
    };
    let same: Vec<f32> = spread(20_000, 7919).iter().map(|d| d * 0.6).collect();
    let large = roc(&same, &spread(30_000, 104_729));
    let columns = large.calibration(OperatingPoint::Accuracy);
    assert!(columns.distance.len() < 5_000, "{}", columns.distance.len());
    let back = Roc::from_calibration(&columns).unwrap();
    assert_eq!((back.similar(), back.dissimilar()), (20_000, 30_000));
    for far in [0.001, 0.01, 0.1, 0.5] {
        let threshold = back.threshold_at_far(far).unwrap();
        let found = large.far_at(threshold);
        assert!(found <= far && found > 0.985 * far, "{far}: {found}");
    }
    assert!((back.eer().rate - large.eer().rate).abs() < 0.01 * large.eer().rate);
    assert!((back.auc() - large.auc()).abs() < 1e-3);
}

#[test]
fn columns_that_are_no_curve_are_refused() {
    let sound = hundreds().calibration(OperatingPoint::Accuracy);
    let spoilt: [fn(&mut Calibration); 7] = [
        |c| c.distance.clear(),
        |c| c.distance[1] = c.distance[0],
        |c| c.distance[3] = f32::NAN,
        |c| c.same[2] = 1_000,
        |c| c.same.iter_mut().for_each(|count| *count = 0),
        |c| *c.same.last_mut().unwrap() = u64::MAX,
        |c| *c = Calibration::default(),
    ];
    for spoil in spoilt {
        let mut columns = sound.clone();
        spoil(&mut columns);
        assert!(Roc::from_calibration(&columns).is_err(), "{columns:?}");
    }
}
