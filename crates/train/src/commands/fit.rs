//! `train fit`: trains a network and writes a run folder.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use data::Manifest;

use super::settings::{NEW_RUN, SettingsArgs};
use crate::device::DeviceArgs;
use crate::fit::{Fit, Outcome, load_to_train};
use crate::run::RunFolder;
use crate::settings::{RunConfig, SettingFlags};
use crate::terminal::{INTERRUPTED, Interrupt, VoiceArgs, print, tell};

/// Flags of `train fit`.
#[derive(Debug, Args)]
pub struct FitArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Run folder to create [default: the next free runs/DATA-NUMBER]
    #[arg(long, value_name = "DIR", group = NEW_RUN)]
    out: Option<PathBuf>,
    /// Print the resulting settings and exit without training
    #[arg(long, group = NEW_RUN)]
    print_config: bool,
    /// Resume a stopped run
    #[arg(long, value_name = "RUN", conflicts_with_all = [SettingFlags::GROUP, NEW_RUN])]
    resume: Option<PathBuf>,
    /// With --resume, let --set change the run's settings, and go on with images that have changed;
    /// changes are recorded in changes.jsonl
    #[arg(long, requires = "resume")]
    allow_changes: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    voice: VoiceArgs,
}

/// Trains a network, or goes on training one.
///
/// # Errors
/// For settings or images that cannot be trained with, and for a run that fails.
pub fn fit(args: &FitArgs) -> Result<ExitCode> {
    let voice = args.voice.voice();
    let fit = match &args.resume {
        Some(run) => {
            let run = RunFolder::open(run)?;
            let device = args.device.open(voice)?;
            let load = |config: &mut RunConfig, before: Option<&Manifest>| {
                load_to_train(config, before, false, voice)
            };
            Fit::resume(run, &args.settings.set, args.allow_changes, &device, load)?
        }
        None => {
            let mut config = args.settings.settings()?;
            if args.print_config {
                print(config.to_toml()?)?;
                return Ok(ExitCode::SUCCESS);
            }
            let device = args.device.open(voice)?;
            let dataset = args.settings.load(&mut config, voice)?;
            let repeated = args
                .settings
                .config
                .as_deref()
                .and_then(RunFolder::of_config);
            if let Some(repeated) = RunFolder::manifest_of(repeated)? {
                let changes = repeated.changes(&dataset.manifest);
                if !changes.is_empty() {
                    voice.say(&format!(
                        "note: {} has changed since the run that this repeats: {changes}",
                        dataset.name
                    ));
                }
            }
            Fit::new(config, dataset, args.out.as_deref(), &device)?
        }
    };
    let run = fit.folder().clone();
    match fit.run(voice, &Interrupt::listen()?)? {
        Outcome::Finished(summary) => {
            voice.give(format_args!(
                "{}\n{} has the model, the report (report.html) and all else\n",
                summary.figures,
                run.display()
            ))?;
            if let Some(advice) = summary.figures.advice() {
                voice.say(&format!("note: {advice}"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted(step) => {
            tell(format_args!(
                "stopped after step {step}; go on with `train fit --resume {}`",
                run.display()
            ));
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}
