use std::fs;

use image::{Rgb, RgbImage};
use serde_json::json;

use crate::scratch::Scratch;

/// Two classes of 30 pictures each, 20x12 pixels: red and green blocks on white, no two alike.
pub fn pictures(scratch: &Scratch) {
    pictures_from(scratch, 0);
}

fn pictures_from(scratch: &Scratch, first: u32) {
    for (class, colour) in [("green", [0, 200, 0]), ("red", [200, 0, 0])] {
        let folder = scratch.path("pictures").join(class);
        fs::create_dir_all(&folder).unwrap();
        for i in first..first + 30 {
            let picture = RgbImage::from_fn(20, 12, |x, y| match x >= i % 8 && y >= i % 5 {
                true => Rgb([colour[0], colour[1], i as u8]),
                false => Rgb([255; 3]),
            });
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
}

/// That the run's model calls two red pictures the same, and a red and a green one different.
pub fn assert_tells_apart(scratch: &Scratch) {
    let verdict = |other: &str| {
        let pictures = format!("pictures/red/1.png pictures/{other}");
        scratch.succeeds(&format!("verify run {pictures}")).stdout
    };
    assert!(verdict("red/2.png").starts_with("the same"));
    assert!(verdict("green/1.png").starts_with("different"));
}

const FIT: &str = "fit --config quick.toml --data folder:pictures --input 3x16x16 --out run";

#[test]
fn a_folder_of_pictures_is_trained_on_and_its_model_tells_them_apart() {
    let scratch = Scratch::new();
    pictures(&scratch);
    scratch.write("pictures/red/broken.png", "no picture");
    scratch.refuses(1, FIT, &["broken.png", "1 of 61", "--skip-corrupt"]);
    assert!(!scratch.path("run").exists());

    scratch.succeeds(&format!(
        "{FIT} --skip-corrupt --set data.store=disk --steps 60 --quiet"
    ));
    let images = &scratch.json("run/summary.json")["images"];
    assert_eq!(*images, json!({"train": 41, "validation": 5, "test": 14}));

    assert_tells_apart(&scratch);
}

#[test]
fn a_residual_trunk_learns_and_its_model_says_what_it_is() {
    let scratch = Scratch::new();
    pictures(&scratch);
    let fit = FIT.replace("--config quick.toml ", "--set data.evaluation_pairs=100 ");
    // Colours are all that tells these classes apart, and few steps have to do.
    let layers = "--trunk small-resnet --set net.channels=[4,8] --set transform.hue=0 \
                  --set transform.saturation=0 --set transform.brightness=0 --set transform.contrast=0";
    scratch.succeeds(&format!(
        "{fit} {layers} --loss pairs --batch 8 --steps 60 --quiet"
    ));
    assert_tells_apart(&scratch);

    let printed = scratch
        .succeeds("fit --trunk small-resnet --print-config")
        .stdout;
    let config: toml::Table = printed.parse().unwrap();
    assert_eq!(
        config["net"]["channels"],
        toml::Value::try_from([32, 64, 128]).unwrap()
    );
    scratch.refuses(2, "fit --trunk vgg", &["lenet", "small-resnet", "conv4"]);
    scratch.refuses(
        2,
        "fit --set net.channels=[1,2,3]",
        &["LeNet has two convolutions"],
    );
}

#[test]
fn a_trunk_brings_its_own_norm_unless_another_is_asked_for() {
    let scratch = Scratch::new();
    scratch.write("older.toml", "[net]\ntrunk = \"small-resnet\"");
    for (flags, expected) in [
        ("", "none"),
        ("--norm group", "group"),
        ("--config older.toml", "none"),
        ("--trunk conv4", "group"),
        ("--trunk conv4 --norm none", "none"),
        ("--config older.toml --trunk conv4", "group"),
    ] {
        let printed = scratch.succeeds(&format!("fit {flags} --print-config"));
        let config: toml::Table = printed.stdout.parse().unwrap();
        let norm = config["net"]["norm"].as_str();
        assert_eq!(norm, Some(expected), "{flags}");
    }
    scratch.refuses(2, "fit --norm batch", &["batch", "`none`", "`group`"]);
    let one_number = "fit --trunk conv4 --set net.channels=[64,64,64,8]";
    scratch.refuses(2, one_number, &["net", "norm is group", "single pixel"]);
}

#[test]
fn a_folder_may_test_on_classes_that_it_does_not_train_on() {
    let scratch = Scratch::new();
    pictures(&scratch);
    fs::rename(scratch.path("pictures"), scratch.path("train")).unwrap();
    pictures_from(&scratch, 30);
    for (part, to) in [("train", "train"), ("pictures", "test")] {
        for class in ["green", "red"] {
            let new = scratch
                .path("split")
                .join(to)
                .join(format!("{class} of {to}"));
            fs::create_dir_all(new.parent().unwrap()).unwrap();
            fs::rename(scratch.path(part).join(class), new).unwrap();
        }
    }
    let fit = FIT.replace("folder:pictures", "folder:split");
    scratch.succeeds(&format!("{fit} --steps 20 --quiet"));
    let summary = scratch.json("run/summary.json");
    assert_eq!(summary["images"]["test"], json!(60));
    assert_eq!(summary["classes"]["trained"], json!(2));
    assert_eq!(summary.get("p_at_1_against_training"), None);
    // Colours are told apart without an error, of few pairs: Wilson's interval has a width.
    assert_eq!(summary["verification"]["auc"], json!(1.0));
    let low = summary["intervals"]["auc"]["low"].as_f64().unwrap();
    assert!(low < 1.0, "{summary}");
}

#[test]
fn an_input_that_no_network_takes_is_refused() {
    let scratch = Scratch::new();
    pictures(&scratch);
    scratch.refuses_usage("fit --input 64x64", &["3x64x64"]);
    for (input, word) in [("2x64x64", "net.input"), ("3x8x8 --trunk lenet", "16×16")] {
        scratch.refuses(
            2,
            &format!("fit --data folder:pictures --input {input}"),
            &[word],
        );
    }
    scratch.refuses(2, "fit --input 3x28x28", &["net.input"]);
}

/// Grey files laid out as a dozen classes of four: black strokes on white, or shades.
fn grey_classes(scratch: &Scratch, drawings: bool) {
    for class in 0..12u32 {
        let folder = scratch.path("grey").join(format!("class{class:02}"));
        fs::create_dir_all(&folder).unwrap();
        for copy in 0..4u32 {
            let picture = image::GrayImage::from_fn(24, 24, |x, y| {
                let stroke = x == 4 + class || y == 6 + 2 * copy;
                image::Luma([match (drawings, stroke) {
                    (true, true) => 0,
                    (true, false) => 255,
                    (false, _) => (40 + 7 * class + 3 * x + copy * y) as u8,
                }])
            });
            picture.save(folder.join(format!("{copy}.png"))).unwrap();
        }
    }
}

#[test]
fn a_folder_brings_its_own_recipe_and_the_pictures_decide_the_rest() {
    for (drawings, turns) in [(true, "both"), (false, "none")] {
        let scratch = Scratch::new();
        grey_classes(&scratch, drawings);
        let fit = "fit --data folder:grey --steps 1 --set data.evaluation_pairs=100 --out";
        scratch.succeeds(&format!("{fit} run"));
        let config: toml::Table = scratch.text("run/config.toml").parse().unwrap();
        let (net, data) = (&config["net"], &config["data"]);
        assert_eq!(net["trunk"].as_str(), Some("small-resnet"));
        assert_eq!(net["norm"].as_str(), Some("group"));
        let input = |config: &toml::Table| config["net"]["input"].to_string();
        assert_eq!(input(&config), "[1, 32, 32]");
        assert_eq!(data["turns"].as_str(), Some(turns));
        assert_eq!(config["loss"]["kind"].as_str(), Some("in-batch"));
        assert_eq!(
            config["in_batch"]["samples_per_class"].as_integer(),
            Some(4)
        );
        // What is asked for stays, and Caffe's network and loss with its preset.
        scratch.succeeds(&format!("{fit} asked --input 3x32x32 --turns none"));
        let asked: toml::Table = scratch.text("asked/config.toml").parse().unwrap();
        assert_eq!(input(&asked), "[3, 32, 32]");
        assert_eq!(asked["data"]["turns"].as_str(), Some("none"));
        scratch.succeeds(&format!("{fit} caffe --preset caffe --batch 8"));
        let caffe: toml::Table = scratch.text("caffe/config.toml").parse().unwrap();
        assert_eq!(caffe["net"]["trunk"].as_str(), Some("lenet"));
        assert_eq!(caffe["loss"]["kind"].as_str(), Some("pairs"));
    }
}

/// A run of before there was a recipe for folders has no key of it.
#[test]
fn the_configuration_of_an_older_run_gets_nothing_of_the_recipe() {
    let scratch = Scratch::new();
    grey_classes(&scratch, true);
    let fit = "fit --steps 1 --out";
    let older = "--data folder:grey --loss pairs --trunk lenet --norm none --turns none --head none \
                 --batch 8 --set data.evaluation_pairs=100";
    scratch.succeeds(&format!("{fit} run {older}"));
    let text = scratch.text("run/config.toml");
    let is_new = |line: &&str| {
        ["norm", "turns", "head", "grid", "every_stage"]
            .iter()
            .any(|key| line.starts_with(&format!("{key} =")))
    };
    let kept: Vec<&str> = text.lines().filter(|line| !is_new(line)).collect();
    assert_eq!(text.lines().count() - kept.len(), 5, "{text}");
    scratch.write("run/config.toml", kept.join("\n"));
    scratch.succeeds(&format!("{fit} again --config run/config.toml"));
    assert_eq!(scratch.text("again/config.toml"), text);
}
