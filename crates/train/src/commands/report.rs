//! `train report`: rebuilds a finished run's report.

use anyhow::{Context, Result};
use clap::Args;

use super::evaluate::{load_for, threshold};
use super::model::RunArgs;
use crate::judging::TestReport;
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
    let threshold = threshold(&verifier, &run)?;
    let config = run.config()?;
    let path = run.path("summary.json");
    let summary =
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut summary: Summary = serde_json::from_slice(&summary)
        .with_context(|| format!("{} is not a summary", path.display()))?;
    let (dataset, changed) = load_for(&verifier, &run, &config, voice)?;
    if changed {
        summary.notes = dataset.notes.clone();
    }
    let mut judged = config.clone();
    if let Some(calibration) = &verifier.model().calibration {
        judged.calibration.at = calibration.at;
    }
    let transform = verifier.transform();
    let test = TestReport::new(verifier.net(), transform, &judged, &dataset, threshold)?;
    publish(&run, &config, &dataset, &test, &summary)?;
    voice.say(&format!("wrote {}", run.path("report.html").display()));
    Ok(())
}
