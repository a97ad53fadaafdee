//! How a run shows itself while it trains: a bar on a terminal, a line a second elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Voice, tell};

/// The progress of reading pictures, where there is a terminal to see it on.
pub fn reading_bar(voice: Voice) -> Result<ProgressBar> {
    if voice != Voice::People || !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = "{bar:32} {pos}/{len} pictures read  {eta} left";
    Ok(ProgressBar::no_length().with_style(ProgressStyle::with_template(style)?))
}

/// The progress of a run's steps.
pub struct StepProgress {
    shown: Shown,
    steps: u64,
    per_step: (usize, &'static str),
    started: Instant,
    first: u64,
}

enum Shown {
    Bar(ProgressBar),
    Lines { last: Instant },
    Nothing,
}

impl StepProgress {
    /// Before step `first` of `steps`; `per_step` is what a step sees: how many of what.
    pub fn new(
        voice: Voice,
        first: u64,
        steps: u64,
        per_step: (usize, &'static str),
    ) -> Result<Self> {
        let shown = if voice != Voice::People {
            Shown::Nothing
        } else if std::io::stderr().is_terminal() {
            let style = "{bar:32} {pos}/{len} steps  {msg}  {eta} left";
            let bar = ProgressBar::new(steps).with_style(ProgressStyle::with_template(style)?);
            bar.set_position(first);
            bar.reset_eta();
            Shown::Bar(bar)
        } else {
            Shown::Lines {
                last: Instant::now(),
            }
        };
        Ok(Self {
            shown,
            steps,
            per_step,
            started: Instant::now(),
            first,
        })
    }

    /// After `step` steps, the last of which had this loss.
    pub fn advance(&mut self, step: u64, loss: f64) {
        let elapsed = self.started.elapsed().as_secs_f64();
        let rate = (step - self.first) as f64 / elapsed.max(1e-9);
        let (per_step, unit) = self.per_step;
        let seen = rate * per_step as f64;
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position(step);
                bar.set_message(format!("loss {loss:.4}  {seen:.0} {unit}/s"));
            }
            Shown::Lines { last } => {
                if last.elapsed() >= Duration::from_secs(1) {
                    *last = Instant::now();
                    let left = (self.steps - step) as f64 / rate;
                    tell(format_args!(
                        "step {step}/{}  loss {loss:.4}  {seen:.0} {unit}/s  {left:.0} s left",
                        self.steps
                    ));
                }
            }
            Shown::Nothing => {}
        }
    }

    /// Takes the bar off the terminal.
    pub fn finish(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}
