//! The commands, a file each: its flags, its help and what it does.

mod calibrate;
mod embed;
mod evaluate;
mod export;
mod fit;
mod fixed_trials;
mod model;
mod one_shot;
mod pair_list;
mod preview;
mod report;
mod search;
mod serve;
mod settings;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::terminal::{UsageError, tell};

/// Train a Siamese network, evaluate it, and ask it whether two pictures show the same thing
#[derive(Debug, Parser)]
#[command(name = "train", version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Command to run; `fit` if omitted
    #[command(subcommand)]
    command: Option<Command>,
    /// Those of `fit`, the command if none is named.
    #[command(flatten)]
    fit: fit::FitArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a network and write a run folder
    Fit(Box<fit::FitArgs>),
    /// Show what the network sees in training: images with their random transforms, as a PNG
    Preview(Box<preview::PreviewArgs>),
    /// Evaluate a trained network on the test images of a data set
    Evaluate(evaluate::EvaluateArgs),
    /// Decide whether two pictures show the same thing
    Verify(verify::VerifyArgs),
    /// Choose a model's threshold anew on a list of your own pairs
    Calibrate(calibrate::CalibrateArgs),
    /// Find the pictures in a folder that are nearest to a given one
    Search(search::SearchArgs),
    /// Write the embeddings of pictures, or of a run's test images, to a file
    Embed(embed::EmbedArgs),
    /// Write a trained network as an ONNX file, for other programs and languages
    Export(export::ExportArgs),
    /// Serve a trained network over HTTP, with a web page for comparing two pictures
    Serve(serve::ServeArgs),
    /// Rebuild a run's report.html
    Report(report::ReportArgs),
}

/// Does what the command line asks. Where that fails it says why on standard error, and the exit
/// code is 2 for a wrong use of the program and 1 for anything else.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => fit::fit(&cli.fit),
        Some(Command::Fit(args)) => fit::fit(&args),
        Some(Command::Preview(args)) => preview::preview(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Evaluate(args)) => evaluate::evaluate(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Verify(args)) => verify::verify(&args),
        Some(Command::Calibrate(args)) => calibrate::calibrate(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Search(args)) => search::search(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Embed(args)) => embed::embed(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Export(args)) => export::export(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Serve(args)) => serve::serve(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Report(args)) => report::report(&args).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        tell(format_args!("error: {error:#}"));
        match error.downcast_ref::<UsageError>() {
            Some(_) => ExitCode::from(2),
            None => ExitCode::FAILURE,
        }
    })
}
