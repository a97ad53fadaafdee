//! `train evaluate` and `train report`: a trained network judged again.

use anyhow::{Context, Result};
use candle_core::Device;
use metrics::OperatingPoint;
use model::Network;
use verifier::Verifier;

use crate::cli::{EvaluateArgs, ReportArgs};
use crate::config::RunConfig;
use crate::evaluation::Assessment;
use crate::fit::load;
use crate::progress::Voice;
use crate::run_folder::RunFolder;
use crate::summary::Summary;
use crate::usage::usage;
use crate::{events, projector, run_report};

/// Judges a run's network on the test images of its data set or another.
pub fn evaluate(args: &EvaluateArgs) -> Result<()> {
    let voice = Voice::new(args.voice.quiet, args.voice.json);
    let run = RunFolder::open(&args.run)?;
    let mut config = run.config()?;
    if let Some(source) = &args.data {
        config.data.source = source.parse().map_err(usage)?;
    }
    let (net, threshold) = calibrated(&run, &args.device.choice.open(voice)?, args.at)?;
    let dataset = load(&config, voice)?;
    let figures = Assessment::new(&net, &config, &dataset, threshold)?.figures;
    voice.give(&figures)?;
    voice.emit(&figures)
}

/// Makes a finished run's report and its files for TensorBoard again.
pub fn report(args: &ReportArgs) -> Result<()> {
    let voice = Voice::new(args.voice.quiet, args.voice.json);
    let run = RunFolder::open(&args.run)?;
    let config: RunConfig = run.config()?;
    let (net, threshold) = calibrated(&run, &args.device.choice.open(voice)?, None)?;
    let path = run.path("summary.json");
    let summary =
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let summary: Summary = serde_json::from_slice(&summary)
        .with_context(|| format!("{} is not a summary", path.display()))?;
    let dataset = load(&config, voice)?;
    let assessment = Assessment::new(&net, &config, &dataset, threshold)?;
    projector::write(&run, &assessment.test, &dataset.test)?;
    events::write(&run, &summary)?;
    run_report::write(&run, &config, &dataset, &assessment, &summary)?;
    voice.say(&format!("wrote {}", run.path("report.html").display()));
    Ok(())
}

/// The run's network, and its own threshold or that of another operating point.
fn calibrated(
    run: &RunFolder,
    device: &Device,
    at: Option<OperatingPoint>,
) -> Result<(Network, f64)> {
    let (net, file) = run.model(device)?;
    let threshold = match at {
        None => file.threshold,
        Some(rule) => Verifier::new(net.clone(), file)?.at(rule)?.threshold(),
    };
    let threshold = threshold.with_context(|| {
        format!(
            "the model in {} has no threshold: its run was not finished",
            run.display()
        )
    })?;
    Ok((net, threshold))
}
