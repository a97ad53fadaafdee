//! `train verify`: do two pictures show the same thing?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use data::Part;
use metrics::{
    ErrorRate, Interval, OperatingPoint, PairIntervals, Roc, Verification, is_same, pair_intervals,
};
use serde::Serialize;
use serde_json::json;
use verifier::{Verdict, Verifier};

use super::model::ModelArgs;
use super::pair_list::{DistinctPairs, PairList};
use crate::run::write_whole;
use crate::terminal::{Voice, print, usage};

/// Flags of `train verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// First picture
    #[arg(required_unless_present = "pairs")]
    first: Option<PathBuf>,
    /// Second picture
    #[arg(required_unless_present = "pairs")]
    second: Option<PathBuf>,
    /// Judge every pair in a CSV file with columns `a` and `b`, and `same` (1 or 0) if the truth is
    /// known
    #[arg(long, value_name = "FILE", conflicts_with_all = ["first", "second", "exit_code"])]
    pairs: Option<PathBuf>,
    /// Folder that the paths in the CSV file are relative to [default: the folder of the file]
    #[arg(long, value_name = "DIR", requires = "pairs")]
    root: Option<PathBuf>,
    /// Write the results of --pairs to a CSV file [default: standard output, with --quiet too]
    #[arg(long, value_name = "FILE", requires = "pairs")]
    out: Option<PathBuf>,
    /// Call two pictures the same up to this distance [default: the model's threshold]
    #[arg(
        long,
        value_name = "D",
        allow_negative_numbers = true,
        conflicts_with = "at"
    )]
    threshold: Option<f64>,
    /// Use the threshold of another operating point on the pairs that the model was calibrated on:
    /// `accuracy`, `eer` or `far=RATE`
    #[arg(long, value_name = "POINT")]
    at: Option<OperatingPoint>,
    /// Exit with status 3 if the pictures are different
    #[arg(long)]
    exit_code: bool,
}

/// Exit status of `--exit-code` for different pictures: 1 and 2 are for failures.
const DIFFERENT: u8 = 3;

/// Of the resamples that intervals are made from.
const SEED: u64 = 1;

/// Prints the distance and the verdict, of two pictures or of each pair of a list.
///
/// # Errors
/// For pictures or a list that cannot be read, and a model without a threshold.
pub fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let (mut verifier, voice) = args.model.open()?;
    if let Some(threshold) = args.threshold {
        let named = |error| usage(format!("--threshold: {error}"));
        verifier = verifier.with_threshold(threshold).map_err(named)?;
    }
    if let Some(rule) = args.at {
        let named = |error| usage(format!("--at {rule}: {error}"));
        verifier = verifier.at(rule).map_err(named)?;
    }
    let missing = || usage("the model has no threshold of its own: give one with --threshold");
    let threshold = verifier.threshold().ok_or_else(missing)?;
    match (&args.pairs, &args.first, &args.second) {
        (Some(list), ..) => verify_list(args, &verifier, threshold, list, voice),
        (None, Some(a), Some(b)) => verify_two(args, &verifier, [a, b], voice),
        _ => Err(usage("name two pictures, or a list of pairs with --pairs")),
    }
}

fn verify_two(
    args: &VerifyArgs,
    verifier: &Verifier,
    paths: [&PathBuf; 2],
    voice: Voice,
) -> Result<ExitCode> {
    let read = verifier.read_all(&paths)?;
    let embeddings = verifier.embed(&read)?;
    let (a, b) = (embeddings.row(0), embeddings.row(1));
    let verdict = verifier.verdict(a, b)?;
    for (path, picture) in paths.iter().zip(&read) {
        voice.say(&format!(
            "{}: {}",
            path.display(),
            picture.treatment_in_words().join("; ")
        ));
    }
    let Verdict {
        distance,
        threshold,
        same,
        far_at_threshold,
    } = verdict;
    if let Some(roc) = verifier.calibration() {
        voice.say(&format!(
            "at this threshold, of held-out pairs, {} of the different ones passed for the same and {} \
             of the same ones did not (95% intervals)",
            roc.false_accepts_at(threshold),
            roc.false_rejects_at(threshold)
        ));
    }
    voice.give(format_args!(
        "{}: distance {distance:.4}, {} the threshold {threshold:.4}\n",
        if same { "the same" } else { "different" },
        if same { "within" } else { "beyond" },
    ))?;
    let treatment: Vec<_> = read.iter().map(|picture| &picture.treatment).collect();
    voice.emit(&json!({
        "same": same,
        "distance": distance,
        "threshold": threshold,
        "far_at_threshold": far_at_threshold,
        "embeddings": [a, b],
        "treatment": treatment,
    }))?;
    Ok(match args.exit_code && !same {
        true => ExitCode::from(DIFFERENT),
        false => ExitCode::SUCCESS,
    })
}

