//! Verdicts on the test pairs, at the threshold chosen on validation pairs.

use anyhow::Result;
use data::{Dataset, Pair};
use metrics::{ErrorRate, Interval, PairIntervals, Verification, pair_intervals};
use serde::{Deserialize, Serialize};

use super::tested_on::{Kind, TestedOn};
use super::{Row, decimal, percent};
use crate::judging::test_report::Judged;

/// How far the figures of the test pairs can be trusted: 95% intervals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// What would be others if the test were repeated, and was drawn again for the intervals.
    pub resampled: Resampled,
    /// The intervals.
    #[serde(flatten)]
    pub of: PairIntervals,
}

/// What pairs have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resampled {
    /// Their images, where the classes are those that the network was trained on.
    Images,
    /// Their classes, where these are new or of other data, and their images: the wider of both.
    Classes,
}

/// The rates' own intervals are those of [`Intervals`], which are no narrower than for separate pairs.
pub fn measure(judged: &Judged) -> Result<(Verification, Intervals)> {
    let labels = judged.dataset.test.labels();
    let similar: Vec<bool> = judged.pairs.iter().map(|pair| pair.similar).collect();
    let by = |unit: &dyn Fn(u32) -> u32| {
        let units = |pair: &Pair| (unit(pair.first), unit(pair.second));
        let units: Vec<(u32, u32)> = judged.pairs.iter().map(units).collect();
        let (threshold, seed) = (judged.threshold, judged.config.seed);
        pair_intervals(judged.distances, &similar, &units, threshold, seed)
    };
    let mut intervals = Intervals {
        resampled: Resampled::Images,
        of: by(&|image| image)?,
    };
    if asks_other_classes(judged.dataset) {
        let classes = by(&|image| labels[image as usize])?;
        intervals = Intervals {
            resampled: Resampled::Classes,
            of: wider(intervals.of, classes),
        };
    }
    let verification = Verification::new(judged.roc, judged.threshold);
    intervals.of = wider(intervals.of, of_separate_pairs(&verification));
    let verification = Verification {
        far: verification.far.widened(intervals.of.far),
        frr: verification.frr.widened(intervals.of.frr),
        ..verification
    };
    Ok((verification, intervals))
}

/// Whether the network would be asked about other classes than those that it is tested on.
fn asks_other_classes(dataset: &Dataset) -> bool {
    let of_other_data = dataset.train.is_empty();
    let new_validation = dataset.tests_validation && dataset.new_validation_classes;
    dataset.new_test_classes || new_validation || of_other_data
}

/// Intervals as if no two pairs had anything in common, the least that can be said: where nothing goes
/// wrong, resampling has nothing to draw.
///
/// FAR and FRR have Wilson's. The accuracy, 1 − (FAR + FRR)/2, has the square sum of what those reach
/// beyond their rates (MOVER, Zou and Donner, Statistics in Medicine 27, 2008). AUC and EER, which are
/// no shares of pairs, have Wilson's of as many as there are of the rarer kind.
fn of_separate_pairs(verification: &Verification) -> PairIntervals {
    let (far, frr) = (verification.far, verification.frr);
    let half = |of: fn(ErrorRate) -> f64| of(far).hypot(of(frr)) / 2.0;
    let pairs = verification.similar.min(verification.dissimilar);
    let share = |rate: f64| ErrorRate::new((rate * pairs as f64).round() as usize, pairs);
    let interval = |ErrorRate { low, high, .. }: ErrorRate| Interval { low, high };
    PairIntervals {
        accuracy: Interval {
            low: verification.accuracy - half(|rate| rate.high - rate.rate),
            high: verification.accuracy + half(|rate| rate.rate - rate.low),
        },
        far: interval(far),
        frr: interval(frr),
        auc: interval(share(verification.auc)),
        eer: interval(share(verification.eer)),
    }
}

