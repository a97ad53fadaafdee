//! `train fit`: trains a network and writes a run folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgGroup, Args};
use data::Manifest;

use crate::device::DeviceArgs;
use crate::fit::{Fit, LoadAs, Outcome, load};
use crate::run::RunFolder;
use crate::settings::{Layers, Preset, RunConfig, SettingFlags, read_text};
use crate::terminal::{INTERRUPTED, Interrupt, VoiceArgs, print, tell};

/// Flags of `train fit`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new(NEW_RUN).multiple(true))]
pub struct FitArgs {
    #[command(flatten)]
    settings: SettingFlags,
    /// Settings to start from
    #[arg(long, value_name = "NAME", value_enum, default_value_t, group = NEW_RUN)]
    preset: Preset,
    /// Read settings from a TOML file; they override the preset. A run's config.toml repeats that run
    #[arg(long, value_name = "FILE", group = NEW_RUN)]
    config: Option<PathBuf>,
    /// Change any setting by its name in config.toml, such as transform.shift=3; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
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

/// The flags besides the settings' that make no sense for a run that is resumed.
const NEW_RUN: &str = "new-run";

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
            let load = |config: &RunConfig, before: Option<&Manifest>| {
                let request = LoadAs {
                    before,
                    ..LoadAs::default()
                };
                load(config, request, voice)
            };
            Fit::resume(run, &args.set, args.allow_changes, &device, load)?
        }
        None => {
            let config = configure(args)?;
            if args.print_config {
                print(config.to_toml()?)?;
                return Ok(ExitCode::SUCCESS);
            }
            let device = args.device.open(voice)?;
            // A repeat is a new network, which has seen nothing: its data is compared, and no more.
            let before =
                RunFolder::manifest_of(RunFolder::of_model(Path::new(&config.training.init)))?;
            let request = LoadAs {
                before: before.as_ref(),
                ..LoadAs::default()
            };
            let dataset = load(&config, request, voice)?;
            let repeated = args.config.as_deref().and_then(RunFolder::of_config);
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

/// What the flags ask for.
fn configure(args: &FitArgs) -> Result<RunConfig> {
    let mut layers = Layers::new(args.preset);
    if let Some(path) = &args.config {
        let text = read_text(path)?;
        layers = match RunFolder::of_config(path) {
            Some(_) => layers.run(path, &text)?,
            None => layers.text(path, &text)?,
        };
    }
    for (key, value) in &args.settings.0 {
        layers = layers.set(key, value.clone())?;
    }
    let mut assignments = args.set.iter();
    assignments
        .try_fold(layers, |layers, text| layers.assignment(text))?
        .finish()
}
