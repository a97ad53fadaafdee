use std::io::{Cursor, PipeWriter, pipe};

use serde_json::Value;

use crate::scratch::{Ended, Scratch};

#[test]
fn people_get_the_figures_on_standard_output_and_all_else_on_standard_error() {
    let scratch = Scratch::new();
    let ended = scratch.succeeds("fit --config quick.toml --out run");
    assert!(ended.stdout.contains("pair accuracy"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("run has the model"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stderr.starts_with("run on 7599 images of digits"),
        "{}",
        ended.stderr
    );
}

#[test]
fn quiet_prints_nothing() {
    let scratch = Scratch::with_run();
    scratch.write("a.png", png());
    for line in [
        "fit --config quick.toml --steps 1 --out quiet --quiet",
        "evaluate run --quiet",
        "verify run a.png a.png --quiet",
        "embed run a.png --out e.safetensors --quiet",
        "report run --quiet",
    ] {
        let ended = scratch.succeeds(line);
        assert_eq!(
            (ended.stdout.as_str(), ended.stderr.as_str()),
            ("", ""),
            "{line}"
        );
    }
}

#[test]
fn json_prints_json_lines_and_nothing_else() {
    let scratch = Scratch::with_run();
    scratch.write("a.png", png());
    for line in [
        "fit --config quick.toml --steps 3 --out json --json",
        "evaluate run --json",
        "verify run a.png a.png --json",
        "embed run a.png --out e.safetensors --json",
        "report run --json",
    ] {
        let ended = scratch.succeeds(line);
        assert_eq!(ended.stderr, "", "{line}");
        for object in ended.stdout.lines() {
            let object: Value = serde_json::from_str(object).unwrap();
            assert!(object.is_object(), "{line}: {object}");
        }
    }
}

#[test]
fn the_json_of_a_run_is_its_metrics_and_then_its_summary() {
    let scratch = Scratch::new();
    let printed = scratch
        .succeeds("fit --config quick.toml --out run --json")
        .stdout;
    let (metrics, summary) = printed.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(format!("{metrics}\n"), scratch.text("run/metrics.jsonl"));
    let summary: Value = serde_json::from_str(summary).unwrap();
    assert_eq!(summary, scratch.json("run/summary.json"));
}

#[test]
fn results_that_nobody_reads_are_an_error_and_no_panic() {
    let scratch = Scratch::with_run();
    for line in [
        "fit --print-config",
        "fit --config quick.toml --steps 1 --out people",
        "fit --config quick.toml --steps 1 --out json --json",
        "evaluate run",
        "evaluate run --json",
    ] {
        let ended = Ended::from(scratch.command(line).stdout(closed()).output().unwrap());
        assert_eq!(ended.code, Some(1), "train {line}\n{}", ended.stderr);
        let last = ended.stderr.lines().last().unwrap();
        let expected = "error: cannot write to standard output: ";
        assert!(last.starts_with(expected), "train {line}\n{}", ended.stderr);
    }
    assert!(scratch.path("people/summary.json").is_file());
}

#[test]
fn a_run_goes_on_when_nobody_reads_its_progress() {
    let scratch = Scratch::new();
    let mut run = scratch.command("fit --config quick.toml --out run");
    let ended = Ended::from(run.stderr(closed()).output().unwrap());
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains("pair accuracy"), "{}", ended.stdout);
}

/// The writing end of a pipe whose reading end is gone.
fn closed() -> PipeWriter {
    let (_, writer) = pipe().unwrap();
    writer
}

fn png() -> Vec<u8> {
    let (_, test) = data::digits().unwrap();
    let digit = image::GrayImage::from_raw(28, 28, test.image(0).to_vec()).unwrap();
    let mut png = Cursor::new(Vec::new());
    digit.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}