/// A row of the results. The list can be read again: `same` is the truth, as there.
#[derive(Serialize)]
struct Judged<'a> {
    a: &'a str,
    b: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    same: Option<bool>,
    distance: f32,
    verdict: &'static str,
}

fn verify_list(
    args: &VerifyArgs,
    verifier: &Verifier,
    threshold: f64,
    list: &Path,
    voice: Voice,
) -> Result<ExitCode> {
    let list = PairList::read(list, args.root.as_deref())?;
    let pictures = verifier.read_all(&list.files())?;
    let distances = list.distances(&verifier.embed(&pictures)?);
    let judged = list.pairs.iter().zip(&distances).map(|(pair, &distance)| {
        let [a, b] = list.names(pair);
        Judged {
            a,
            b,
            same: pair.same,
            distance,
            verdict: in_words(is_same(distance, threshold)),
        }
    });
    let judged: Vec<Judged> = judged.collect();
    match (voice, &args.out) {
        (_, Some(out)) => write_whole(out, &as_csv(&judged)?)?,
        (Voice::Json, None) => judged.iter().try_for_each(|row| voice.emit(row))?,
        (_, None) => print(String::from_utf8(as_csv(&judged)?)?)?,
    }
    if list.truth().is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let known = args
        .model
        .known(&list.files(), &pictures, Part::is_used, voice)?;
    let counted = DistinctPairs::new(&list, &pictures, &known)?;
    counted.tell_left_out(voice);
    if counted.kinds().contains(&0) {
        let [same, different] = counted.kinds();
        voice.say(&format!(
            "no figures: they take same and different pairs, and {same} same and {different} different \
             ones count"
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let distances: Vec<f32> = counted.places.iter().map(|&pair| distances[pair]).collect();
    let roc = Roc::new(&distances, &counted.same)
        .with_context(|| format!("{}: no figures can be given", list.display()))?;
    let worth = Verification::new(&roc, threshold);
    // Pairs of a list have pictures in common, too.
    let units = &counted.pictures;
    let intervals = pair_intervals(&distances, &counted.same, units, threshold, SEED).ok();
    let widened = |rate: ErrorRate, of: fn(&PairIntervals) -> Interval| {
        intervals.map_or(rate, |intervals| rate.widened(of(&intervals)))
    };
    let worth = Verification {
        far: widened(worth.far, |of| of.far),
        frr: widened(worth.frr, |of| of.frr),
        ..worth
    };
    voice.say(&format!(
        "{} pairs at threshold {threshold:.4}: accuracy {:.2}%, AUC {:.4}, equal error rate {:.2}%; \
         false accepts {}, false rejects {} (95% intervals)",
        roc.pairs(),
        100.0 * worth.accuracy,
        worth.auc,
        100.0 * worth.eer,
        worth.far,
        worth.frr,
    ));
    voice.emit(&worth)?;
    Ok(ExitCode::SUCCESS)
}

fn in_words(same: bool) -> &'static str {
    match same {
        true => "same",
        false => "different",
    }
}

fn as_csv(judged: &[Judged]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let truth = judged.iter().any(|row| row.same.is_some());
    let header = ["a", "b"].into_iter().chain(truth.then_some("same"));
    writer.write_record(header.chain(["distance", "verdict"]))?;
    for row in judged {
        let same = row.same.map(|same| if same { "1" } else { "0" });
        let cells = [row.a, row.b].into_iter().chain(same);
        writer.write_record(cells.chain([&*row.distance.to_string(), row.verdict]))?;
    }
    Ok(writer.into_inner()?)
}
