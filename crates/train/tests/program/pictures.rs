use image::GrayImage;
use image::imageops::{self, FilterType};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::scratch::Scratch;

/// The `nth` test image of `class`, light on dark.
pub fn digit(class: u32, nth: usize) -> GrayImage {
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
    pub fn save(&self, name: &str, picture: &GrayImage) {
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
fn a_different_pair_has_an_exit_code_where_asked() {
    let scratch = Scratch::with_run();
    scratch.save("a.png", &digit(0, 0));
    scratch.save("b.png", &digit(1, 0));
    for (flags, code) in [("", 0), ("--exit-code", 3)] {
        let ended = scratch.train(&format!("verify run a.png b.png --threshold 0 {flags}"));
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stdout.starts_with("different:"), "{}", ended.stdout);
    }
    scratch.succeeds("verify run a.png a.png --exit-code");
}

#[test]
fn another_operating_point_moves_the_threshold() {
    let scratch = Scratch::with_run();
    scratch.save("a.png", &digit(0, 0));
    let verdict = |flags: &str| -> Value {
        let ended = scratch.succeeds(&format!("verify run a.png a.png --json {flags}"));
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let threshold = |flags: &str| verdict(flags)["threshold"].as_f64().unwrap();
    assert_eq!(threshold("--at accuracy"), threshold(""));
    // Of 200 different pairs, 10 and 100 may pass.
    assert!(threshold("--at far=0.05") < threshold("--at far=0.5"));
    let far = verdict("--at far=0.05")["far_at_threshold"]
        .as_f64()
        .unwrap();
    assert!(far <= 0.05 && far > 0.0, "{far}");
    let words = ["--at far=0.001", "10000 different pairs", "there are 200"];
    scratch.refuses(2, "verify run a.png a.png --at far=0.001", &words);
    scratch.refuses_usage("verify run a.png a.png --at best", &["far=RATE"]);
}

#[test]
fn a_list_of_pairs_is_judged_as_its_pairs_are() {
    let scratch = Scratch::with_run();
    std::fs::create_dir(scratch.path("faces")).unwrap();
    for class in 0..4 {
        for nth in 0..2 {
            scratch.save(&format!("faces/{class}-{nth}.png"), &digit(class, nth));
        }
    }
    let mut list = String::from("same,b,a\n");
    for class in 0..4 {
        let other = (class + 1) % 4;
        list += &format!("1,{class}-1.png,{class}-0.png\n0, {other}-0.png ,{class}-0.png\n");
    }
    scratch.write("pairs.csv", &list);
    let ended = scratch.succeeds("verify run --pairs pairs.csv --root faces");
    let rows: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!((rows.len(), rows[0]), (9, "a,b,same,distance,verdict"));
    let one = scratch.verify("faces/0-0.png", "faces/0-1.png");
    let cells: Vec<&str> = rows[1].split(',').collect();
    let distance: f64 = cells[3].parse().unwrap();
    assert!((distance - one["distance"].as_f64().unwrap()).abs() < 1e-5);
    assert_eq!(cells[4] == "same", one["same"] == true);
    let right = rows[1..].iter().filter(|row| {
        let cells: Vec<&str> = row.split(',').collect();
        (cells[2] == "1") == (cells[4] == "same")
    });
    let accuracy = format!("accuracy {:.2}%", 100.0 * right.count() as f64 / 8.0);
    assert!(ended.stderr.contains(&accuracy), "{}", ended.stderr);

    scratch.write("one-kind.csv", "a,b,same\n0-0.png,1-0.png,0\n");
    let ended = scratch.succeeds("verify run --pairs one-kind.csv --root faces");
    assert_eq!(ended.stdout.lines().count(), 2);
    assert!(ended.stderr.contains("no figures"), "{}", ended.stderr);

    scratch.write("faces/list.csv", "a,b\n0-0.png,1-0.png\n");
    scratch.succeeds("verify run --pairs faces/list.csv --out out/results.csv");
    assert_eq!(scratch.text("out/results.csv").lines().count(), 2);
}

#[test]
fn the_results_of_a_list_are_a_list_that_says_the_same() {
    let scratch = Scratch::with_run();
    std::fs::create_dir(scratch.path("faces")).unwrap();
    for (name, class, nth) in [("a", 4, 0), ("b", 4, 1), ("c", 9, 0)] {
        scratch.save(&format!("faces/{name}.png"), &digit(class, nth));
    }
    // At threshold 0 every verdict is `different`, so the truth is not the verdict.
    let judge = |list: &str, flags: &str| {
        scratch.succeeds(&format!(
            "verify run --pairs {list} --root faces --threshold 0 {flags}"
        ))
    };
    let known = "a,b,same\na.png,b.png,1\nb.png,c.png,0\nc.png,a.png,0\n";
    let unknown = "a,b\na.png,b.png\nb.png,c.png\n";
    for (list, header, truth) in [
        (
            known,
            "a,b,same,distance,verdict",
            [Some(true), Some(false)],
        ),
        (unknown, "a,b,distance,verdict", [None, None]),
    ] {
        scratch.write("pairs.csv", list);
        let first = judge("pairs.csv", "");
        assert!(first.stdout.starts_with(header), "{}", first.stdout);
        assert_eq!(
            first.stderr.contains("accuracy 50.00%"),
            truth[0].is_some(),
            "{}",
            first.stderr
        );
        judge("pairs.csv", "--out results.csv");
        let again = judge("results.csv", "");
        assert_eq!((again.stdout, again.stderr), (first.stdout, first.stderr));

        let lines = judge("results.csv", "--json").stdout;
        for (line, truth) in lines.lines().zip(truth) {
            let row: Value = serde_json::from_str(line).unwrap();
            assert_eq!(row.get("same").map(|same| same == true), truth, "{row}");
            assert_eq!(row["verdict"], "different");
        }
    }
}

#[test]
fn what_is_wrong_with_a_list_is_named() {
    let scratch = Scratch::with_run();
    scratch.save("a.png", &digit(0, 0));
    for (list, code, words) in [
        (
            "a,b\na.png,x.png\na.png,y.png\n",
            1,
            &["2 pictures", "x.png", "y.png"][..],
        ),
        (
            "a,b,same\na.png,a.png,1\na.png,a.png,maybe\n",
            2,
            &["line 3", "`maybe`"],
        ),
        ("a,b\na.png\n", 1, &["line: 2"]),
        ("a,b\na.png,\n", 2, &["line 2"]),
        ("left,right\na.png,a.png\n", 2, &["left,right", "a and b"]),
        ("a,b\n", 2, &["no pairs"]),
    ] {
        scratch.write("pairs.csv", list);
        scratch.refuses(code, "verify run --pairs pairs.csv", words);
    }
    scratch.refuses(1, "verify run --pairs none.csv", &["none.csv"]);
    scratch.refuses_usage("verify run a.png --pairs none.csv", &["--pairs"]);
    scratch.refuses_usage("verify run a.png", &["required"]);
}

#[test]
fn a_search_finds_the_picture_itself_first_and_keeps_its_index() {
    let scratch = Scratch::with_run();
    std::fs::create_dir_all(scratch.path("gallery/more")).unwrap();
    for class in 0..3 {
        scratch.save(&format!("gallery/{class}.png"), &digit(class, 0));
        scratch.save(&format!("gallery/more/{class}.png"), &digit(class, 1));
    }
    let search = "search run gallery/more/2.png --gallery gallery --index i.safetensors -k 2";
    let first = scratch.succeeds(&format!("{search} --json"));
    let found: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(found["neighbours"].as_array().unwrap().len(), 2);
    assert_eq!(found["neighbours"][0]["name"], "more/2.png");
    assert!(found["neighbours"][0]["distance"].as_f64().unwrap() < 1e-5);

    let again = scratch.succeeds(search);
    assert!(
        again
            .stderr
            .contains("6 pictures in gallery, 0 of them new"),
        "{}",
        again.stderr
    );
    scratch.save("gallery/new.png", &digit(9, 0));
    let again = scratch.succeeds(search);
    assert!(
        again
            .stderr
            .contains("7 pictures in gallery, 1 of them new"),
        "{}",
        again.stderr
    );

    scratch.write("i.safetensors", scratch.read("run/model.safetensors"));
    scratch.refuses(1, search, &["i.safetensors", "no gallery"]);
    scratch.refuses(
        1,
        "search run gallery/0.png --gallery nowhere",
        &["nowhere"],
    );
    scratch.write("gallery/torn.png", "no picture");
    scratch.refuses(
        1,
        "search run gallery/0.png --gallery gallery",
        &["torn.png"],
    );
    scratch.refuses_usage("search run gallery/0.png --gallery gallery -k 0", &["-k"]);
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
