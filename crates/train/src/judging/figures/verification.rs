//! Verdicts on the test pairs, at the threshold chosen on validation pairs.

use anyhow::Result;
use data::Pair;
use metrics::{Interval, PairIntervals, Verification, pair_intervals};
use serde::{Deserialize, Serialize};

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
    /// Their classes, where these are new, and their images: the wider of both.
    Classes,
}

/// The rates' own intervals are widened to what [`Intervals`] has.
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
    if judged.dataset.new_test_classes {
        let classes = by(&|image| labels[image as usize])?;
        intervals = Intervals {
            resampled: Resampled::Classes,
            of: wider(intervals.of, classes),
        };
    }
    let verification = Verification::new(judged.roc, judged.threshold);
    let verification = Verification {
        far: verification.far.widened(intervals.of.far),
        frr: verification.frr.widened(intervals.of.frr),
        ..verification
    };
    Ok((verification, intervals))
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

pub fn rows(verification: &Verification, intervals: Option<&Intervals>) -> Vec<Row> {
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
            Resampled::Classes => "for other classes that it never saw",
        };
        ("95% intervals", by.to_string())
    }));
    rows
}
