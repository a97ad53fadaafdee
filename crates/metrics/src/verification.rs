use serde::{Deserialize, Serialize};

use crate::{ErrorRate, Roc};

/// How well a threshold tells the same/different test pairs apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Share of test pairs with the right verdict at `threshold`, in [0, 1].
    pub accuracy: f64,
    /// The largest distance that counts as the same, in units of distance.
    pub threshold: f64,
    /// Different test pairs taken for the same at `threshold`.
    pub far: ErrorRate,
    /// Same test pairs taken for different at `threshold`.
    pub frr: ErrorRate,
    /// Area under the test pairs' ROC curve, in [0, 1]; needs no threshold.
    pub auc: f64,
    /// Equal error rate of the test pairs, in [0, 1]; needs no threshold.
    pub eer: f64,
    /// Test pairs.
    pub pairs: usize,
    /// Whether half the test pairs are the same. If not, `accuracy` compares with the larger
    /// kind's share, not with a half.
    pub balanced: bool,
}

impl Verification {
    /// Judges `test` pairs at a threshold chosen on other pairs.
    ///
    /// Choose it with [`Roc::best_threshold`] on pairs of validation images: on the test pairs
    /// themselves it flatters the accuracy, and on training pairs it breaks down once the network
    /// overfits.
    pub fn new(test: &Roc, threshold: f64) -> Self {
        Self {
            accuracy: test.accuracy_at(threshold),
            threshold,
            far: test.false_accepts_at(threshold),
            frr: test.false_rejects_at(threshold),
            auc: test.auc(),
            eer: test.eer().rate,
            pairs: test.pairs(),
            balanced: test.is_balanced(),
        }
    }
}
