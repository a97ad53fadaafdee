//! How often a run is evaluated, and what the evaluations decide.

use anyhow::Result;

use super::Fit;
use crate::judging::validation_roc;
use crate::run::checkpoint::{self, BEST};
use crate::settings::Weights;
use crate::terminal::Voice;

/// Images that are embedded in the time in which one is trained on.
const EMBEDDED_PER_TRAINED: f64 = 3.0;
/// Time that evaluations may take, as a share of the training's.
const SHARE: f64 = 0.2;
/// Steps between two evaluations at least, since one takes some time however few images there are.
const LEAST_STEPS: u64 = 20;

impl Fit {
    /// Steps between two evaluations: whole epochs, where the settings do not say.
    pub(super) fn evaluation_interval(&self, epoch: u64) -> u64 {
        let asked = self.config.training.evaluate_every;
        if asked > 0 {
            return asked;
        }
        let images = (self.dataset.validation.len() + self.dataset.test.len()) as f64;
        let in_a_step = self.config.images_per_batch() as f64 * EMBEDDED_PER_TRAINED;
        let least = (images / (in_a_step * SHARE)).ceil() as u64;
        least.max(LEAST_STEPS).div_ceil(epoch) * epoch
    }

    /// Whether the best evaluation's weights are kept, and not the last.
    pub(super) fn keeps_best(&self) -> bool {
        match self.config.training.weights {
            Weights::Auto => self.dataset.new_validation_classes,
            Weights::Last => false,
            Weights::Best => true,
        }
    }

    /// Whether training ends here, since nothing has improved for long. It depends on steps alone, so
    /// that a resumed run ends where one does that never stopped.
    pub(super) fn is_spent(&self, interval: u64) -> bool {
        let patience = self.config.training.patience.saturating_mul(interval);
        let step = self.progress.step;
        let waited = |(_, best): (f64, u64)| patience > 0 && step >= best.saturating_add(patience);
        let first = self.progress.refit.is_none();
        first
            && self.keeps_best()
            && step.is_multiple_of(interval)
            && self.progress.best.is_some_and(waited)
    }

    /// Whether the weights are as good as those with the `best` score, as far as the validation images can
    /// tell; never where the best are asked for. They are trained to the end of the schedule, and what is
    /// best of many evaluations is so by chance too.
    fn is_as_good_as(&self, best: f64) -> Result<bool> {
        if self.config.training.weights == Weights::Best {
            return Ok(false);
        }
        let net = self.trainer.net();
        let auc = validation_roc(net, &self.config, &self.dataset, &self.pairs)?.auc();
        Ok(1.0 - best - auc <= standard_error(auc, self.dataset.validation.len()))
    }

    /// Puts the best weights in place of the last, where they are kept; returns the step they are of.
    pub(super) fn take_best(&mut self, voice: Voice) -> Result<u64> {
        let last = self.progress.step;
        let (true, Some((score, best))) = (self.keeps_best(), self.progress.best) else {
            return Ok(last);
        };
        if best == last || self.is_as_good_as(score)? {
            return Ok(last);
        }
        // A run that was stopped and went on with other settings may have left another's.
        let of_best = checkpoint::step(&self.run, BEST).is_ok_and(|step| step == best);
        if !of_best {
            voice.say(&format!(
                "kept the weights of step {last}: {} is not of step {best}, the best on the validation \
                 images",
                self.run.path(BEST).display()
            ));
            return Ok(last);
        }
        checkpoint::restore(&self.run, BEST, &mut self.trainer)?;
        voice.say(&format!(
            "kept the weights of step {best} of {last}, the best on the validation images"
        ));
        Ok(best)
    }
}

/// A bound for the standard error of an AUC from `images` images. Of n independent pairs of each kind, the
/// variance of an AUC A is at most A·(1 − A)/n (van Dantzig 1951); as pairs share images, n is the number of
/// these.
fn standard_error(auc: f64, images: usize) -> f64 {
    (auc * (1.0 - auc) / images as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_auc_is_known_to_within_its_standard_error() {
        assert_eq!(standard_error(0.5, 25), 0.1);
        assert!((standard_error(0.9, 900) - 0.01).abs() < 1e-12);
        assert_eq!(standard_error(1.0, 10), 0.0);
    }
}
