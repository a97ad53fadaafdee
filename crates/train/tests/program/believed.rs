//! Figures that a person can believe, whatever has become of the folder since.

use std::fs;
use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;

use crate::scratch::Scratch;

/// Pictures of nothing but noise, in `classes` classes.
fn noise(root: &Path, classes: u32, pictures: std::ops::Range<u32>) {
    for class in 0..classes {
        let folder = root.join(format!("class{class}"));
        fs::create_dir_all(&folder).unwrap();
        for i in pictures.clone() {
            let mut state = u64::from(1 + class * 1000 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut level = || {
                // Xorshift, of which the upper bits are good enough for a picture.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as u8
            };
            let picture = RgbImage::from_fn(16, 16, |_, _| Rgb([level(), level(), level()]));
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
}

const NOISE: &str = "fit --config quick.toml --data folder:noise --input 3x16x16 --out run";

fn figure(printed: &Value, path: &str) -> f64 {
    let found = printed.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {path} in {printed}"))
}

fn evaluate(scratch: &Scratch, flags: &str) -> (Value, String) {
    let ended = scratch.succeeds(&format!("evaluate run --json {flags}"));
    let said = scratch.succeeds(&format!("evaluate run {flags}")).stderr;
    (serde_json::from_str(&ended.stdout).unwrap(), said)
}

#[test]
fn noise_stays_at_chance_when_pictures_are_added() {
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 6, 0..20);
    // Long enough to learn the pictures by heart.
    scratch.succeeds(&format!("{NOISE} --steps 400 --quiet"));
    let (learned, _) = evaluate(&scratch, "");
    assert!(figure(&learned, "/loss/train") < 0.03, "{learned}");
    let at_chance = |printed: &Value| {
        let (accuracy, auc) = (
            figure(printed, "/verification/accuracy"),
            figure(printed, "/verification/auc"),
        );
        assert!(
            (0.4..0.6).contains(&accuracy) && (0.35..0.65).contains(&auc),
            "{printed}"
        );
    };
    at_chance(&learned);

    noise(&scratch.path("noise"), 6, 20..22);
    let of = |name: &str| scratch.path("noise/class0").join(name);
    fs::rename(of("0.png"), of("renamed.png")).unwrap();
    fs::rename(of("1.png"), scratch.path("noise/class1/moved.png")).unwrap();
    fs::remove_file(of("2.png")).unwrap();
    let (grown, said) = evaluate(&scratch, "");
    at_chance(&grown);
    assert!(
        said.contains("has changed since the run: 12 new (")
            && said.contains("1 gone (class0/2.png)")
            && said.contains("1 in another class (class0/1.png)")
            && said.contains("1 renamed (class0/0.png)"),
        "{said}"
    );
    let said = scratch.succeeds("report run").stderr;
    assert!(said.contains("has changed since the run"), "{said}");

    // Given as another folder, what was trained on is known all the same.
    fs::rename(scratch.path("noise"), scratch.path("elsewhere")).unwrap();
    let (other, said) = evaluate(&scratch, "--data folder:elsewhere");
    at_chance(&other);
    assert!(said.contains("are copies of ones trained on"), "{said}");
}

#[test]
fn the_report_goes_on_without_training_images_that_are_gone() {
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 3, 0..10);
    scratch.succeeds(&format!("{NOISE} --steps 2 --split images --quiet"));
    let shown = || {
        scratch
            .text("run/report.html")
            .contains("<img class=\"sheet\"")
    };
    assert!(shown());
    let list = scratch.text("run/data.csv");
    let trained = list
        .lines()
        .filter_map(|line| match line.split(',').collect::<Vec<_>>()[..] {
            ["train", _, name, ..] => Some(scratch.path("noise").join(name)),
            _ => None,
        });
    let (half, rest): (Vec<_>, Vec<_>) = trained.enumerate().partition(|(i, _)| i % 2 == 0);
    assert!(half.len() > 6 && rest.len() > 6, "{list}");
    for (_, file) in half {
        fs::remove_file(file).unwrap();
    }
    scratch.succeeds("report run --quiet");
    assert!(shown(), "half of them are left");
    for (_, file) in rest {
        fs::remove_file(file).unwrap();
    }
    scratch.succeeds("report run --quiet");
    let page = scratch.text("run/report.html");
    assert!(!shown() && page.contains("not shown: none of them is left in folder:noise"));
}

#[test]
fn a_run_goes_on_with_other_data_only_where_that_is_asked_for() {
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 4, 0..12);
    scratch.succeeds(&format!("{NOISE} --quiet"));
    fs::remove_file(scratch.path("run/summary.json")).unwrap();
    let of = |class: &str| scratch.path("noise").join(class);
    fs::rename(of("class1"), of("other")).unwrap();
    let words = [
        "has changed since the run began",
        "12 in another class (class1/0.png",
        "--allow-changes",
    ];
    scratch.refuses(2, "fit --resume run", &words);
    fs::rename(of("other"), of("class1")).unwrap();
    fs::remove_file(of("class2/3.png")).unwrap();
    scratch.refuses(2, "fit --resume run", &["1 gone (class2/3.png)"]);
    scratch.succeeds("fit --resume run --quiet --allow-changes");
    let changes = scratch.json("run/changes.jsonl");
    assert_eq!(changes["data"]["gone"], serde_json::json!(["class2/3.png"]));
    // It is known by now.
    fs::remove_file(scratch.path("run/summary.json")).unwrap();
    scratch.succeeds("fit --resume run --quiet");
}

