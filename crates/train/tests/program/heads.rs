//! Heads that are fitted once the network is trained.

use std::fs;

use image::GrayImage;
use serde_json::Value;

use crate::scratch::Scratch;

/// Twenty classes of eight pictures: strokes of the class at a height of their own.
pub fn pictures(scratch: &Scratch) {
    for class in 0..20u32 {
        let folder = scratch.path("pictures").join(format!("class{class:02}"));
        fs::create_dir_all(&folder).unwrap();
        for i in 0..8u32 {
            let picture = GrayImage::from_fn(16, 16, |x, y| {
                let stroke = (x * (1 + class % 5) + (y + i) * (1 + class / 5)) % 9 < 3;
                [if stroke { 255 } else { (i * 16) as u8 }].into()
            });
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
}

/// One training, so that each head is that of the same network.
const FIT: &str = "fit --config quick.toml --data folder:pictures --input 1x16x16 --steps 40 --quiet \
                   --set training.refit=false";

fn run(scratch: &Scratch, name: &str, flags: &str) -> Value {
    scratch.succeeds(&format!("{FIT} --out {name} {flags}"));
    scratch.json(&format!("{name}/summary.json"))
}

fn close(a: &Value, b: &Value) {
    let [a, b] = [a, b].map(|value| value.as_f64().unwrap());
    assert!((a - b).abs() < 1e-9, "{a} and {b}");
}

#[test]
fn a_head_is_part_of_the_model_that_every_command_uses() {
    let scratch = Scratch::new();
    pictures(&scratch);
    let plain = run(&scratch, "none", "--head none");
    assert!(plain.get("head").is_none());
    let chosen = run(&scratch, "auto", "");
    let of = |summary: &Value, head: &str| {
        let tried = summary["head"]["validation"].as_array().unwrap().clone();
        let found = tried.into_iter().find(|tried| tried["head"] == head);
        found.unwrap_or_else(|| panic!("no {head} in {}", summary["head"]))
    };
    for head in ["whitening", "whitened-features", "lda"] {
        let summary = run(&scratch, head, &format!("--head {head}"));
        assert_eq!(summary["head"]["chosen"], head);
        // The network and its training are the same, so are the figures that auto chooses by.
        assert_eq!(of(&summary, "none"), of(&chosen, "none"));
        if head == "lda" {
            assert_eq!(of(&summary, head), of(&chosen, head));
        }
        assert_ne!(
            scratch.read(&format!("{head}/model.safetensors")),
            scratch.read("none/model.safetensors")
        );
        assert_eq!(
            scratch.text(&format!("{head}/metrics.jsonl")),
            scratch.text("none/metrics.jsonl")
        );
        let page = scratch.text(&format!("{head}/report.html"));
        assert!(page.contains(&format!("{head} (on the validation images none: EER")));

        // Judged again, and on two pictures: distances of embeddings of unit length.
        let again = scratch.succeeds(&format!("evaluate {head} --json")).stdout;
        let again: Value = serde_json::from_str(&again).unwrap();
        close(
            &again["verification"]["auc"],
            &summary["verification"]["auc"],
        );
        let [one, other] =
            ["class00/0.png", "class07/3.png"].map(|name| format!("pictures/{name}"));
        let verdict = scratch
            .succeeds(&format!("verify {head} {one} {other} --json"))
            .stdout;
        let verdict: Value = serde_json::from_str(&verdict).unwrap();
        assert!(verdict["distance"].as_f64().unwrap() <= 2.0, "{verdict}");
        scratch.succeeds(&format!("report {head} --quiet"));
    }
    let name = chosen["head"]["chosen"].as_str().unwrap();
    assert!(
        scratch.read("auto/model.safetensors")
            == scratch.read(&format!("{name}/model.safetensors"))
    );
}

#[test]
fn a_head_over_a_grid_is_part_of_the_model_and_needs_maps_that_it_divides() {
    let scratch = Scratch::new();
    pictures(&scratch);
    let resnet = "--trunk small-resnet --set net.channels=[4,8] --set net.hidden=[]";
    for head in ["grid-lda", "stage-lda"] {
        let summary = run(&scratch, head, &format!("{resnet} --head {head}"));
        assert_eq!(summary["head"]["chosen"], head);
        let again = scratch.succeeds(&format!("evaluate {head} --json")).stdout;
        let again: Value = serde_json::from_str(&again).unwrap();
        close(
            &again["verification"]["auc"],
            &summary["verification"]["auc"],
        );
    }
    // LeNet has no such maps.
    let lenet = run(&scratch, "lenet", "--head grid-lda");
    assert_eq!(lenet["head"]["chosen"], "none");
    let note = lenet["notes"][0].as_str().unwrap();
    assert!(note.contains("only a small-resnet"), "{note}");
}

#[test]
fn a_run_that_was_stopped_ends_with_the_same_head() {
    let scratch = Scratch::new();
    pictures(&scratch);
    let whole = run(&scratch, "whole", "--set training.head=lda");
    run(
        &scratch,
        "part",
        "--set training.head=lda --set training.checkpoint_seconds=0 --set training.keep_checkpoints=40",
    );
    for step in 21..=40 {
        fs::remove_file(scratch.path(&format!("part/checkpoints/step-{step:08}.safetensors")))
            .unwrap();
    }
    for result in ["summary.json", "model.safetensors"] {
        fs::remove_file(scratch.path(&format!("part/{result}"))).unwrap();
    }
    scratch.succeeds("fit --resume part --quiet");
    assert!(scratch.read("whole/model.safetensors") == scratch.read("part/model.safetensors"));
    assert_eq!(scratch.json("part/summary.json")["head"], whole["head"]);

    // One thread does as two.
    let mut one = scratch.command(&format!("{FIT} --out one --head lda"));
    assert!(
        one.env("RAYON_NUM_THREADS", "1")
            .status()
            .unwrap()
            .success()
    );
    assert!(scratch.read("whole/model.safetensors") == scratch.read("one/model.safetensors"));
}

#[test]
fn a_run_of_before_there_were_heads_has_none() {
    let scratch = Scratch::new();
    pictures(&scratch);
    run(&scratch, "run", "--head none");
    let config = scratch.text("run/config.toml");
    assert!(config.contains("head = \"none\"\n"));
    let before = config.replace("head = \"none\"\n", "");
    scratch.write("run/config.toml", &before);
    let model = scratch.read("run/model.safetensors");
    fs::remove_file(scratch.path("run/summary.json")).unwrap();
    scratch.succeeds("fit --resume run --quiet");
    assert!(scratch.read("run/model.safetensors") == model);
    scratch.succeeds("fit --config run/config.toml --out again --quiet");
    assert!(scratch.read("again/model.safetensors") == model);
    // A file of one's own has the default.
    scratch.write("own.toml", before);
    let print = scratch
        .succeeds("fit --config own.toml --print-config")
        .stdout;
    assert!(print.contains("head = \"auto\"\n"), "{print}");
}

#[test]
fn a_head_that_cannot_be_fitted_is_left_out_with_the_reason() {
    let scratch = Scratch::new();
    // The pictures of a class that are trained on are all the same.
    for (part, differ) in [("train", 0), ("val", 3), ("test", 7)] {
        for class in 0..4u32 {
            let folder = scratch.path("equal").join(format!("{part}/class{class}"));
            fs::create_dir_all(&folder).unwrap();
            for i in 0..4u32 {
                let picture = GrayImage::from_fn(16, 16, |x, y| {
                    [(x * (5 + class) + y * 9 + (1 + i) * differ) as u8].into()
                });
                picture.save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    let fit = "fit --config quick.toml --data folder:equal --input 1x16x16 --batch 4 --quiet";
    scratch.succeeds(&format!("{fit} --out asked --head lda"));
    let summary = scratch.json("asked/summary.json");
    assert_eq!(summary["head"]["chosen"], "none");
    let reason = "no head (training.head = \"lda\"): the features of each class are all equal";
    assert!(
        summary["notes"]
            .to_string()
            .replace("\\\"", "\"")
            .contains(reason),
        "{summary}"
    );
    // Where the validation classes are trained on, none is looked for.
    scratch.succeeds(&format!("{fit} --out auto --head auto"));
    assert!(scratch.json("auto/summary.json").get("head").is_none());
    assert!(scratch.read("auto/model.safetensors") == scratch.read("asked/model.safetensors"));
}
