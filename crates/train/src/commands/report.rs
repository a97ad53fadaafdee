//! `train report`: rebuilds a finished run's report.

use anyhow::{Context, Result};
use clap::Args;

use super::evaluate::judge;
use super::model::RunArgs;
use crate::results::{Summary, publish};

/// Flags of `train report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    run: RunArgs,
}

/// Writes a finished run's report and its files for TensorBoard again.
///
/// # Errors
/// For a run that is not finished, or a folder that cannot be written.
pub fn report(args: &ReportArgs) -> Result<()> {
    let (run, verifier, voice) = args.run.open()?;
    let config = run.config()?;
    let path = run.path("summary.json");
    let summary =
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut summary: Summary = serde_json::from_slice(&summary)
        .with_context(|| format!("{} is not a summary", path.display()))?;
    let (dataset, test, changed) = judge(&verifier, &run, &config, true, voice)?;
    if changed {
        summary.notes = dataset.notes.clone();
    }
    publish(&run, &config, &dataset, &test, &summary)?;
    voice.say(&format!("wrote {}", run.path("report.html").display()));
    Ok(())
}