/// A few classes drawn again and again are always the same few.
fn wider(a: PairIntervals, b: PairIntervals) -> PairIntervals {
    let both = |of: fn(&PairIntervals) -> Interval| Interval {
        low: of(&a).low.min(of(&b).low),
        high: of(&a).high.max(of(&b).high),
    };
    PairIntervals {
        accuracy: both(|of| of.accuracy),
        far: both(|of| of.far),
        frr: both(|of| of.frr),
        auc: both(|of| of.auc),
        eer: both(|of| of.eer),
    }
}

pub fn rows(
    verification: &Verification,
    intervals: Option<&Intervals>,
    tested: Option<&TestedOn>,
) -> Vec<Row> {
    let pairs = match verification.balanced {
        true => format!("{}, half similar", verification.pairs),
        false => format!(
            "{}: {} similar, {} dissimilar",
            verification.pairs, verification.similar, verification.dissimilar
        ),
    };
    let with = |value: f64, interval: fn(&PairIntervals) -> Interval, text: fn(f64) -> String| {
        let interval = intervals.map(|intervals| interval(&intervals.of));
        let interval = interval.map(|i| format!(" ({} to {})", text(i.low), text(i.high)));
        format!("{}{}", text(value), interval.unwrap_or_default())
    };
    let (accuracy, auc, eer) = (verification.accuracy, verification.auc, verification.eer);
    let mut rows = vec![
        ("pair accuracy", with(accuracy, |of| of.accuracy, percent)),
        ("ROC AUC", with(auc, |of| of.auc, decimal)),
        ("equal error rate", with(eer, |of| of.eer, percent)),
        ("threshold", decimal(verification.threshold)),
        ("false accepts", verification.far.to_string()),
        ("false rejects", verification.frr.to_string()),
        ("test pairs", pairs),
    ];
    rows.extend(intervals.map(|intervals| {
        let by = match intervals.resampled {
            Resampled::Images => "for other images of these classes",
            // The network may know some of those.
            Resampled::Classes if tested.is_some_and(|on| on.kind == Kind::OtherData) => {
                "for other classes than these"
            }
            Resampled::Classes => "for other classes that it never saw",
        };
        ("95% intervals", by.to_string())
    }));
    rows
}

#[cfg(test)]
mod tests {
    use metrics::Roc;

    use super::*;

    #[test]
    fn a_few_perfect_pairs_have_wide_intervals() {
        let distances = [0.1, 0.2, 0.3, 1.1, 1.2, 1.3];
        let similar = [true, true, true, false, false, false];
        let units = [(0, 1), (2, 3), (4, 5), (0, 3), (2, 5), (4, 1)];
        let resampled = pair_intervals(&distances, &similar, &units, 0.5, 1).unwrap();
        assert_eq!(resampled.accuracy.low, 1.0, "nothing to draw");
        let roc = Roc::new(&distances, &similar).unwrap();
        let separate = of_separate_pairs(&Verification::new(&roc, 0.5));
        let PairIntervals {
            accuracy,
            far,
            auc,
            eer,
            ..
        } = wider(resampled, separate);
        // Wilson's of 0 among 3 reaches to z²/(3 + z²) = 0.5615; 1 − √2/2 · 0.5615 = 0.6030.
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-4, "{found}");
        near(far.high, 0.5615);
        near(accuracy.low, 0.6030);
        near(auc.low, 1.0 - 0.5615);
        near(eer.high, 0.5615);
        assert_eq!((accuracy.high, auc.high, eer.low), (1.0, 1.0, 0.0));
    }

    #[test]
    fn the_rates_of_either_side_add_up_for_the_accuracy() {
        // One of two similar pairs is rejected, and no dissimilar one accepted. Wilson's: 0.0945 to
        // 0.9055 around 0.5, and 0 to 0.6576 around 0.
        let roc = Roc::new(&[0.1, 0.9, 0.8, 1.0], &[true, true, false, false]).unwrap();
        let Interval { low, high } = of_separate_pairs(&Verification::new(&roc, 0.5)).accuracy;
        assert!((low - (0.75 - 0.5 * (0.4055f64.powi(2) + 0.6576f64.powi(2)).sqrt())).abs() < 1e-3);
        assert!((high - (0.75 + 0.5 * 0.4055)).abs() < 1e-3);
    }
}
