//! `train evaluate` and `train report`: a trained network judged again.

use anyhow::{Context, Result};
use candle_core::Device;
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
    let device = args.device.choice.open(voice)?;
    let (net, threshold) = match args.at {
        None => calibrated(&run, &device)?,
        Some(rule) => {
            let (net, file) = run.model(&device)?;
            let verifier = Verifier::new(net.clone(), file)?.at(rule)?;
            let threshold = verifier.threshold();
            (
                net,
                threshold.context("the operating point has no threshold")?,
            )
        }
    };
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
    let (net, threshold) = calibrated(&run, &args.device.choice.open(voice)?)?;
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

fn calibrated(run: &RunFolder, device: &Device) -> Result<(Network, f64)> {
    let (net, file) = run.model(device)?;
    let threshold = file.threshold.with_context(|| {
        format!(
            "the model in {} has no threshold: its run was not finished",
            run.display()
        )
    })?;
    Ok((net, threshold))
}
