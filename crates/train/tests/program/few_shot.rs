//! Few-shot classification: of a run's test images, and in trials that lie in a folder.

use std::collections::HashMap;
use std::fs;

use image::GrayImage;
use metrics::{Embeddings, Trials, few_shot};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::scratch::Scratch;

fn evaluate(scratch: &Scratch, flags: &str) -> Value {
    let printed = scratch.succeeds(&format!("evaluate run --json {flags}"));
    serde_json::from_str(&printed.stdout).unwrap()
}

#[test]
fn a_run_is_judged_by_as_many_ways_as_it_has_new_classes() {
    let scratch = Scratch::new();
    let fit = "fit --config quick.toml --out run --quiet --hold-out-classes";
    scratch.succeeds(&format!("{fit} 5,6,7,8,9"));
    let summary = scratch.json("run/summary.json");
    let measured = summary["few_shot"].as_array().unwrap();
    assert_eq!(measured.len(), 1, "five classes are too few for 20 ways");
    let [ways, shots, trials] = ["ways", "shots", "trials"].map(|key| &measured[0][key]);
    assert_eq!((ways, shots, trials), (&json!(5), &json!(1), &json!(1000)));
    let error = |key: &str| measured[0]["error"][key].as_f64().unwrap();
    let (rate, low, high) = (error("rate"), error("low"), error("high"));
    assert!(0.0 < low && low < rate && rate < high && high <= 0.8);
    assert_eq!(rate, error("errors") / error("queries"));

    let percent = |share| format!("{:.2}%", 100.0 * share);
    let [rate, low, high] = [rate, low, high].map(percent);
    let value = format!("{rate} ({low} to {high})");
    let table = scratch.succeeds("evaluate run").stdout;
    let row = table.lines().find(|row| row.starts_with("5-way one-shot"));
    assert_eq!(
        row.unwrap(),
        format!("{:<28} {value}", "5-way one-shot error")
    );
    let page = scratch.text("run/report.html");
    assert!(page.contains("5-way one-shot error") && page.contains(&value));
    assert_eq!(evaluate(&scratch, "")["few_shot"], summary["few_shot"]);
}

#[test]
fn a_run_tested_on_the_classes_it_was_trained_on_reports_no_few_shot() {
    let scratch = Scratch::with_run();
    assert_eq!(scratch.json("run/summary.json").get("few_shot"), None);
    assert!(!scratch.succeeds("evaluate run").stdout.contains("shot"));
}

