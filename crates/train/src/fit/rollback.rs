//! What becomes of a run that diverges or fails.

use anyhow::Result;

use super::Fit;
use crate::run::Line;
use crate::run::checkpoint::{self, EPOCH, Progress, Rollback};
use crate::settings::OnNan;
use crate::terminal::Voice;
use crate::training::{MOST_ROLLBACKS, NotFinite, ROLLBACK_RATE};

impl Fit {
    /// Goes back to the end of the last epoch where that is wanted, and says so; else returns the error.
    pub(super) fn roll_back(&mut self, error: anyhow::Error, voice: Voice) -> Result<()> {
        let rollbacks = self.progress.rollbacks.len();
        if self.config.training.on_nan == OnNan::Stop {
            return Err(self.last_resort(error));
        }
        if rollbacks == MOST_ROLLBACKS {
            return Err(error.context(format!("given up after {rollbacks} rollbacks")));
        }
        let from = self.progress.step;
        let anchor = checkpoint::restore(&self.run, EPOCH, &mut self.trainer)?;
        if anchor.step > from {
            return Err(error.context(format!(
                "{} is of step {}, which is yet to come",
                self.run.path(EPOCH).display(),
                anchor.step
            )));
        }
        self.progress = Progress {
            rollbacks: std::mem::take(&mut self.progress.rollbacks),
            seconds: self.progress.seconds,
            // Its file may be of a step after the anchor.
            best: self.progress.best,
            notes: std::mem::take(&mut self.progress.notes),
            ..anchor
        };
        let to = self.progress.step;
        self.progress.rollbacks.push(Rollback { from, to });
        // In this order: whenever it is cut short, the newest checkpoint leads to the same error.
        checkpoint::forget_after(&self.run, to)?;
        self.log.truncate(self.progress.logged)?;
        for (count, rollback) in self.progress.rollbacks.clone().into_iter().enumerate() {
            if rollback.to == to {
                let line = Line::Rollback {
                    step: to,
                    rolled_back_from: rollback.from,
                    rate_factor: ROLLBACK_RATE.powi(count as i32 + 1),
                };
                self.log.append(&line)?;
                if count == rollbacks {
                    voice.emit(&line)?;
                }
            }
        }
        self.checkpoint()?;
        voice.say(&format!(
            "{error:#}: back to step {to}, and on at {} of the learning rate",
            self.rate_factor()
        ));
        Ok(())
    }

    pub(super) fn rate_factor(&self) -> f64 {
        ROLLBACK_RATE.powi(self.progress.rollbacks.len() as i32)
    }

    /// An error that ends the run, with what is left of it.
    pub(super) fn last_resort(&self, error: anyhow::Error) -> anyhow::Error {
        let Ok(Some(name)) = checkpoint::newest(&self.run) else {
            return error;
        };
        let path = self.run.path(&name);
        match error.downcast::<NotFinite>() {
            Ok(mut found) => {
                found.more += &format!("; the last good checkpoint is {}", path.display());
                found.into()
            }
            Err(error) => error.context(format!(
                "the run has stopped; `train fit --resume {}` goes on from {}",
                self.run.display(),
                path.display()
            )),
        }
    }
}
