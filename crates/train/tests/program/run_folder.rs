use std::collections::HashMap;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::scratch::Scratch;

#[test]
fn a_run_leaves_the_files_of_a_run_folder_and_no_others() {
    let scratch = Scratch::with_run();
    let contents = scratch.contents();
    let found: Vec<&str> = contents
        .keys()
        .filter_map(|path| path.strip_prefix("run").ok()?.to_str())
        .filter(|path| !path.is_empty())
        .collect();
    assert_eq!(
        found,
        [
            ".lock",
            "checkpoints",
            "checkpoints/best.safetensors",
            "checkpoints/step-00000300.safetensors",
            "config.toml",
            "data.csv",
            "embeddings.tsv",
            "environment.jsonl",
            "events.out.tfevents",
            "metadata.tsv",
            "metrics.jsonl",
            "model.safetensors",
            "projector_config.pbtxt",
            "report",
            "report/confusion.csv",
            "report/distances.csv",
            "report/loss.csv",
            "report/map.csv",
            "report/mistakes.csv",
            "report/neighbours.csv",
            "report/roc.csv",
            "report.html",
            "sprite.png",
            "summary.json",
        ]
    );
}

#[test]
fn metrics_has_a_line_for_each_logged_step_and_each_epoch() {
    let scratch = Scratch::with_run();
    let text = scratch.text("run/metrics.jsonl");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (epochs, steps): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|line| line.get("epoch").is_some());
    let numbers = |lines: &[&Value]| -> Vec<u64> {
        lines
            .iter()
            .map(|line| line["step"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(numbers(&steps), Vec::from_iter(1..=300));
    // 7,599 images, 64 of them in a step.
    assert_eq!(numbers(&epochs), [118, 236, 300]);
    assert!(numbers(&Vec::from_iter(&lines)).is_sorted());
    for line in steps {
        assert!(line["loss"].as_f64().unwrap() >= 0.0, "{line}");
        assert!(line["learning_rate"].as_f64().unwrap() > 0.0, "{line}");
    }
    for line in epochs {
        for figure in [
            "validation_loss",
            "validation_auc",
            "test_loss",
            "test_accuracy",
        ] {
            assert!(line[figure].as_f64().unwrap() > 0.0, "{line}");
        }
    }
}

#[test]
fn the_summary_has_every_figure() {
    let scratch = Scratch::with_run();
    let summary = scratch.json("run/summary.json");
    for share in [
        "/verification/accuracy",
        "/verification/auc",
        "/verification/eer",
        "/retrieval/p_at_1",
        "/retrieval/r_precision",
        "/retrieval/map_at_r",
    ] {
        let value = summary.pointer(share).and_then(Value::as_f64);
        assert!(
            value.is_some_and(|v| v > 0.0 && v < 1.0),
            "{share}: {value:?}"
        );
    }
    for positive in [
        "/verification/threshold",
        "/loss/train",
        "/loss/test",
        "/seconds",
        "/images_per_second",
    ] {
        let value = summary.pointer(positive).and_then(Value::as_f64);
        assert!(value.is_some_and(|v| v > 0.0), "{positive}: {value:?}");
    }
    for (path, expected) in [
        ("/verification/pairs", json!(400)),
        ("/verification/balanced", json!(true)),
        (
            "/images",
            json!({"train": 7599, "validation": 401, "test": 2000}),
        ),
        ("/classes/trained", json!(10)),
        ("/classes/smallest", json!({"class": "5", "images": 655})),
        ("/data", json!("digits")),
        ("/steps", json!(300)),
        ("/epochs", json!(300.0 / 118.0)),
        ("/device", json!("cpu")),
        ("/seed", json!(1)),
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(summary.pointer(path), Some(&expected), "{path}");
    }
}

#[test]
fn the_model_file_says_all_that_its_use_needs() {
    let scratch = Scratch::with_run();
    let bytes = scratch.read("run/model.safetensors");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let header: HashMap<String, String> = metadata.metadata().clone().unwrap();
    let entry = |key: &str| -> Value { serde_json::from_str(&header[key]).unwrap() };
    assert_eq!(header["format"], "pt");
    assert_eq!(header["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(entry("input"), json!([1, 28, 28]));
    assert_eq!(entry("embedding"), json!(4));
    assert_eq!(entry("net")["channels"], json!([8, 16]));
    assert_eq!(entry("normalisation")["ink_side"], json!(20));
    assert_eq!(entry("classes").as_array().map(Vec::len), Some(10));
    assert_eq!(
        entry("threshold"),
        scratch.json("run/summary.json")["verification"]["threshold"]
    );
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(
        tensors.tensor("conv1.weight").unwrap().shape(),
        [8, 1, 5, 5]
    );
    assert_eq!(tensors.tensor("feat.weight").unwrap().shape(), [4, 64]);
}

#[test]
fn the_projectors_files_have_a_row_for_each_test_image() {
    let scratch = Scratch::with_run();
    let labels: Vec<String> = scratch
        .text("run/metadata.tsv")
        .lines()
        .map(String::from)
        .collect();
    let (_, test) = data::digits().unwrap();
    let expected: Vec<String> = test.labels().iter().map(u32::to_string).collect();
    assert_eq!(labels, expected);
    let embeddings = scratch.text("run/embeddings.tsv");
    assert_eq!(embeddings.lines().count(), test.len());
    for row in embeddings.lines() {
        let row: Vec<f32> = row
            .split('\t')
            .map(|value| value.parse().unwrap())
            .collect();
        assert_eq!(row.len(), 4);
    }
}

#[test]
fn the_report_is_one_page_with_the_runs_figures() {
    let scratch = Scratch::with_run();
    let page = scratch.text("run/report.html").to_lowercase();
    assert!(page.starts_with("<!doctype html>"));
    assert!(page.trim_end().ends_with("</html>"));
    let auc = scratch.json("run/summary.json")["verification"]["auc"]
        .as_f64()
        .unwrap();
    assert!(page.contains(&format!("{auc:.4}")));
    assert!(!page.contains("src=\"http") && !page.contains("<link rel=\"stylesheet"));
}

#[test]
fn without_out_a_run_takes_the_next_free_number_under_runs() {
    let scratch = Scratch::new();
    for number in 1..=2 {
        scratch.succeeds("fit --config quick.toml --steps 1");
        let summary = format!("runs/digits-{number}/summary.json");
        assert!(scratch.path(&summary).is_file(), "{summary}");
    }
}

#[test]
fn no_command_means_fit() {
    let scratch = Scratch::new();
    scratch.succeeds("--config quick.toml --steps 1 --out run");
    assert!(scratch.path("run/summary.json").is_file());
}

#[test]
fn print_config_prints_what_a_run_would_record_and_trains_nothing() {
    let scratch = Scratch::with_run();
    let before = scratch.contents();
    let printed = scratch
        .succeeds("fit --config quick.toml --steps 300 --batch 32 --print-config")
        .stdout;
    assert_eq!(printed, scratch.text("run/config.toml"));
    assert!(scratch.contents() == before);
}
