//! The figures of a trained network, a file each. A new one is a file with `measure` and `rows`, a
//! field of [`Figures`] and its two lines below.

mod classics;
mod closed_set;
mod few_shot;
mod known_classes;
mod loss;
mod retrieval;
mod tested_on;
mod verification;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use metrics::{FewShot, Retrieval, Verification};
use serde::{Deserialize, Serialize};

use super::test_report::Judged;
use classics::Classics;
pub use closed_set::ClosedSet;
use tested_on::TestedOn;
use verification::Intervals;

/// A figure as people read it: its name, its value.
pub type Row<Name = &'static str> = (Name, String);

/// The figures that `summary.json` and `train evaluate` give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What they are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_on: Option<TestedOn>,
    /// Verdicts on the test pairs.
    pub verification: Verification,
    /// How far these can be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
    /// What takes no network, on the same pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classics: Option<Classics>,
    /// Among the test images, each against all others.
    pub retrieval: Retrieval,
    /// Share of test images of trained classes whose nearest training image shows the same class;
    /// `None` where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_at_1_against_training: Option<f64>,
    /// Few-shot classification; empty where a test class was trained on, or too few are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub few_shot: Vec<FewShot>,
    /// Mean loss by set, each on pairs of its own, half of them similar.
    pub loss: BTreeMap<String, f64>,
    /// With classes held out, the figures of the trained classes; the others are then of the classes
    /// held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_set: Option<ClosedSet>,
}

impl Figures {
    /// Measures them all.
    ///
    /// # Errors
    /// For sets that cannot be paired, and whatever the network's device reports.
    pub fn new(judged: &Judged) -> Result<Self> {
        // One thread alone takes most of the time for the whitening of pixels.
        let (classics, figures) =
            rayon::join(|| classics::measure(judged), || Self::others(judged));
        Ok(Self {
            classics: Some(classics?),
            ..figures?
        })
    }

    /// All but those that take no network.
    fn others(judged: &Judged) -> Result<Self> {
        let (verification, intervals) = verification::measure(judged)?;
        Ok(Self {
            tested_on: Some(tested_on::measure(judged)),
            verification,
            intervals: Some(intervals),
            classics: None,
            retrieval: retrieval::measure(judged)?,
            p_at_1_against_training: known_classes::measure(judged)?,
            few_shot: few_shot::measure(judged)?,
            loss: loss::measure(judged)?,
            closed_set: closed_set::measure(judged)?,
        })
    }

    /// Each figure with its name, for people.
    pub fn rows(&self) -> Vec<Row<String>> {
        let (first, others) = retrieval::rows(&self.retrieval);
        [
            named(tested_on::rows(self.tested_on.as_ref())),
            named(verification::rows(
                &self.verification,
                self.intervals.as_ref(),
                self.tested_on.as_ref(),
            )),
            named(first),
            named(known_classes::rows(self.p_at_1_against_training)),
            named(others),
            few_shot::rows(&self.few_shot),
            named(loss::rows(&self.loss)),
            named(closed_set::rows(self.closed_set.as_ref())),
            named(classics::rows(self.classics.as_ref())),
        ]
        .concat()
    }

    /// What to say where the network is no better than what takes none.
    pub fn advice(&self) -> Option<String> {
        classics::advice(self)
    }
}

fn named(rows: Vec<Row>) -> Vec<Row<String>> {
    let named = |(name, value): Row| (name.to_string(), value);
    rows.into_iter().map(named).collect()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.rows() {
            writeln!(f, "{name:<28} {value}")?;
        }
        Ok(())
    }
}

fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

fn decimal(value: f64) -> String {
    format!("{value:.4}")
}