#[test]
fn a_repeated_run_says_that_its_data_has_changed() {
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 4, 0..12);
    scratch.succeeds(&format!("{NOISE} --quiet"));
    let ended = scratch.succeeds("fit --config run/config.toml --out again");
    assert!(!ended.stderr.contains("has changed"), "{}", ended.stderr);
    assert!(scratch.read("run/model.safetensors") == scratch.read("again/model.safetensors"));
    noise(&scratch.path("noise"), 4, 12..13);
    let ended = scratch.succeeds("fit --config run/config.toml --out other");
    assert!(
        ended.stderr.contains("this repeats: 4 new"),
        "{}",
        ended.stderr
    );
}

/// Pictures of a pattern a class, in noise.
fn patterns(root: &Path, classes: u32, pictures: u32) {
    let hash = |x: u32, y: u32, z: u32| {
        let mut state = u64::from(x) << 40 | u64::from(y) << 20 | u64::from(z);
        for _ in 0..3 {
            state = (state ^ (state >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (state >> 56) as u32
    };
    for class in 0..classes {
        let folder = root.join(format!("class{class:02}"));
        fs::create_dir_all(&folder).unwrap();
        for i in 0..pictures {
            let picture = GrayImage::from_fn(16, 16, |x, y| {
                let pattern = hash(1 + class, x / 4, y / 4);
                let noise = hash(1000 + class, i, 1 + y * 16 + x);
                Luma([((pattern + 2 * noise) / 3) as u8])
            });
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
}

#[test]
fn the_first_row_says_what_is_known_of_the_tested_classes() {
    let scratch = Scratch::new();
    patterns(&scratch.path("all"), 8, 12);
    // Six classes in both parts, two in the one that is tested.
    for class in 0..8 {
        for i in 0..12 {
            let part = if class < 6 && i < 10 { "train" } else { "test" };
            let folder = scratch.path("noise").join(part).join(format!("{class}"));
            fs::create_dir_all(&folder).unwrap();
            let from = scratch.path("all").join(format!("class{class:02}/{i}.png"));
            fs::copy(from, folder.join(format!("{i}.png"))).unwrap();
        }
    }
    let fit = NOISE.replace("3x16x16", "1x16x16");
    scratch.succeeds(&format!("{fit} --steps 100 --quiet"));
    let (mixed, _) = evaluate(&scratch, "");
    assert_eq!(mixed["tested_on"]["kind"], "mixed-classes");
    let table = scratch.succeeds("evaluate run").stdout;
    let row = "36 images of 8 classes, 2 of which it never saw";
    assert!(table.lines().next().unwrap().ends_with(row), "{table}");
    assert_eq!(mixed["intervals"]["resampled"], "images");
    // A third of the tested images are of trained classes, the most there were if all counted.
    assert!(figure(&mixed, "/p_at_1_against_training") > 0.34, "{mixed}");

    patterns(&scratch.path("others"), 10, 6);
    let (others, _) = evaluate(&scratch, "--data folder:others");
    assert_eq!(others["tested_on"]["kind"], "other-data");
    assert_eq!(others["intervals"]["resampled"], "classes");
    let table = scratch.succeeds("evaluate run --data folder:others").stdout;
    assert!(table.contains("for other classes than these"), "{table}");
}

#[test]
fn a_false_accept_rate_that_is_asked_for_holds_on_new_classes() {
    let scratch = Scratch::new();
    patterns(&scratch.path("noise"), 40, 8);
    let fit = NOISE.replace("3x16x16", "1x16x16");
    let flags = "--steps 150 --quiet --set data.evaluation_pairs=4000 --head none --at far=0.05";
    scratch.succeeds(&format!("{fit} {flags}"));
    let summary = scratch.json("run/summary.json");
    assert_eq!(summary["tested_on"]["kind"], "new-classes");
    assert!(summary["tested_on"]["classes"].as_u64().unwrap() >= 8);
    let far = |end: &str| figure(&summary, &format!("/verification/far/{end}"));
    assert!(far("low") < 0.05 && 0.05 < far("high"), "{summary}");
    assert!((0.01..0.12).contains(&far("rate")), "{summary}");
    // A stricter wish is a smaller threshold.
    let (loose, _) = evaluate(&scratch, "--at far=0.2");
    let (strict, _) = evaluate(&scratch, "--at far=0.01");
    let threshold = |printed: &Value| figure(printed, "/verification/threshold");
    assert!(threshold(&strict) < threshold(&summary));
    assert!(threshold(&summary) < threshold(&loose));
}

/// Evaluates the model on a folder, and verifies the same pairs of the same files.
fn agrees_file_by_file(scratch: &Scratch, folder: &str) {
    let (printed, _) = evaluate(scratch, &format!("--data folder:{folder}"));
    let mut pictures = Vec::new();
    for class in fs::read_dir(scratch.path(folder)).unwrap() {
        let class = class.unwrap();
        for picture in fs::read_dir(class.path()).unwrap() {
            let class = class.file_name().into_string().unwrap();
            let picture = picture.unwrap().file_name().into_string().unwrap();
            pictures.push((class, picture));
        }
    }
    let mut list = String::from("a,b,same\n");
    for (i, (class, picture)) in pictures.iter().enumerate() {
        for (other_class, other) in &pictures[..i] {
            let same = u8::from(class == other_class);
            list += &format!("{class}/{picture},{other_class}/{other},{same}\n");
        }
    }
    scratch.write(&format!("{folder}/pairs.csv"), list);
    let ended = scratch.succeeds(&format!("verify run --pairs {folder}/pairs.csv --json"));
    let verified = ended.stdout.lines().last().unwrap();
    let verified: Value = serde_json::from_str(verified).unwrap();
    for path in ["accuracy", "auc", "eer", "share_right", "pairs"] {
        let [a, b] = [&printed["verification"][path], &verified[path]];
        assert_eq!(a, b, "{folder}: {path}\n{printed}\n{verified}");
    }
    for rate in ["far", "frr"] {
        for count in ["errors", "pairs"] {
            let [a, b] = [
                &printed["verification"][rate][count],
                &verified[rate][count],
            ];
            assert_eq!(a, b, "{folder}: {rate}/{count}");
        }
    }
}

#[test]
fn evaluate_and_verify_agree_on_drawings() {
    let scratch = Scratch::with_run();
    let (_, test) = data::digits().unwrap();
    // Dark on white, and larger than the network's input: the ink has to be found.
    for (n, &label) in test.labels().iter().enumerate().step_by(101) {
        let folder = scratch.path(&format!("drawn/{label}"));
        fs::create_dir_all(&folder).unwrap();
        let digit = test.image(n);
        let picture = GrayImage::from_fn(40, 50, |x, y| {
            let inside = (3..31).contains(&x) && (17..45).contains(&y);
            let level = if inside {
                digit[((y - 17) * 28 + x - 3) as usize]
            } else {
                0
            };
            Luma([255 - level])
        });
        picture.save(folder.join(format!("{n}.png"))).unwrap();
    }
    agrees_file_by_file(&scratch, "drawn");
    let (printed, _) = evaluate(&scratch, "--data folder:drawn");
    assert!(
        figure(&printed, "/verification/accuracy") > 0.8,
        "{printed}"
    );
}

#[test]
fn evaluate_and_verify_agree_on_pictures_of_any_size() {
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 3, 0..12);
    scratch.succeeds(&format!("{NOISE} --quiet"));
    for class in ["x", "y"] {
        for i in 0..5u32 {
            let folder = scratch.path(&format!("new/{class}"));
            fs::create_dir_all(&folder).unwrap();
            let picture = RgbImage::from_fn(20 + 7 * i, 30, |a, b| {
                Rgb([
                    (a * (i + 3)) as u8,
                    (b * 5) as u8,
                    if class == "x" { 0 } else { 200 },
                ])
            });
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    agrees_file_by_file(&scratch, "new");
}

#[test]
fn lists_of_pictures_that_were_trained_on_give_no_figures() {
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 3, 0..20);
    scratch.succeeds(&format!("{NOISE} --quiet"));
    let mut list = String::from("a,b,same\n");
    for i in 0..19 {
        list += &format!("class0/{i}.png,class0/{}.png,1\n", i + 1);
        list += &format!("class0/{i}.png,class1/{i}.png,0\n");
    }
    scratch.write("noise/pairs.csv", list);
    let ended = scratch.succeeds("verify run --pairs noise/pairs.csv --out verdicts.csv");
    assert!(
        ended
            .stderr
            .contains("of pictures that the model was made with"),
        "{}",
        ended.stderr
    );
    assert_eq!(scratch.text("verdicts.csv").lines().count(), 39);
}

#[test]
fn few_pictures_are_enough_by_default_or_the_setting_is_named() {
    for (classes, pictures) in [(6, 10), (8, 5), (8, 3), (14, 4)] {
        let scratch = Scratch::new();
        noise(&scratch.path("noise"), classes, 0..pictures);
        let fit = "fit --data folder:noise --input 3x16x16 --steps 5 --out run";
        let ended = scratch.succeeds(fit);
        assert!(ended.stdout.contains("accuracy"), "{}", ended.stdout);
        // The threshold is there, so nothing has to be held out to judge another folder.
        fs::create_dir(scratch.path("two")).unwrap();
        noise(&scratch.path("two"), 2, 900..902);
        scratch.succeeds("evaluate run --data folder:two");
    }
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 7, 0..6);
    let fit = "fit --data folder:noise --input 3x16x16 --steps 5 --samples-per-class 6 --out run";
    let ended = scratch.succeeds(fit);
    let config = scratch.text("run/config.toml");
    assert!(config.contains("classes_per_batch = 7"), "{config}");
    assert!(config.contains("samples_per_class = 2"), "{config}");
    assert!(
        ended.stderr.contains("in_batch.samples_per_class"),
        "{}",
        ended.stderr
    );
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 2, 0..3);
    let fit = "fit --data folder:noise --input 3x16x16 --steps 5 --out run";
    scratch.refuses(1, fit, &["pairing the", "data."]);
    // More false accepts than the pairs can show.
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 6, 0..10);
    let words = ["different dissimilar validation pairs", "data.validation"];
    scratch.refuses(2, &format!("{fit} --at far=0.001"), &words);
}

#[test]
fn a_run_without_a_test_says_what_its_figures_are() {
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 4, 0..12);
    let ended = scratch.succeeds(&format!("{NOISE} --set data.test=0"));
    assert!(
        ended.stderr.contains("no images to test on"),
        "{}",
        ended.stderr
    );
    let summary = scratch.json("run/summary.json");
    assert_eq!(summary["images"]["test"], 0);
    assert!(
        summary["notes"][0]
            .as_str()
            .unwrap()
            .contains("they flatter"),
        "{summary}"
    );
    assert!(scratch.text("run/report.html").contains("they flatter"));
    assert_eq!(summary["intervals"]["resampled"], "images");

    patterns(&scratch.path("more"), 12, 8);
    let fit = NOISE.replace("3x16x16", "1x16x16");
    let fit = fit.replace("folder:noise --", "folder:more --split classes --");
    let fit = fit.replace("--out run", "--out new --quiet");
    scratch.succeeds(&format!("{fit} --set data.test=0"));
    let summary = scratch.json("new/summary.json");
    assert_eq!(summary["tested_on"]["kind"], "validation");
    assert_eq!(summary["intervals"]["resampled"], "classes");
}

#[test]
fn a_run_starts_from_another_ones_weights() {
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 4, 0..12);
    scratch.succeeds(&format!("{NOISE} --quiet"));
    scratch.refuses(2, "fit --resume run", &["--init run"]);
    let fit = NOISE.replace(
        "--out run",
        "--init run --out next --quiet --learning-rate 1e-30",
    );
    scratch.succeeds(&format!("{fit} --steps 1"));
    let weights = |run: &str| {
        let bytes = scratch.read(&format!("{run}/model.safetensors"));
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(weights("run") == weights("next"));
    let ended = scratch.succeeds(&format!(
        "{} --steps 1 --embedding 3",
        fit.replace("next", "other").replace("--quiet", "")
    ));
    assert!(
        ended
            .stderr
            .contains("feat.weight, feat.bias, which start anew"),
        "{}",
        ended.stderr
    );
    scratch.refuses(
        1,
        &fit.replace("--init run", "--init nowhere"),
        &["first weights", "nowhere"],
    );
    // A run that is resumed has weights of its own.
    fs::remove_file(scratch.path("next/summary.json")).unwrap();
    fs::rename(scratch.path("run"), scratch.path("away")).unwrap();
    scratch.succeeds("fit --resume next --quiet");
    fs::rename(scratch.path("away"), scratch.path("run")).unwrap();
    // What the first run was trained on is not tested on now, whatever the seed.
    let fit = fit.replace("next", "third");
    scratch.succeeds(&format!("{fit} --seed 9"));
    let part = |run: &str, name: &str| {
        let rows = scratch.text(&format!("{run}/data.csv"));
        let row = rows.lines().find(|row| row.contains(name)).unwrap();
        row.split(',').next().unwrap().to_string()
    };
    for i in 0..12 {
        let name = format!("class2/{i}.png");
        assert_eq!(part("run", &name), part("third", &name), "{name}");
    }
}

#[test]
fn evaluations_take_a_small_share_of_a_run() {
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 4, 0..12);
    let fit = NOISE.replace("--out run", "--quiet --steps 100");
    let evaluations = |run: &str, flags: &str| {
        scratch.succeeds(&format!("{fit} {flags} --out {run}"));
        let metrics = scratch.text(&format!("{run}/metrics.jsonl"));
        metrics
            .lines()
            .filter(|line| line.contains("validation_auc"))
            .count()
    };
    // An epoch is a step.
    assert_eq!(evaluations("run", "--set training.evaluate_every=0"), 5);
    assert_eq!(evaluations("often", "--set training.evaluate_every=10"), 10);
}

