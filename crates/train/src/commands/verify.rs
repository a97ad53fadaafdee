//! `train verify`: do two pictures show the same thing?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use metrics::{OperatingPoint, Roc, Verification};
use serde::Serialize;
use serde_json::json;
use verifier::{Verdict, Verifier};

use super::model::ModelArgs;
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
    /// Write the results of --pairs to a CSV file [default: standard output]
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
    /// Use the threshold of another operating point on the model's validation pairs: `accuracy`,
    /// `eer` or `far=RATE`
    #[arg(long, value_name = "POINT")]
    at: Option<OperatingPoint>,
    /// Exit with status 3 if the pictures are different
    #[arg(long)]
    exit_code: bool,
}

/// Exit status of `--exit-code` for different pictures: 1 and 2 are for failures.
const DIFFERENT: u8 = 3;

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
    if verifier.threshold().is_none() {
        return Err(usage(
            "the model has no threshold of its own: give one with --threshold",
        ));
    }
    match (&args.pairs, &args.first, &args.second) {
        (Some(list), ..) => verify_list(args, &verifier, list, voice),
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
    let read = [verifier.read(paths[0])?, verifier.read(paths[1])?];
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

/// A row of a list of pairs.
struct Row {
    a: String,
    b: String,
    expected: Option<bool>,
}

/// A row of the results.
#[derive(Serialize)]
struct Judged<'a> {
    a: &'a str,
    b: &'a str,
    distance: f32,
    same: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<bool>,
}

fn verify_list(
    args: &VerifyArgs,
    verifier: &Verifier,
    list: &Path,
    voice: Voice,
) -> Result<ExitCode> {
    let rows = read_list(list)?;
    let root = args.root.as_deref();
    let root = root.or(list.parent()).unwrap_or(Path::new(""));
    let names = rows.iter().flat_map(|row| [&*row.a, &*row.b]);
    let names = Vec::from_iter(names.collect::<BTreeSet<_>>());
    let paths: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    let embeddings = verifier.embed(&verifier.read_all(&paths)?)?;
    let embedding = |name: &str| {
        let place = names.binary_search(&name);
        embeddings.row(place.unwrap_or_default())
    };

    let mut judged = Vec::with_capacity(rows.len());
    for Row { a, b, expected } in &rows {
        let verdict = verifier.verdict(embedding(a), embedding(b))?;
        judged.push(Judged {
            a,
            b,
            distance: verdict.distance,
            same: verdict.same,
            expected: *expected,
        });
    }
    match (voice, &args.out) {
        (_, Some(out)) => write_whole(out, &as_csv(&judged)?)?,
        (Voice::Json, None) => judged.iter().try_for_each(|row| voice.emit(row))?,
        (_, None) => print(String::from_utf8(as_csv(&judged)?)?)?,
    }
    let expected: Option<Vec<bool>> = rows.iter().map(|row| row.expected).collect();
    let (Some(expected), Some(threshold)) = (expected, verifier.threshold()) else {
        return Ok(ExitCode::SUCCESS);
    };
    let same = expected.iter().filter(|same| **same).count();
    if same == 0 || same == expected.len() {
        voice
            .say("no figures: they take same and different pairs, and the list has one kind alone");
        return Ok(ExitCode::SUCCESS);
    }
    let distances: Vec<f32> = judged.iter().map(|row| row.distance).collect();
    let roc = Roc::new(&distances, &expected)
        .with_context(|| format!("{}: no figures can be given", list.display()))?;
    let worth = Verification::new(&roc, threshold);
    voice.say(&format!(
        "{} pairs at threshold {threshold:.4}: {:.2}% right, AUC {:.4}, equal error rate {:.2}%; \
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

fn as_csv(judged: &[Judged]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in judged {
        writer.serialize(row)?;
    }
    Ok(writer.into_inner()?)
}

/// The rows of a CSV file with the columns `a`, `b` and perhaps `same`, in any order.
fn read_list(path: &Path) -> Result<Vec<Row>> {
    let here = path.display();
    let reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path);
    let mut reader = reader.with_context(|| format!("cannot read {here}"))?;
    let header = reader.headers();
    let header = header
        .with_context(|| format!("cannot read {here}"))?
        .clone();
    let column = |name| header.iter().position(|found| found == name);
    let (Some(a), Some(b)) = (column("a"), column("b")) else {
        let found: Vec<&str> = header.iter().collect();
        return Err(usage(format!(
            "{here} has the columns {}; its first line must name a and b, and may name same",
            found.join(",")
        )));
    };
    let same = column("same");
    let mut rows = Vec::new();
    for record in reader.records() {
        // Its text names the line.
        let record = record.with_context(|| format!("cannot read {here}"))?;
        let line = record.position().map_or(0, |position| position.line());
        let expected = same.map(|same| match &record[same] {
            "1" | "true" | "same" => Ok(true),
            "0" | "false" | "different" => Ok(false),
            found => Err(usage(format!(
                "{here}, line {line}: same is `{found}`; write 1 for the same and 0 for different"
            ))),
        });
        let expected = expected.transpose()?;
        let [a, b] = [a, b].map(|column| record[column].to_string());
        if a.is_empty() || b.is_empty() {
            return Err(usage(format!("{here}, line {line}: a picture has no name")));
        }
        rows.push(Row { a, b, expected });
    }
    if rows.is_empty() {
        return Err(usage(format!("{here} has no pairs")));
    }
    Ok(rows)
}
