use image::GrayImage;
use image::imageops::{self, FilterType};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::scratch::Scratch;

/// The `nth` test image of `class`, light on dark.
fn digit(class: u32, nth: usize) -> GrayImage {
    let (_, test) = data::digits().unwrap();
    let mut of_class = (0..test.len()).filter(|&i| test.labels()[i] == class);
    let image = of_class.nth(nth).unwrap();
    GrayImage::from_raw(28, 28, test.image(image).to_vec()).unwrap()
}

/// Dark ink on a white sheet, off its centre.
fn on_paper(digit: &GrayImage) -> GrayImage {
    let mut sheet = GrayImage::new(400, 300);
    let big = imageops::resize(digit, 224, 224, FilterType::Nearest);
    imageops::replace(&mut sheet, &big, 130, 20);
    imageops::invert(&mut sheet);
    sheet
}

impl Scratch {
    fn save(&self, name: &str, picture: &GrayImage) {
        picture.save(self.path(name)).unwrap();
    }

    fn verify(&self, first: &str, second: &str) -> Value {
        let ended = self.succeeds(&format!("verify run {first} {second} --json"));
        assert_eq!(ended.stderr, "");
        serde_json::from_str(&ended.stdout).unwrap()
    }

    fn distance(&self, first: &str, second: &str) -> f64 {
        self.verify(first, second)["distance"].as_f64().unwrap()
    }
}

#[test]
fn a_picture_is_at_no_distance_from_itself_and_the_same() {
    let scratch = Scratch::with_run();
    scratch.save("a.png", &on_paper(&digit(3, 0)));
    let ended = scratch.succeeds("verify run a.png a.png");
    assert!(
        ended.stdout.starts_with("the same: distance 0.0000,"),
        "{}",
        ended.stdout
    );
    assert!(ended.stderr.contains("a.png: inverted"), "{}", ended.stderr);

    let verdict = scratch.verify("a.png", "a.png");
    assert_eq!(verdict["same"], true);
    assert_eq!(verdict["distance"], 0.0);
    assert_eq!(
        verdict["threshold"],
        scratch.json("run/summary.json")["verification"]["threshold"]
    );
}

#[test]
fn a_digit_stays_where_it_is_when_drawn_dark_on_light_or_large_on_paper() {
    let scratch = Scratch::with_run();
    let (mut inverted, mut on_sheet, mut to_others) = (0.0, 0.0, 0.0);
    for class in 0..10 {
        let light = digit(class, 5);
        let mut dark = light.clone();
        imageops::invert(&mut dark);
        scratch.save("light.png", &light);
        scratch.save("dark.png", &dark);
        scratch.save("paper.png", &on_paper(&light));
        scratch.save("other.png", &digit((class + 1) % 10, 5));
        inverted += scratch.distance("light.png", "dark.png");
        on_sheet += scratch.distance("light.png", "paper.png");
        to_others += scratch.distance("light.png", "other.png");
    }
    assert_eq!(inverted, 0.0);
    assert!(on_sheet < to_others / 4.0, "{on_sheet} against {to_others}");
}

#[test]
fn the_verdict_goes_by_the_threshold() {
    let scratch = Scratch::with_run();
    scratch.save("a.png", &digit(0, 0));
    scratch.save("b.png", &digit(1, 0));
    let distance = scratch.distance("a.png", "b.png");
    assert!(distance > 0.0);
    for (factor, verdict) in [(0.99, "different:"), (1.01, "the same:")] {
        let threshold = factor * distance;
        let line = format!("verify run a.png b.png --threshold {threshold}");
        let ended = scratch.succeeds(&line);
        assert!(ended.stdout.starts_with(verdict), "{}", ended.stdout);
    }
}

#[test]
fn a_model_file_alone_is_enough_to_verify_with() {
    let scratch = Scratch::with_run();
    scratch.save("a.png", &digit(0, 0));
    scratch.save("b.png", &digit(1, 0));
    scratch.write("m.safetensors", scratch.read("run/model.safetensors"));
    let alone = scratch.succeeds("verify m.safetensors a.png b.png --json");
    let run = scratch.succeeds("verify run a.png b.png --json");
    assert_eq!(alone.stdout, run.stdout);
}

#[test]
fn embed_writes_the_embeddings_of_pictures_that_verify_compares() {
    let scratch = Scratch::with_run();
    scratch.save("a.png", &on_paper(&digit(4, 0)));
    scratch.save("b.png", &digit(9, 0));
    scratch.succeeds("embed run a.png b.png --out e.safetensors");
    let bytes = scratch.read("e.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("images").unwrap().shape(), [2, 1, 28, 28]);
    let found = floats(&file, "embeddings", &[2, 4]);
    let verdict = scratch.verify("a.png", "b.png");
    let expected: Vec<f32> = serde_json::from_value::<[Vec<f32>; 2]>(verdict["embeddings"].clone())
        .unwrap()
        .concat();
    assert_eq!(found, expected);
}

#[test]
fn embed_without_pictures_gives_the_test_images_as_embeddings_tsv_has_them() {
    let scratch = Scratch::with_run();
    scratch.succeeds("embed run --out e.safetensors");
    let bytes = scratch.read("e.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("images").unwrap().shape(), [2000, 1, 28, 28]);
    let found = floats(&file, "embeddings", &[2000, 4]);
    let table = scratch.text("run/embeddings.tsv");
    let expected: Vec<f32> = table
        .split_whitespace()
        .map(|value| value.parse().unwrap())
        .collect();
    assert_eq!(found, expected);
    let labels = file.tensor("labels").unwrap();
    let (_, test) = data::digits().unwrap();
    let expected: Vec<u8> = test.labels().iter().flat_map(|l| l.to_le_bytes()).collect();
    assert_eq!(
        (labels.shape(), labels.data()),
        (&[2000][..], &expected[..])
    );
}

fn floats(file: &SafeTensors, name: &str, shape: &[usize]) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.shape(), shape);
    let (values, rest) = tensor.data().as_chunks();
    assert!(rest.is_empty());
    values
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}