#[test]
fn evaluate_classifies_among_as_many_classes_as_are_asked_for() {
    let scratch = Scratch::with_run();
    scratch.succeeds("embed run --out test.safetensors");
    let bytes = scratch.read("test.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let column = |name| file.tensor(name).unwrap().data().as_chunks::<4>().0;
    let values = column("embeddings").iter().map(|v| f32::from_le_bytes(*v));
    let labels = column("labels").iter().map(|v| u32::from_le_bytes(*v));
    let (embeddings, labels) = (
        Embeddings::new(values.collect(), 4).unwrap(),
        Vec::from_iter(labels),
    );
    for (flags, ways, shots, trials) in [
        ("--one-shot 10", 10, 1, 1000),
        ("--one-shot 3 --shots 5 --trials 200", 3, 5, 200),
    ] {
        let trials = Trials {
            ways,
            shots,
            trials,
            seed: 1,
        };
        let expected = few_shot(&embeddings, &labels, None, trials).unwrap();
        assert_eq!(evaluate(&scratch, flags)["few_shot"], json!([expected]));
    }
    let table = scratch
        .succeeds("evaluate run --one-shot 3 --shots 5")
        .stdout;
    assert!(table.contains("\n3-way 5-shot error "), "{table}");
}

#[test]
fn few_shot_flags_that_make_no_sense_are_refused() {
    let scratch = Scratch::with_run();
    for flag in ["--shots 5", "--trials 10", "--within-groups"] {
        scratch.refuses_usage(&format!("evaluate run {flag}"), &["--one-shot <WAYS>"]);
    }
    let more = ["--shots 5", "--trials 5", "--within-groups"];
    for flag in ["--one-shot 5", "--data digits", "--at eer"]
        .iter()
        .chain(&more)
    {
        let line = format!("evaluate run --one-shot-trials there {flag}");
        scratch.refuses_usage(&line, &["cannot be used with"]);
    }
    scratch.refuses_usage("evaluate run --one-shot 5 --shots 0", &["--shots"]);
    for trials in ["0", "1000001"] {
        let line = format!("evaluate run --one-shot 5 --trials {trials}");
        scratch.refuses_usage(&line, &["--trials", "1..=1000000"]);
    }
    for (flags, words) in [
        (
            "--one-shot 11",
            "11 classes of 2 or more images each; there are 10",
        ),
        ("--one-shot 1", "2 classes or more"),
        ("--one-shot 2 --within-groups", "the largest group has 1"),
    ] {
        let named = flags.split(" --within").next().unwrap();
        scratch.refuses(2, &format!("evaluate run --quiet {flags}"), &[named, words]);
    }
}

/// Two trials of the digits 0 to 2: in `training/` the first of each, in `test/` the second.
fn trials(scratch: &Scratch) {
    let (_, digits) = data::digits().unwrap();
    for trial in 0..2 {
        let folder = scratch.path("trials").join(format!("run{trial}"));
        let mut list = String::new();
        for (part, file, place) in [("training", "class", 0), ("test", "item", 1)] {
            fs::create_dir_all(folder.join(part)).unwrap();
            for digit in 0..3 {
                let of_digit = digits.labels().iter().enumerate();
                let mut of_digit = of_digit.filter(|(_, label)| **label == digit);
                let (image, _) = of_digit.nth(2 * trial + place).unwrap();
                let pixels = digits.image(image).to_vec();
                let picture = GrayImage::from_raw(28, 28, pixels).unwrap();
                let path = folder.join(part).join(format!("{file}{digit}.png"));
                picture.save(path).unwrap();
            }
        }
        // One list as Omniglot's, the other within its trial.
        let within = ["run0/", ""][trial];
        for digit in 0..3 {
            list += &format!("{within}test/item{digit}.png {within}training/class{digit}.png\n");
        }
        fs::write(folder.join("class_labels.txt"), list + "\n").unwrap();
        fs::write(folder.join("test/notes.txt"), "no picture").unwrap();
        fs::write(folder.join("training/.hidden.png"), "no picture").unwrap();
    }
    fs::create_dir(scratch.path("trials/.hidden")).unwrap();
    scratch.write("trials/readme.txt", "no trial");
}

/// How many of a trial's test pictures are not nearest to the training picture of their digit.
fn errors(scratch: &Scratch, trial: usize) -> usize {
    let names = (0..3).flat_map(|item| (0..3).map(move |class| (item, class)));
    let names = names.map(|(item, class)| format!("test/item{item}.png,training/class{class}.png"));
    let list = format!("a,b\n{}\n", Vec::from_iter(names).join("\n"));
    scratch.write(&format!("trials/run{trial}/pairs.csv"), list);
    let line = format!("verify run --pairs trials/run{trial}/pairs.csv --threshold 1 --json");
    let mut nearest = HashMap::new();
    for row in scratch.succeeds(&line).stdout.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let (a, b) = (row["a"].to_string(), row["b"].to_string());
        let found = (row["distance"].as_f64().unwrap(), b);
        let nearest = nearest.entry(a).or_insert(found.clone());
        if found.0 < nearest.0 {
            *nearest = found;
        }
    }
    let digit = |name: &str| name.chars().find(char::is_ascii_digit);
    nearest
        .iter()
        .filter(|(a, (_, b))| digit(a) != digit(b))
        .count()
}

#[test]
fn fixed_trials_are_judged_by_the_distances_of_verify() {
    let scratch = Scratch::with_run();
    trials(&scratch);
    let errors = errors(&scratch, 0) + errors(&scratch, 1);
    let found = &evaluate(&scratch, "--one-shot-trials trials")["one_shot_trials"];
    assert_eq!((&found["trials"], &found["ways"]), (&json!(2), &json!(3)));
    assert_eq!(found["error"]["queries"], json!(6));
    assert_eq!(found["error"]["errors"], json!(errors));

    // Under the wrong names the pictures themselves are never right, under the right ones always.
    for (class, rate) in [([1, 2, 0], "100.00%"), ([0, 1, 2], "0.00%")] {
        for trial in 0..2 {
            let part = |part: &str| scratch.path(&format!("trials/run{trial}/{part}"));
            let mut list = String::new();
            for (item, class) in class.iter().enumerate() {
                let [to, from] = [
                    format!("test/item{item}.png"),
                    format!("training/class{item}.png"),
                ];
                fs::copy(part(&from), part(&to)).unwrap();
                list += &format!("{to} training/class{class}.png\n");
            }
            fs::write(part("class_labels.txt"), list).unwrap();
        }
        let row = scratch
            .succeeds("evaluate run --one-shot-trials trials")
            .stdout;
        let start = format!("{:<28} {rate} (", "3-way one-shot error");
        assert!(row.starts_with(&start), "{row}");
        assert!(row.ends_with("), 6 pictures in 2 trials\n"), "{row}");
    }
}

