//! `metrics.jsonl`: what a run measures on the way.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::RunFolder;
use crate::judging::ValidationMetrics;

const FILE: &str = "metrics.jsonl";

/// A line of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// At an evaluation. Tried first: a step's fields are among its own.
    Epoch {
        /// Epochs done.
        epoch: u64,
        /// Steps done.
        step: u64,
        /// How good the network is by now.
        #[serde(flatten)]
        metrics: ValidationMetrics,
    },
    /// A logged step.
    Step {
        /// Steps done.
        step: u64,
        /// The loss of its batch.
        loss: f64,
        /// The learning rate it was taken with.
        learning_rate: f64,
    },
    /// Where the run diverged and went back.
    Rollback {
        /// Steps done after it: those from here on are taken again.
        step: u64,
        /// Steps done before it.
        rolled_back_from: u64,
        /// The factor on the learning rate from here on.
        rate_factor: f64,
    },
}

impl Line {
    /// Steps done when it was written.
    pub fn step(self) -> u64 {
        match self {
            Self::Epoch { step, .. } | Self::Step { step, .. } | Self::Rollback { step, .. } => {
                step
            }
        }
    }
}

/// Reads `metrics.jsonl`; a last line that was cut short is left out.
pub fn read_metrics(run: &RunFolder) -> Result<Vec<Line>> {
    let path = run.path(FILE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", path.display(), number + 1))
    };
    whole.lines().enumerate().map(parse).collect()
}

/// The file, while a run adds to it.
pub struct MetricsLog {
    log: files::Log,
    path: PathBuf,
}

impl MetricsLog {
    /// Opens the run's log at its end.
    pub fn open(run: &RunFolder) -> Result<Self> {
        let path = run.path(FILE);
        let log = files::Log::open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { log, path })
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Appends a line.
    pub fn append(&mut self, line: &Line) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(line)?);
        let appended = self.log.append(&line);
        appended.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Drops all but the first `bytes`.
    pub fn truncate(&mut self, bytes: u64) -> Result<()> {
        let cut = self.log.truncate(bytes);
        cut.with_context(|| format!("cannot shorten {}", self.path.display()))
    }

    /// Returns once all of it is on the disk: a checkpoint counts on it.
    pub fn sync(&self) -> Result<()> {
        let synced = self.log.sync();
        synced.with_context(|| format!("cannot write {}", self.path.display()))
    }
}