#[test]
fn on_new_classes_the_best_weights_are_kept_and_training_ends_when_nothing_improves() {
    let scratch = Scratch::new();
    noise(&scratch.path("noise"), 15, 0..6);
    let fit = NOISE.replace("--out run", "--steps 400 --set training.evaluate_every=5");
    let fit = format!("{fit} --set training.patience=4 --set training.refit=false");
    let ended = scratch.succeeds(&format!("{fit} --set training.weights=best --out run"));
    assert!(
        ended.stderr.contains("no better for 4 evaluations"),
        "{}",
        ended.stderr
    );
    let summary = scratch.json("run/summary.json");
    let (steps, kept) = (&summary["steps"], &summary["weights_of_step"]);
    let [steps, kept] = [steps, kept].map(|step| step.as_u64().unwrap());
    assert_eq!(steps, kept + 20, "{summary}");
    let best = scratch
        .text("run/metrics.jsonl")
        .lines()
        .filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            Some((
                line.get("validation_auc")?.as_f64()?,
                line["step"].as_u64()?,
            ))
        })
        .fold(
            (0.0, 0),
            |best, found| if found.0 >= best.0 { found } else { best },
        );
    assert_eq!(best.1, kept);
    // A run that is resumed before its end comes to the same one.
    fs::remove_file(scratch.path("run/summary.json")).unwrap();
    let model = scratch.read("run/model.safetensors");
    fs::remove_file(scratch.path("run/model.safetensors")).unwrap();
    scratch.succeeds("fit --resume run --quiet");
    assert!(scratch.read("run/model.safetensors") == model);
    // What is best of noise is best by chance, so the last weights are as good.
    scratch.succeeds(&format!("{fit} --out auto --quiet"));
    let auto = scratch.json("auto/summary.json");
    assert_eq!(auto["steps"], steps);
    assert_eq!(auto["weights_of_step"], steps);
}
