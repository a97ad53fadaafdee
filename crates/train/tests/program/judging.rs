use std::fs;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::scratch::Scratch;

#[test]
fn evaluate_gives_the_figures_of_the_summary() {
    let scratch = Scratch::with_run();
    let printed = scratch.succeeds("evaluate run --json").stdout;
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let printed = printed.as_object().unwrap();
    let summary = scratch.json("run/summary.json");
    for figures in ["verification", "retrieval", "loss"] {
        assert!(printed.contains_key(figures), "{figures}");
    }
    for (name, value) in printed {
        assert_eq!(value, &summary[name], "{name}");
    }
}

#[test]
fn evaluate_tells_people_the_same_figures() {
    let scratch = Scratch::with_run();
    let table = scratch.succeeds("evaluate run").stdout;
    let summary = scratch.json("run/summary.json");
    let figure = |path: &str| summary.pointer(path).unwrap().as_f64().unwrap();
    for (name, value) in [
        (
            "pair accuracy",
            format!("{:.2}%", 100.0 * figure("/verification/accuracy")),
        ),
        ("ROC AUC", format!("{:.4}", figure("/verification/auc"))),
        (
            "P@1 among test images",
            format!("{:.2}%", 100.0 * figure("/retrieval/p_at_1")),
        ),
    ] {
        let row = table.lines().find(|row| row.starts_with(name)).unwrap();
        assert!(row.contains(&value), "{row} has no {value}");
    }
}

#[test]
fn evaluate_takes_another_operating_point_from_the_validation_pairs() {
    let scratch = Scratch::with_run();
    let judged = |point: &str| -> Value {
        let printed = scratch.succeeds(&format!("evaluate run --json{point}"));
        serde_json::from_str(&printed.stdout).unwrap()
    };
    let (own, strict) = (judged(""), judged(" --at far=0.1"));
    let figure = |of: &Value, path: &str| of.pointer(path).unwrap().as_f64().unwrap();
    let threshold = "/verification/threshold";
    assert_ne!(figure(&own, threshold), figure(&strict, threshold));
    assert_eq!(
        own.pointer("/verification/auc"),
        strict.pointer("/verification/auc")
    );
    // Of 200 different test pairs, at a threshold that lets a tenth of other pairs pass.
    let rate = |end: &str| figure(&strict, &format!("/verification/far/{end}"));
    assert!(rate("low") < 0.1 && 0.1 < rate("high") + 0.05, "{strict}");
    scratch.refuses(1, "evaluate run --at far=0.00001", &["different pairs"]);
    scratch.refuses_usage("evaluate run --at often", &["far="]);
}

#[test]
fn evaluate_takes_a_folder_in_mnists_format() {
    let scratch = Scratch::with_run();
    fs::create_dir(scratch.path("mnist")).unwrap();
    let (train, test) = data::digits().unwrap();
    for (set, images, count) in [("train", train, 60_000), ("t10k", test, 10_000)] {
        // The digits over and over.
        let many = |bytes: Vec<u8>, of_each: u32| {
            let length = (count * of_each) as usize;
            bytes.into_iter().cycle().take(length).collect::<Vec<u8>>()
        };
        let labels = images.labels().iter().map(|&label| label as u8).collect();
        let header = |magic: u8, sizes: &[u32]| {
            let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
            [0, 0, 8, magic]
                .into_iter()
                .chain(sizes)
                .collect::<Vec<u8>>()
        };
        let pixels = many(images.pixels().to_vec(), 784);
        scratch.write(
            &format!("mnist/{set}-images-idx3-ubyte"),
            [header(3, &[count, 28, 28]), pixels].concat(),
        );
        scratch.write(
            &format!("mnist/{set}-labels-idx1-ubyte"),
            [header(1, &[count]), many(labels, 1)].concat(),
        );
    }
    let printed = scratch
        .succeeds("evaluate run --data mnist:mnist --json")
        .stdout;
    let printed: Value = serde_json::from_str(&printed).unwrap();
    // Of five copies of a digit one is judged: the same test digits as the run's, and the same pairs.
    let summary = scratch.json("run/summary.json");
    assert_eq!(printed["retrieval"]["queries"], 2_000);
    for figure in ["/accuracy", "/auc", "/eer", "/far/errors", "/frr/errors"] {
        let figure = format!("/verification{figure}");
        assert_eq!(printed.pointer(&figure), summary.pointer(&figure));
    }
    // Other data may have other classes.
    let resampled = |figures: &Value| figures["intervals"]["resampled"].clone();
    assert_eq!(resampled(&printed), "classes");
    assert_eq!(resampled(&summary), "images");
}

#[test]
fn report_makes_the_same_page_again() {
    let scratch = Scratch::with_run();
    let page = scratch.read("run/report.html");
    scratch.write("run/report.html", "");
    let ended = scratch.succeeds("report run");
    assert_eq!(ended.stderr, "wrote run/report.html\n");
    assert!(scratch.read("run/report.html") == page);
}

#[test]
fn the_report_shows_what_train_preview_shows() {
    let scratch = Scratch::new();
    let run =
        "fit --config quick.toml --steps 2 --seed 3 --set transform.zoom=0.3 --out run --quiet";
    scratch.succeeds(run);
    let page = scratch.text("run/report.html");
    let (_, section) = page.split_once("<h2>What the network sees</h2>").unwrap();
    let (_, png) = section.split_once("data:image/png;base64,").unwrap();
    let (png, _) = png.split_once('"').unwrap();
    let shown = image::load_from_memory(&STANDARD.decode(png).unwrap()).unwrap();

    scratch.succeeds("preview --config run/config.toml --images 6 --copies 4 --out sheet.png");
    let sheet = image::load_from_memory(&scratch.read("sheet.png")).unwrap();
    // Digits are thrice as large on the sheet, and four pixels apart on both.
    let (shown, sheet) = (shown.to_luma8(), sheet.to_luma8());
    assert_eq!(shown.dimensions(), (5 * 32 - 4, 6 * 32 - 4));
    for (x, y, pixel) in shown.enumerate_pixels() {
        let [x, y] = [x, y].map(|at| at / 32 * 88 + (at % 32).min(28) * 3);
        assert_eq!(sheet.get_pixel(x, y), pixel);
    }
}
