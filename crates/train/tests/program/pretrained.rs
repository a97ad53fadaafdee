//! Runs whose trunk is an ONNX file: the mean of each colour, and their sum.

#[path = "../../../pretrained/tests/onnx/mod.rs"]
mod onnx;

use std::fs;

use onnx::{MEANS, onnx, with_weights};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::picture_folder::{assert_tells_apart, pictures};
use crate::scratch::Scratch;
#[cfg(unix)]
use crate::serving::Service;

const FIT: &str = "fit --config quick.toml --data folder:pictures --trunk onnx:trunk/means.onnx --out run --steps 60";

/// As timm writes it: pictures of 20x12 are scaled to 26x16, and 14x14 are cut from the middle.
const CONFIG: &str = r#"{"pretrained_cfg": {"input_size": [3, 14, 14], "crop_pct": 0.875,
    "interpolation": "bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}"#;

/// Pictures, and a trunk with its configuration beside it.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    pictures(&scratch);
    fs::create_dir(scratch.path("trunk")).unwrap();
    scratch.write(
        "trunk/means.onnx",
        onnx(MEANS, &[0, 3, 14, 14], &["features"]),
    );
    scratch.write("trunk/config.json", CONFIG);
    scratch
}

#[test]
fn a_head_is_trained_on_its_features_and_every_command_uses_it() {
    let scratch = scratch();
    let said = scratch.succeeds(FIT).stderr;
    assert!(said.contains("4 features of each picture"), "{said}");
    assert!(
        said.contains("60 computed and kept in trunk/means.features"),
        "{said}"
    );
    assert_tells_apart(&scratch);
    let page = scratch.text("run/report.html");
    assert!(page.contains("sees each training image as it is"));

    // The run itself says all that was read beside the trunk.
    let config: toml::Table = scratch.text("run/config.toml").parse().unwrap();
    assert_eq!(config["net"]["trunk"].as_str(), Some("onnx"));
    assert_eq!(config["net"]["input"], toml::Value::from(vec![3, 14, 14]));
    let pretrained = &config["pretrained"];
    assert_eq!(pretrained["file"].as_str(), Some("trunk/means.onnx"));
    assert_eq!(pretrained["resize"], toml::Value::from(vec![16]));
    assert_eq!(pretrained["interpolation"].as_str(), Some("bicubic"));

    // The model: a head on four features, and where they are from.
    let model = scratch.read("run/model.safetensors");
    let tensors = SafeTensors::deserialize(&model).unwrap();
    assert_eq!(tensors.tensor("ip1.weight").unwrap().shape(), [64, 4]);
    let (_, header) = SafeTensors::read_metadata(&model).unwrap();
    let header = header.metadata().clone().unwrap();
    let record: serde_json::Value = serde_json::from_str(&header["pretrained"]).unwrap();
    assert_eq!(record["name"], "means.onnx");
    assert_eq!(record["sha256"], pretrained["sha256"].as_str().unwrap());
    assert_eq!(record["probe"].as_array().unwrap().len(), 4);

    // The same figures from the features that were kept.
    let said = scratch.succeeds("evaluate run").stderr;
    assert!(
        said.contains("all taken from trunk/means.features"),
        "{said}"
    );
    let summary = scratch.json("run/summary.json");
    let again = scratch.succeeds("evaluate run --json").stdout;
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["auc"], summary["auc"]);
    scratch.succeeds("report run");

    scratch.succeeds("embed run pictures/red/1.png pictures/green/1.png --out two.safetensors");
    scratch.succeeds("embed run --out test.safetensors");
    let two = scratch.read("two.safetensors");
    let two = SafeTensors::deserialize(&two).unwrap();
    let embeddings = two.tensor("embeddings").unwrap();
    assert_eq!(
        (embeddings.dtype(), embeddings.shape()),
        (Dtype::F32, &[2, 4][..])
    );
    assert_eq!(two.tensor("images").unwrap().shape(), [2, 4, 1, 1]);

    let found =
        scratch.succeeds("search run pictures/red/1.png --gallery pictures --index index -k 2");
    assert!(
        found.stdout.contains("0.0000  the same   red/1.png"),
        "{}",
        found.stdout
    );
    let again =
        scratch.succeeds("search run pictures/red/1.png --gallery pictures --index index -k 2");
    assert!(
        again
            .stderr
            .contains("60 pictures in pictures, 0 of them new"),
        "{}",
        again.stderr
    );

    scratch.write(
        "pairs.csv",
        "a,b,same\nred/1.png,red/2.png,1\nred/1.png,green/2.png,0\n",
    );
    scratch.succeeds("verify run --pairs pairs.csv --root pictures");

    #[cfg(unix)]
    {
        let service = Service::start(&scratch, "");
        let [a, b] = ["red/1.png", "green/1.png"].map(|name| scratch.path("pictures").join(name));
        let (status, answer) = service.post("/verify", &[("a", &a), ("b", &b)]);
        assert_eq!(
            (&*status, &answer["same"]),
            ("200", &false.into()),
            "{answer}"
        );
        assert_eq!(service.stop().0, Some(0));
    }
}

