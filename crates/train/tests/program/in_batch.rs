use crate::scratch::Scratch;

const FIT: &str =
    "fit --config quick.toml --loss in-batch --classes-per-batch 6 --samples-per-class 5";

#[test]
fn all_pairs_of_a_batch_train_a_network_that_every_command_takes() {
    let scratch = Scratch::new();
    let ended = scratch.succeeds(&format!("{FIT} --miner hardest:2 --steps 150 --out run"));
    let described = "all pairs of 30 images (6 classes, 5 of each)";
    assert!(ended.stderr.contains(described), "{}", ended.stderr);
    let summary = scratch.json("run/summary.json");
    // An untrained network's is 0.63; measured: 0.90.
    let auc = summary["verification"]["auc"].as_f64().unwrap();
    assert!(auc > 0.8, "{auc}");
    assert_eq!(summary["epochs"], 150.0 / 253.0);
    assert!(summary["images_per_second"].as_f64().unwrap() > 0.0);
    assert!(scratch.text("run/report.html").contains(described));
    let page = scratch.read("run/report.html");
    scratch.succeeds("report run");
    assert!(scratch.read("run/report.html") == page);
    let printed = scratch.succeeds("evaluate run --json").stdout;
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["verification"], summary["verification"]);
}

#[test]
fn a_run_goes_on_from_a_checkpoint_with_the_bits_of_one_that_never_stopped() {
    for net in ["", "--trunk conv4 --set net.channels=[8,16] --norm group"] {
        let scratch = Scratch::new();
        // The schedule ends with the run, so a constant rate is what makes a shorter run a part of it.
        let fit = format!("{FIT} {net} --set schedule.policy=constant --quiet");
        scratch.succeeds(&format!("{fit} --steps 8 --out whole"));
        scratch.succeeds(&format!("{fit} --steps 5 --out part"));
        scratch.write("part/config.toml", scratch.read("whole/config.toml"));
        std::fs::remove_file(scratch.path("part/summary.json")).unwrap();
        scratch.succeeds("fit --resume part");
        let [part, whole] =
            ["part", "whole"].map(|run| scratch.read(&format!("{run}/model.safetensors")));
        assert!(part == whole, "{net}");
    }
}

#[test]
fn settings_that_the_loss_does_not_use_are_refused() {
    let scratch = Scratch::new();
    for (flags, words) in [
        (
            "--loss pairs --miner hard",
            &["in_batch.miner", "--loss in-batch"][..],
        ),
        (
            "--preset caffe --samples-per-class 4",
            &["in_batch.samples_per_class"],
        ),
        (
            "--data folder:none --loss pairs --set in_batch.balanced=false",
            &["in_batch.balanced"],
        ),
        (
            "--loss in-batch --batch 32",
            &["--loss pairs", "--classes-per-batch"],
        ),
        ("--loss in-batch --pairing uniform", &["--pairing"]),
        ("--loss triplets", &["`triplets`", "in-batch"]),
        (
            "--loss in-batch --miner hardest",
            &["`hardest`", "`hardest:N`"],
        ),
    ] {
        scratch.refuses(2, &format!("fit {flags}"), words);
    }
}

#[test]
fn batches_that_the_images_cannot_fill_are_refused() {
    let scratch = Scratch::new();
    for (flags, words) in [
        (
            "--classes-per-batch 11",
            &["11", "10 of the 10 classes", "in_batch.classes_per_batch"][..],
        ),
        (
            "--samples-per-class 900",
            &["at least 900 images", "in_batch.samples_per_class"],
        ),
        (
            "--classes-per-batch 1",
            &["classes a batch is 1", "at least 2"],
        ),
        (
            "--hold-out-classes 7,8,9 --classes-per-batch 8",
            &["7 of the 7 classes", "needs 8"],
        ),
    ] {
        scratch.refuses(1, &format!("fit --loss in-batch {flags} --out new"), words);
    }
}

