//! A second training, on the validation classes too.

use std::fs;

use serde_json::Value;

use crate::heads::pictures;
use crate::scratch::Scratch;

const FIT: &str = "fit --config quick.toml --data folder:pictures --input 1x16x16 --steps 20 \
                   --set training.checkpoint_seconds=0 --set training.keep_checkpoints=40";

fn images(summary: &Value, part: &str) -> u64 {
    summary["images"][part].as_u64().unwrap()
}

#[test]
fn what_the_first_training_chooses_holds_for_the_second() {
    let scratch = Scratch::new();
    pictures(&scratch);
    let said = scratch.succeeds(&format!("{FIT} --out twice")).stderr;
    scratch.succeeds(&format!(
        "{FIT} --out once --quiet --set training.refit=false"
    ));
    let (twice, once) = (
        scratch.json("twice/summary.json"),
        scratch.json("once/summary.json"),
    );
    assert_eq!(once.get("refit_steps"), None);
    let steps = once["weights_of_step"].as_u64().unwrap();
    assert_eq!(twice["refit_steps"], steps);
    assert_eq!(twice["steps"], 20 + steps);
    assert_eq!(twice["weights_of_step"], 20 + steps);
    let trained_on = images(&twice, "train") + images(&twice, "validation");
    let words = format!("trained again on {trained_on} images");
    assert!(said.contains(&words), "{said}");
    for chosen in ["/verification/threshold", "/head"] {
        assert_eq!(twice.pointer(chosen), once.pointer(chosen), "{chosen}");
    }
    let lines = |run: &str| scratch.text(&format!("{run}/metrics.jsonl"));
    assert!(lines("twice").starts_with(&lines("once")));

    // The second begins as the first, so its first loss is that of a network that has learned nothing.
    let losses = lines("twice");
    let loss = |step: u64| {
        let lines = losses
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut lines = lines.filter(|line| line["step"] == step && line.get("loss").is_some());
        lines.next().unwrap()["loss"].as_f64().unwrap()
    };
    assert!(loss(30) > loss(20), "{losses}");

    let page = scratch.text("twice/report.html");
    assert!(page.contains("the loss starts again after step 20"));
    assert!(!scratch.text("once/report.html").contains("starts again"));

    let again = scratch.succeeds("evaluate twice --json").stdout;
    let again: Value = serde_json::from_str(&again).unwrap();
    for figure in ["/verification/auc", "/verification/threshold"] {
        assert_eq!(again.pointer(figure), twice.pointer(figure), "{figure}");
    }
}

#[test]
fn a_run_that_was_stopped_in_either_training_ends_with_the_same_bits() {
    let scratch = Scratch::new();
    pictures(&scratch);
    scratch.succeeds(&format!("{FIT} --out whole --quiet --head none"));
    let steps = scratch.json("whole/summary.json")["steps"]
        .as_u64()
        .unwrap();
    for stopped in [7, 20, 21, steps - 1] {
        scratch.succeeds(&format!("{FIT} --out part --quiet --head none"));
        for step in stopped + 1..=steps {
            fs::remove_file(scratch.path(&format!("part/checkpoints/step-{step:08}.safetensors")))
                .unwrap();
        }
        for result in ["summary.json", "model.safetensors"] {
            fs::remove_file(scratch.path(&format!("part/{result}"))).unwrap();
        }
        scratch.succeeds("fit --resume part --quiet");
        for file in ["model.safetensors", "metrics.jsonl"] {
            let [part, whole] = ["part", "whole"].map(|run| scratch.read(&format!("{run}/{file}")));
            assert!(part == whole, "{file} after a stop at step {stopped}");
        }
        fs::remove_dir_all(scratch.path("part")).unwrap();
    }
}

#[test]
fn images_that_figures_are_of_are_not_trained_on() {
    let scratch = Scratch::new();
    pictures(&scratch);
    for flags in ["--set data.test=0", "--split images"] {
        scratch.succeeds(&format!("{FIT} --out run --quiet {flags}"));
        let summary = scratch.json("run/summary.json");
        assert_eq!(summary.get("refit_steps"), None, "{flags}");
        assert_eq!(summary["steps"], 20);
        fs::remove_dir_all(scratch.path("run")).unwrap();
    }
}
