//! A second training, on the validation images as well.
//!
//! Steps, head and threshold are chosen by classes that the network has not seen. Once they are, a network
//! that has seen these too tells new ones apart better. It is trained from the same start, by the same
//! schedule and for as many steps as were best, so that what was chosen fits it.

use std::sync::Arc;

use anyhow::Result;

use super::{Ended, Fit};
use crate::run::checkpoint::{self, FIRST, Refit};
use crate::terminal::Voice;
use crate::training::{loader, refits};

impl Fit {
    pub(super) fn refits(&self) -> bool {
        refits(&self.config, &self.dataset)
    }

    /// Goes back to the first weights, with the validation images to train on too, unless that is done or not
    /// wanted. Returns whether it did.
    pub(super) fn begin_refit(&mut self, first: &Ended, epoch: u64, voice: Voice) -> Result<bool> {
        if self.progress.refit.is_some() || !self.refits() {
            return Ok(false);
        }
        if !self.run.path(FIRST).exists() {
            voice.say(&format!(
                "no second training (training.refit): {} is not there to begin with",
                self.run.path(FIRST).display()
            ));
            return Ok(false);
        }
        checkpoint::restore(&self.run, FIRST, &mut self.trainer)?;
        self.progress.refit = Some(Refit {
            after: self.progress.step,
            steps: first.kept,
            horizon: self.config.training.length.steps(epoch),
            heads: first.heads.clone(),
            threshold: first.threshold,
            calibration: first.calibration.clone(),
        });
        self.images = Arc::new(self.dataset.train.and(&self.dataset.validation));
        self.loader = loader(&self.config, &self.images)?;
        self.checkpoint()?;
        self.mark_epoch()?;
        Ok(true)
    }

    /// The outcome of the second training.
    pub(super) fn end_of_refit(&self, refit: Refit) -> Result<Ended> {
        let head = refit.heads.as_ref().map(|heads| heads.chosen);
        Ok(Ended {
            net: match head {
                Some(head) => self.fitted(head)?,
                None => self.trainer.net().clone(),
            },
            heads: refit.heads,
            kept: self.progress.step,
            threshold: refit.threshold,
            calibration: refit.calibration,
        })
    }
}
