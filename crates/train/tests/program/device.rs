use serde_json::json;

use crate::scratch::Scratch;

#[test]
fn the_cpu_by_name_gives_the_bits_of_the_cpu_by_default() {
    let scratch = Scratch::new();
    let fit = "fit --config quick.toml --quiet --out";
    scratch.succeeds(&format!("{fit} default"));
    scratch.succeeds(&format!("{fit} named --device cpu"));
    for name in [
        "config.toml",
        "metrics.jsonl",
        "model.safetensors",
        "embeddings.tsv",
    ] {
        let [default, named] =
            ["default", "named"].map(|run| scratch.read(&format!("{run}/{name}")));
        assert!(default == named, "{name} is another");
    }
    let figures = |flags| {
        let line = format!("evaluate default {flags}");
        scratch.succeeds(&line).stdout
    };
    assert_eq!(figures("--device cpu"), figures(""));
}

#[test]
fn a_run_says_and_records_its_device() {
    let scratch = Scratch::new();
    let ended = scratch.succeeds("fit --config quick.toml --steps 1 --out run --device cpu");
    assert!(ended.stderr.contains(" on cpu\n"), "{}", ended.stderr);
    assert_eq!(scratch.json("run/summary.json")["device"], json!("cpu"));
    assert!(!scratch.text("run/config.toml").contains("device"));
}

#[test]
fn a_device_of_another_form_is_answered_with_the_forms() {
    let scratch = Scratch::with_run();
    for device in ["gpu", "cuda:x", "cuda:", "cuda:-1", "cuda1", "cpu:0"] {
        let line = format!("fit --device {device}");
        scratch.refuses_usage(&line, &[device, "auto, cpu, cuda or cuda:N"]);
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_that_the_program_was_not_built_for_is_answered_with_how_to_build_it() {
    let scratch = Scratch::with_run();
    for command in [
        "fit",
        "fit --resume run",
        "evaluate run",
        "report run",
        "embed run --out e",
        "verify run a.png b.png",
    ] {
        for device in ["cuda", "cuda:1"] {
            let line = format!("{command} --device {device}");
            scratch.refuses(2, &line, &["--features cuda", "--device cpu"]);
        }
    }
}