#[test]
fn classes_held_out_are_what_an_open_set_is_judged_on() {
    let scratch = Scratch::new();
    let flags = "--loss in-batch --hold-out-classes 7,8,9 --steps 20";
    let ended = scratch.succeeds(&format!("fit --config quick.toml {flags} --out run"));
    assert!(
        ended.stderr.contains("7 classes, 12 of each"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("not trained on: 7, 8, 9"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stdout.contains("trained classes: accuracy"),
        "{}",
        ended.stdout
    );
    let summary = scratch.json("run/summary.json");
    assert_eq!(summary["retrieval"]["queries"], 214 + 189 + 196);
    assert_eq!(
        summary["closed_set"]["retrieval"]["queries"],
        2000 - 214 - 189 - 196
    );
    assert_eq!(
        summary["verification"]["threshold"],
        summary["closed_set"]["verification"]["threshold"]
    );
    assert!(summary.get("p_at_1_against_training").is_none());
    assert!(
        scratch
            .text("run/report.html")
            .contains("which it was not trained on")
    );
    scratch.succeeds("fit --config run/config.toml --out again --quiet");
    assert!(scratch.read("run/model.safetensors") == scratch.read("again/model.safetensors"));
    let printed = scratch.succeeds("evaluate run --json").stdout;
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    for figures in ["verification", "closed_set"] {
        assert_eq!(printed[figures], summary[figures]);
    }
}

#[test]
fn classes_that_cannot_be_held_out_are_named() {
    let scratch = Scratch::new();
    for (classes, words) in [
        ("7,ten", &["no class `ten`", "--hold-out-classes"][..]),
        ("7", &["classes held out is 1"]),
        ("0,1,2,3,4,5,6,7,8", &["to train on is 1"]),
    ] {
        scratch.refuses(
            1,
            &format!("fit --hold-out-classes {classes} --out new"),
            words,
        );
    }
}

#[test]
fn normalised_embeddings_are_of_length_1_for_every_command() {
    let scratch = Scratch::new();
    let flags = "--normalised --embedding 3 --set loss.margin=0.5";
    for (loss, run) in [("in-batch", "all"), ("pairs", "pairs")] {
        let fit = format!("fit --config quick.toml --steps 20 {flags} --loss {loss} --out {run}");
        scratch.succeeds(&format!("{fit} --quiet"));
        for row in scratch.text(&format!("{run}/embeddings.tsv")).lines() {
            let squares = row.split('\t').map(|v| v.parse::<f64>().unwrap().powi(2));
            let length = squares.sum::<f64>().sqrt();
            assert!((length - 1.0).abs() < 1e-6, "{run}: {row}");
        }
        let printed = scratch.succeeds(&format!("evaluate {run} --json")).stdout;
        let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let summary = scratch.json(&format!("{run}/summary.json"));
        assert_eq!(printed["verification"], summary["verification"]);
        let threshold = summary["verification"]["threshold"].as_f64().unwrap();
        assert!((0.0..=2.0).contains(&threshold), "{threshold}");
    }
}

#[test]
fn a_memory_of_earlier_batches_survives_a_stop() {
    let scratch = Scratch::new();
    let memory =
        "--loss in-batch --turns both --set in_batch.memory=300 --set in_batch.memory_after=5";
    let fit = format!("fit --config quick.toml --steps 30 {memory} --quiet");
    scratch.succeeds(&format!("{fit} --out whole"));
    scratch.succeeds(&format!("{fit} --out plain --set in_batch.memory=0"));
    // A run that was stopped after twenty steps: its newest checkpoint, and nothing after it.
    scratch.succeeds(&format!(
        "{fit} --out part --set training.checkpoint_seconds=0 --set training.keep_checkpoints=30"
    ));
    for step in 21..=30 {
        std::fs::remove_file(scratch.path(&format!("part/checkpoints/step-{step:08}.safetensors")))
            .unwrap();
    }
    for result in ["summary.json", "model.safetensors"] {
        std::fs::remove_file(scratch.path(&format!("part/{result}"))).unwrap();
    }
    scratch.succeeds("fit --resume part --quiet");
    let [whole, part, plain] =
        ["whole", "part", "plain"].map(|run| scratch.read(&format!("{run}/model.safetensors")));
    assert!(whole == part, "the memory was lost at the stop");
    assert!(whole != plain, "the memory has no effect");
}

#[test]
fn batches_within_groups_are_others_where_there_are_groups() {
    let scratch = Scratch::new();
    for class in 0..12u32 {
        let folder = format!(
            "pictures/{}/{class}",
            ["Greek", "Latin"][class as usize / 6]
        );
        std::fs::create_dir_all(scratch.path(&folder)).unwrap();
        for i in 0..6u32 {
            let picture = image::GrayImage::from_fn(16, 16, |x, y| {
                [(x * (7 + class) + y * (3 + i) + i) as u8].into()
            });
            let path = scratch.path(&format!("{folder}/{i}.png"));
            picture.save(path).unwrap();
        }
    }
    let fit = "fit --config quick.toml --loss in-batch --classes-per-batch 2 --samples-per-class 3";
    let model = |data: &str, groups: &str| {
        let out = format!("{groups}{}", data.len());
        let line = format!("{fit} {data} --steps 10 --set in_batch.groups={groups} --out {out}");
        let said = scratch.succeeds(&line).stderr;
        (scratch.read(&format!("{out}/model.safetensors")), said)
    };
    let pictures = "--data folder:pictures --input 1x16x16";
    let [(mixed, _), (together, said)] =
        ["mixed", "together"].map(|groups| model(pictures, groups));
    assert!(mixed != together);
    assert!(!said.contains("in_batch.groups"), "{said}");
    // Digits are in no groups.
    let [(mixed, _), (together, said)] = ["mixed", "together"].map(|groups| model("", groups));
    assert!(mixed == together);
    assert!(
        said.contains("in_batch.groups = together changes nothing"),
        "{said}"
    );
    let pairs = "fit --set in_batch.groups=together --loss pairs --out new";
    scratch.refuses(
        2,
        pairs,
        &["in_batch.groups applies to --loss in-batch only"],
    );
}