#[test]
fn a_model_finds_its_trunk_or_says_what_is_wrong_with_it() {
    let scratch = scratch();
    scratch.succeeds(&format!("{FIT} --quiet"));
    let verify = "verify run pictures/red/1.png pictures/red/2.png";
    let trunk = scratch.read("trunk/means.onnx");
    fs::remove_dir_all(scratch.path("trunk")).unwrap();
    scratch.refuses(
        1,
        verify,
        &[
            "means.onnx is missing",
            "run/means.onnx",
            "beside the model",
        ],
    );
    scratch.write("run/means.onnx", &trunk);
    assert_tells_apart(&scratch);
    let mut other = onnx::WEIGHTS;
    other[0] = 1.01;
    let other = with_weights(MEANS, &[0, 3, 14, 14], &["features"], &other);
    scratch.write("run/means.onnx", other);
    scratch.refuses(
        1,
        verify,
        &["means.onnx is another file than the model's", "SHA-256"],
    );
    scratch.write("run/means.onnx", &trunk);

    // A file that names the right trunk and does not give what it gave.
    let model = scratch.read("run/model.safetensors");
    let probe = b"\\\"probe\\\":[";
    let mut places = model.windows(probe.len());
    let at = places.position(|window| window == probe).unwrap() + probe.len();
    let digit = at
        + model[at..]
            .iter()
            .position(|byte| (b'1'..b'9').contains(byte))
            .unwrap();
    let mut changed = model.clone();
    changed[digit] += 1;
    scratch.write("run/model.safetensors", changed);
    scratch.refuses(1, verify, &["the embedding of the probe picture is off by"]);
}

#[test]
fn an_embedded_trunk_needs_no_file_and_stays_embedded() {
    let scratch = scratch();
    scratch.succeeds(&format!("{FIT} --quiet --embed-trunk --cache kept"));
    assert!(scratch.path("kept").is_dir() && !scratch.path("trunk/means.features").exists());
    let trunk = scratch.read("trunk/means.onnx");
    fs::remove_dir_all(scratch.path("trunk")).unwrap();
    assert_tells_apart(&scratch);
    scratch.succeeds("evaluate run --quiet");
    // Of images that it was not trained on.
    fs::create_dir(scratch.path("new")).unwrap();
    for (name, from) in [
        ("a", "red/1"),
        ("b", "red/2"),
        ("c", "green/1"),
        ("d", "green/2"),
    ] {
        let picture = image::open(scratch.path(&format!("pictures/{from}.png"))).unwrap();
        let picture = picture.brighten(7).to_rgb8();
        picture
            .save(scratch.path(&format!("new/{name}.png")))
            .unwrap();
    }
    scratch.write(
        "pairs.csv",
        "a,b,same\na.png,b.png,1\nc.png,d.png,1\na.png,c.png,0\nb.png,d.png,0\n",
    );
    scratch.succeeds("calibrate run --pairs pairs.csv --root new --at eer");
    let model = scratch.read("run/model.safetensors");
    let tensors = SafeTensors::deserialize(&model).unwrap();
    assert_eq!(tensors.tensor("trunk.onnx").unwrap().data(), trunk);
}

