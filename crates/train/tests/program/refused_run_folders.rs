use std::fs;

use crate::scratch::Scratch;

#[test]
fn a_folder_that_is_not_empty_is_not_trained_into() {
    let scratch = Scratch::with_run();
    let words = ["run is not empty", "--out", "--resume run"];
    scratch.refuses(2, "fit --steps 1 --out run", &words);
}

#[test]
fn a_place_where_no_folder_can_be_made_is_named() {
    let scratch = Scratch::new();
    scratch.write("file", "");
    scratch.refuses(1, "fit --steps 1 --out file/run", &["file/run"]);
    scratch.refuses(1, "fit --steps 1 --out file", &["file"]);
}

#[test]
fn what_is_no_run_folder_is_named() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("empty")).unwrap();
    for place in ["nowhere", "empty"] {
        for line in [
            format!("evaluate {place}"),
            format!("report {place}"),
            format!("fit --resume {place}"),
            format!("verify {place} a.png b.png"),
            format!("calibrate {place} --pairs pairs.csv"),
            format!("embed {place} --out e.safetensors"),
        ] {
            scratch.refuses(2, &line, &[place, "not a run folder"]);
        }
    }
}

#[test]
fn a_damaged_configuration_is_named() {
    let scratch = Scratch::with_run();
    let config = scratch.text("run/config.toml");
    for (from, to, word) in [
        (
            "variant = \"hadsell\"",
            "variant = \"hadsel\"",
            "`loss.variant`",
        ),
        ("embedding = 4", "embeddings = 4", "`net.embedding`"),
        ("[loss]", "[loss", "line"),
    ] {
        assert!(config.contains(from));
        scratch.write("run/config.toml", config.replace(from, to));
        for line in ["evaluate run", "report run"] {
            scratch.refuses(2, line, &["run/config.toml", word]);
        }
    }
}

#[test]
fn a_finished_run_is_not_resumed() {
    let scratch = Scratch::with_run();
    scratch.refuses(2, "fit --resume run", &["run is finished"]);
}

#[test]
fn a_damaged_model_is_named() {
    let scratch = Scratch::with_run();
    let sound = scratch.read("run/model.safetensors");
    for damaged in [&sound[..sound.len() / 2], &sound[..5], b"garbage", b""] {
        scratch.write("run/model.safetensors", damaged);
        for line in [
            "evaluate run",
            "report run",
            "verify run a.png b.png",
            "calibrate run --pairs pairs.csv",
            "embed run --out e.safetensors",
        ] {
            scratch.refuses(1, line, &["run/model.safetensors", "cut short"]);
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let scratch = Scratch::with_run();
    fs::remove_file(scratch.path("run/summary.json")).unwrap();
    let sound = scratch.read("run/checkpoints/step-00000300.safetensors");
    for damaged in [&sound[..sound.len() / 2], &sound[..5], b"garbage"] {
        scratch.write("run/checkpoints/step-00000300.safetensors", damaged);
        scratch.refuses(
            1,
            "fit --resume run",
            &["run/checkpoints/step-00000300.safetensors"],
        );
    }
}

#[test]
fn a_checkpoint_of_another_network_is_named_with_the_layer() {
    let scratch = Scratch::with_run();
    fs::remove_file(scratch.path("run/summary.json")).unwrap();
    let config = scratch.text("run/config.toml");
    scratch.write(
        "run/config.toml",
        config.replace("embedding = 4", "embedding = 3"),
    );
    let words = ["run/checkpoints/step-00000300.safetensors", "feat"];
    scratch.refuses(1, "fit --resume run", &words);
}

#[test]
fn a_damaged_summary_or_metrics_file_is_named() {
    for name in ["run/summary.json", "run/metrics.jsonl"] {
        let scratch = Scratch::with_run();
        scratch.write(name, "{\"step\n\n");
        scratch.refuses(1, "report run", &[name]);
    }
}

#[test]
fn a_network_that_diverges_is_told_apart_from_a_fault() {
    let scratch = Scratch::new();
    // It shows in the next step's loss or, after the last step, in that of the held-out images.
    for (steps, rate, words) in [
        (9, "1e30", "the loss is NaN at step 1"),
        (1, "1e30", "the loss is NaN on images held out"),
        (1, "1e6", "the loss is inf on images held out"),
    ] {
        let line = format!("--steps {steps} --learning-rate {rate} --out {steps}-{rate} --quiet");
        let ended = scratch.train(&format!("fit --config quick.toml {line}"));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{line}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        for words in [words, "optimiser.learning_rate"] {
            assert!(ended.stderr.contains(words), "{}", ended.stderr);
        }
    }
}
