//! From the command line to an exit code.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use toml::Value;

use crate::cli::{Cli, Command, FitArgs};
use crate::config::{Overlay, RunConfig, read_text};
use crate::fit::{Fit, Outcome};
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::progress::{Voice, print, tell};
use crate::run_folder::RunFolder;
use crate::usage::UsageError;
use crate::{embed, evaluate, search, serve, verify};

/// Does what the command line asks. Where that fails it says why on standard error, and the exit
/// code is 2 for a wrong use of the program and 1 for anything else.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => fit(&cli.fit),
        Some(Command::Fit(args)) => fit(&args),
        Some(Command::Evaluate(args)) => evaluate::evaluate(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Verify(args)) => verify::verify(&args),
        Some(Command::Search(args)) => search::search(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Embed(args)) => embed::embed(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Serve(args)) => serve::serve(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Report(args)) => evaluate::report(&args).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        tell(format_args!("error: {error:#}"));
        match error.downcast_ref::<UsageError>() {
            Some(_) => ExitCode::from(2),
            None => ExitCode::FAILURE,
        }
    })
}

fn fit(args: &FitArgs) -> Result<ExitCode> {
    let voice = Voice::new(args.voice.quiet, args.voice.json);
    let fit = match &args.resume {
        Some(run) => Fit::resume(
            RunFolder::open(run)?,
            &args.set,
            args.allow_changes,
            args.device.choice.open(voice)?,
            voice,
        )?,
        None => {
            let config = configure(args)?;
            if args.print_config {
                print(config.to_toml()?)?;
                return Ok(ExitCode::SUCCESS);
            }
            Fit::new(
                config,
                args.out.as_deref(),
                args.device.choice.open(voice)?,
                voice,
            )?
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

fn configure(args: &FitArgs) -> Result<RunConfig> {
    // Read once: it may come through a pipe.
    let file = args.config.as_deref();
    let text = file.map(read_text).transpose()?;
    let file = file.zip(text.as_deref());
    let overlay = lay(args, file, Overlay::new(args.preset)?)?;
    // Beneath what the user says.
    let mut base = Overlay::new(args.preset)?;
    if overlay.has_pictures() {
        base = base.for_pictures()?;
    } else if overlay.held_out() > 0 {
        base = base.for_held_out(overlay.held_out())?;
    }
    if overlay.is_residual() {
        base = base.for_residual_trunk()?;
    }
    lay(args, file, base.into_start())?.finish()
}

/// What the user says on `overlay`: the file's settings, then the flags.
fn lay(args: &FitArgs, file: Option<(&Path, &str)>, mut overlay: Overlay) -> Result<Overlay> {
    if let Some((path, text)) = file {
        overlay = overlay.text(path, text)?;
    }
    if let Some(data) = &args.data {
        overlay = overlay.set("data.source", data.as_str())?;
    }
    if let Some(input) = args.input {
        let input: Vec<i64> = input.map(i64::from).to_vec();
        overlay = overlay.set("net.input", input)?;
    }
    if args.skip_corrupt {
        overlay = overlay.set("data.skip_corrupt", true)?;
    }
    let length = match (args.epochs, args.steps) {
        (Some(epochs), _) => Some(format!("{epochs} epochs")),
        (None, Some(steps)) => Some(format!("{steps} steps")),
        (None, None) => None,
    };
    if let Some(length) = length {
        overlay = overlay.set("training.length", length)?;
    }
    let whole = [
        ("training.pairs_per_batch", args.batch),
        ("in_batch.classes_per_batch", args.classes_per_batch),
        ("in_batch.samples_per_class", args.samples_per_class),
        ("net.embedding", args.embedding),
        ("seed", args.seed),
    ];
    for (key, value) in whole {
        if let Some(value) = value {
            overlay = overlay.set(key, i64::from(value))?;
        }
    }
    let fractions = [
        ("loss.margin", args.margin),
        ("optimiser.learning_rate", args.learning_rate),
    ];
    for (key, value) in fractions {
        if let Some(value) = value {
            overlay = overlay.set(key, value)?;
        }
    }
    let names = [
        ("net.trunk", &args.trunk),
        ("loss.kind", &args.loss),
        ("in_batch.miner", &args.miner),
        ("loss.variant", &args.variant),
        ("data.pairing", &args.pairing),
    ];
    for (key, value) in names {
        if let Some(value) = value {
            overlay = overlay.set(key, value.as_str())?;
        }
    }
    if let Some(on_nan) = args.on_nan {
        overlay = overlay.set("training.on_nan", Value::try_from(on_nan)?)?;
    }
    if !args.hold_out_classes.is_empty() {
        overlay = overlay.set("data.hold_out_classes", args.hold_out_classes.clone())?;
    }
    if let Some(rule) = args.at {
        overlay = overlay.set("calibration.at", rule.to_string())?;
    }
    for assignment in &args.set {
        overlay = overlay.assignment(assignment)?;
    }
    Ok(overlay)
}