#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_bits() {
    let scratch = scratch();
    scratch.succeeds(&format!("{FIT} --quiet"));
    let whole = scratch.read("run/model.safetensors");
    fs::rename(scratch.path("run"), scratch.path("whole")).unwrap();
    scratch.succeeds(&format!(
        "{FIT} --quiet --set training.checkpoint_seconds=0"
    ));
    let checkpoints = scratch.path("run/checkpoints");
    // As a run is that was killed before its last steps.
    for file in [
        "summary.json",
        "model.safetensors",
        "checkpoints/step-00000060.safetensors",
    ] {
        fs::remove_file(scratch.path("run").join(file)).unwrap();
    }
    assert!(fs::read_dir(&checkpoints).unwrap().count() > 1);
    // All that is needed of what lay beside the trunk is in the run.
    fs::remove_file(scratch.path("trunk/config.json")).unwrap();
    scratch.succeeds("fit --resume run --quiet");
    assert!(scratch.read("run/model.safetensors") == whole);

    fs::remove_file(scratch.path("run/summary.json")).unwrap();
    let other = onnx(MEANS, &[1, 3, 14, 14], &["features"]);
    scratch.write("trunk/means.onnx", other);
    scratch.refuses(
        2,
        "fit --resume run",
        &["pretrained.sha256", "another file"],
    );
}

#[test]
fn what_cannot_be_trained_with_is_refused() {
    let scratch = scratch();
    let refuses = |code, from: &str, to: &str, words: &[&str]| {
        let line = FIT.replacen(from, to, 1);
        assert_ne!(line, FIT);
        scratch.refuses(code, &line, words);
    };
    refuses(
        2,
        "means.onnx",
        "none.onnx",
        &["trunk/none.onnx is missing"],
    );
    refuses(2, "onnx:trunk/means.onnx", "onnx", &["--trunk onnx:FILE"]);
    refuses(2, "folder:pictures", "digits", &["--data folder:DIR"]);
    scratch.write(
        "trunk/means.onnx",
        onnx(&[("Frobnicate", &["pixels"], "y")], &[0, 3, 14, 14], &["y"]),
    );
    scratch.refuses(1, FIT, &["operators that are not supported: Frobnicate"]);
}

#[test]
fn settings_without_effect_are_refused_and_others_stand_above_the_file() {
    let scratch = scratch();
    let refuses = |flags: &str, words: &[&str]| {
        scratch.refuses(2, &format!("{FIT} {flags}"), words);
    };
    refuses(
        "--set transform.shift=1",
        &["transform.shift has no effect with --trunk onnx:FILE"],
    );
    refuses("--input 3x28x28", &["net.input has no effect"]);
    refuses(
        "--set pretrained.interpolation=cubic",
        &["pretrained.interpolation", "bicubic"],
    );
    refuses("--set pretrained.size=[1,2,3]", &["pretrained.size"]);
    scratch.refuses(
        2,
        "fit --embed-trunk",
        &["pretrained.embed applies to --trunk onnx:FILE only"],
    );
    let wide = scratch.train(&format!("{FIT} --set pretrained.resize=[12,40]"));
    assert!(
        wide.stderr.contains("pictures are scaled to 12x40"),
        "{}",
        wide.stderr
    );
    scratch.write("trunk/config.json", CONFIG.replace("bicubic", "random"));
    let random = scratch.train(FIT);
    assert!(
        random.stderr.contains("trunk/config.json: `interpolation`"),
        "{}",
        random.stderr
    );
    fs::remove_file(scratch.path("trunk/config.json")).unwrap();
    let unknown = scratch.train(FIT).stderr;
    assert!(
        unknown.contains("size, resize, interpolation, mean, std missing"),
        "{unknown}"
    );
    let settings = "--set pretrained.size=[14] --set pretrained.resize=[16] \
        --set pretrained.interpolation=bicubic --set pretrained.mean=[0.5,0.5,0.5] \
        --set pretrained.std=[0.25,0.25,0.25]";
    scratch.succeeds(&format!("{FIT} --quiet {settings}"));
    assert_tells_apart(&scratch);
}
