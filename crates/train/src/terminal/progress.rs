//! How a run shows itself while it trains: a bar on a terminal, a line a second elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Voice, tell};

/// Between two lines.
const A_LINE: Duration = Duration::from_secs(1);

/// The progress of what is done to pictures, where there is a terminal to see it on.
pub fn picture_bar(voice: Voice, done: &str) -> Result<ProgressBar> {
    if voice != Voice::People || !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = format!("{{bar:32}} {{pos}}/{{len}} pictures {done}  {{eta}} left");
    Ok(ProgressBar::no_length().with_style(ProgressStyle::with_template(&style)?))
}

/// The progress of a run's steps.
pub struct StepProgress {
    /// Hidden where there is no terminal.
    bar: ProgressBar,
    /// When the last line was written, where lines are wanted.
    last_line: Option<Instant>,
    steps: u64,
    per_step: (usize, &'static str),
    started: Instant,
    first: u64,
}

impl StepProgress {
    /// Before step `first` of `steps`; `per_step` is what a step sees: how many of what.
    pub fn new(
        voice: Voice,
        first: u64,
        steps: u64,
        per_step: (usize, &'static str),
    ) -> Result<Self> {
        let (people, terminal) = (voice == Voice::People, std::io::stderr().is_terminal());
        let bar = match people && terminal {
            true => ProgressBar::new(steps),
            false => ProgressBar::hidden(),
        };
        let style = "{bar:32} {pos}/{len} steps  {msg}  {eta} left";
        let bar = bar.with_style(ProgressStyle::with_template(style)?);
        bar.set_position(first);
        bar.reset_eta();
        Ok(Self {
            bar,
            last_line: (people && !terminal).then(Instant::now),
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
        let news = format!("loss {loss:.4}  {:.0} {unit}/s", rate * per_step as f64);
        if let Some(last) = self
            .last_line
            .as_mut()
            .filter(|last| last.elapsed() >= A_LINE)
        {
            *last = Instant::now();
            let (steps, left) = (self.steps, (self.steps - step) as f64 / rate);
            tell(format_args!(
                "step {step}/{steps}  {news}  {left:.0} s left"
            ));
        }
        self.bar.set_position(step);
        self.bar.set_message(news);
    }

    /// Takes the bar off the terminal.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