#[test]
fn fixed_trials_that_do_not_fit_are_refused_by_trial_file_and_line() {
    let scratch = Scratch::with_run();
    let refuses = |code, words: &[&str]| {
        scratch.refuses(code, "evaluate run --one-shot-trials trials", words);
    };
    refuses(1, &["cannot look into trials"]);
    fs::create_dir(scratch.path("trials")).unwrap();
    refuses(2, &["trials has no trials", "class_labels.txt"]);
    trials(&scratch);
    let list = "trials/run1/class_labels.txt";
    let sound = scratch.text(list);
    let lines: Vec<&str> = sound.lines().collect();
    for (text, words) in [
        ("test/item0.png\n", ["line 1", "TEST_PATH TRAINING_PATH"]),
        (
            "\ntest/item9.png training/class0.png\n",
            ["line 2: `test/item9.png`", "no picture in trials/run1/test"],
        ),
        (
            "run1/test/item0.png run0/training/class0.png\n",
            ["line 1", "no picture in trials/run1/training"],
        ),
        (
            &format!("{}\n{}\n", lines[0], lines[0]),
            ["line 2", "a second time"],
        ),
        (
            &format!("{}\n", lines[0]),
            ["does not name", "trials/run1/test/item1.png"],
        ),
    ] {
        scratch.write(list, text);
        refuses(2, &[list, words[0], words[1]]);
    }
    fs::remove_file(scratch.path(list)).unwrap();
    refuses(1, &["cannot read", list]);
    scratch.write(list, &sound);
    scratch.write("trials/run1/test/item2.png", "broken");
    refuses(1, &["trial trials/run1", "item2.png"]);
    for class in 1..3 {
        fs::remove_file(scratch.path(&format!("trials/run1/training/class{class}.png"))).unwrap();
    }
    refuses(
        2,
        &["trials/run1/training has 1 picture", "2 classes or more"],
    );
}

#[test]
fn what_archives_and_editors_add_to_trials_is_ignored() {
    let scratch = Scratch::with_run();
    trials(&scratch);
    let plain = evaluate(&scratch, "--one-shot-trials trials");
    fs::create_dir(scratch.path("trials/__MACOSX")).unwrap();
    let list = "trials/run0/class_labels.txt";
    scratch.write(list, format!("\u{feff}{}", scratch.text(list)));
    assert_eq!(evaluate(&scratch, "--one-shot-trials trials"), plain);

    let words = ["trials/run0 is a trial itself", "is in, trials\n"];
    scratch.refuses(2, "evaluate run --one-shot-trials trials/run0", &words);
}

#[test]
fn trials_of_pictures_that_the_model_was_made_with_are_left_out() {
    let scratch = Scratch::with_run();
    trials(&scratch);
    let (train, _) = data::digits().unwrap();
    let spoil = |name: &str| {
        let picture = GrayImage::from_raw(28, 28, train.image(0).to_vec()).unwrap();
        picture.save(scratch.path(name)).unwrap();
    };
    spoil("trials/run1/test/item0.png");
    spoil("trials/run1/training/class0.png");
    let line = "evaluate run --one-shot-trials trials";
    let ended = scratch.succeeds(line);
    let said = "made with: 1 trial with 2 such pictures\n";
    assert!(ended.stderr.ends_with(said), "{}", ended.stderr);
    let row = ended.stdout;
    assert!(row.ends_with("), 3 pictures in 1 trial\n"), "{row}");
    spoil("trials/run0/test/item1.png");
    let words = ["no trial is left", "2 trials with 3 such pictures"];
    scratch.refuses(2, line, &words);
}
