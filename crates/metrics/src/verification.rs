use serde::{Deserialize, Serialize};

use crate::{ErrorRate, Roc};

/// How well a threshold tells similar from dissimilar test pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Verification {
    /// Share of right verdicts at `threshold`, both kinds of pairs weighing the same: the mean of true
    /// accept rate and true reject rate, in [0, 1]. The one to beat is a half, however many pairs of
    /// each kind there are.
    pub accuracy: f64,
    /// Share of all test pairs with the right verdict, in [0, 1]; the same number where half of them
    /// are similar. The one to beat is the share of the more frequent kind.
    pub share_right: f64,
    /// The largest distance that counts as the same.
    pub threshold: f64,
    /// False accept rate at `threshold`.
    pub far: ErrorRate,
    /// False reject rate at `threshold`.
    pub frr: ErrorRate,
    /// Area under the test pairs' ROC curve, in [0, 1]; needs no threshold.
    pub auc: f64,
    /// Equal error rate of the test pairs, in [0, 1]; needs no threshold.
    pub eer: f64,
    /// Test pairs.
    pub pairs: usize,
    /// Similar test pairs.
    pub similar: usize,
    /// Dissimilar test pairs.
    pub dissimilar: usize,
    /// Whether half the test pairs are similar.
    pub balanced: bool,
}

impl Verification {
    /// Judges `test` pairs at a threshold chosen on other pairs.
    ///
    /// Choose it on pairs of validation images, as with [`Roc::best_threshold`]: one chosen on the
    /// test pairs themselves flatters the accuracy, and one chosen on training pairs is useless once
    /// the network overfits.
    pub fn new(test: &Roc, threshold: f64) -> Self {
        Self {
            accuracy: test.balanced_accuracy_at(threshold),
            share_right: test.accuracy_at(threshold),
            threshold,
            far: test.false_accepts_at(threshold),
            frr: test.false_rejects_at(threshold),
            auc: test.auc(),
            eer: test.eer().rate,
            pairs: test.pairs(),
            similar: test.similar(),
            dissimilar: test.dissimilar(),
            balanced: test.is_balanced(),
        }
    }
}

/// What has to be stored: the counts are those of the rates. Older files have the share of right
/// verdicts as the accuracy.
#[derive(Deserialize)]
struct Stored {
    accuracy: f64,
    share_right: Option<f64>,
    threshold: f64,
    far: ErrorRate,
    frr: ErrorRate,
    auc: f64,
    eer: f64,
}

impl From<Stored> for Verification {
    fn from(stored: Stored) -> Self {
        let (far, frr) = (stored.far, stored.frr);
        let accuracy = match stored.share_right {
            Some(_) => stored.accuracy,
            None => 1.0 - (far.rate + frr.rate) / 2.0,
        };
        Self {
            accuracy,
            share_right: stored.share_right.unwrap_or(stored.accuracy),
            threshold: stored.threshold,
            far,
            frr,
            auc: stored.auc,
            eer: stored.eer,
            pairs: frr.pairs.saturating_add(far.pairs),
            similar: frr.pairs,
            dissimilar: far.pairs,
            balanced: frr.pairs == far.pairs,
        }
    }
}
