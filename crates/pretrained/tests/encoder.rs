//! Encoders of a few numbers each, whose features are known by hand.
#![cfg(feature = "onnx")]

mod onnx;

use std::fs;
use std::path::Path;

use data::{Filter, ImageShape, LabelledImages, Resize};
use onnx::{MEANS, onnx, with_weights};
use pretrained::{Cache, ColourOrder, Encoder, Preprocessing, PretrainedError, Record};

/// Pictures of 2x2, normalised to (byte − 100) / (50, 25, 10).
fn preprocessing() -> Preprocessing {
    Preprocessing {
        size: [2, 2],
        resize: Resize::Shorter(2),
        interpolation: Filter::Bilinear,
        scale: 0.01,
        mean: [1.0; 3],
        std: [0.5, 0.25, 0.1],
        colours: ColourOrder::Rgb,
    }
}

fn encoder() -> Encoder {
    let onnx = onnx(MEANS, &[1, 3, 2, 2], &["features"]);
    Encoder::new("small.onnx", &onnx, preprocessing(), "").unwrap()
}

/// Red 100 to 200, green 150, blue 90: means 150, 150 and 90.
const PIXELS: [u8; 12] = [100, 200, 100, 200, 150, 150, 150, 150, 90, 90, 90, 90];

fn assert_near(found: &[f32], expected: &[f32]) {
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
    let all = found.len() == expected.len() && found.iter().zip(expected).all(near);
    assert!(all, "{found:?}, not {expected:?}");
}

#[test]
fn features_are_those_of_the_normalised_picture() {
    let encoder = encoder();
    assert_eq!(encoder.dimension(), 4);
    // (1.5 − 1) / 0.5, (1.5 − 1) / 0.25, (0.9 − 1) / 0.1, and their sum.
    let features = encoder.features(&PIXELS).unwrap();
    assert_near(&features, &[1.0, 2.0, -1.0, 2.0]);
}

#[test]
fn colours_are_given_in_the_order_that_the_encoder_takes() {
    let preprocessing = Preprocessing {
        colours: ColourOrder::Bgr,
        ..preprocessing()
    };
    let onnx = onnx(MEANS, &[0, 3, 0, 0], &["features"]);
    let encoder = Encoder::new("small.onnx", &onnx, preprocessing, "").unwrap();
    // Blue first: (0.9 − 1) / 0.5, (1.5 − 1) / 0.25, (1.5 − 1) / 0.1.
    let features = encoder.features(&PIXELS).unwrap();
    assert_near(&features, &[-0.2, 2.0, 5.0, 6.8]);
}

#[test]
fn a_map_of_one_place_is_a_row_of_features() {
    let onnx = onnx(&MEANS[..1], &[1, 3, 2, 2], &["means"]);
    let encoder = Encoder::new("small.onnx", &onnx, preprocessing(), "").unwrap();
    assert_near(&encoder.features(&PIXELS).unwrap(), &[1.0, 2.0, -1.0]);
}

#[test]
fn one_of_several_outputs_is_chosen_by_its_name() {
    let onnx = onnx(MEANS, &[1, 3, 2, 2], &["features", "flat"]);
    let new = |output| Encoder::new("small.onnx", &onnx, preprocessing(), output);
    let features = new("flat").unwrap().features(&PIXELS).unwrap();
    assert_near(&features, &[1.0, 2.0, -1.0]);
    assert_eq!(new("features").unwrap().dimension(), 4);
    for wrong in ["", "other"] {
        let error = new(wrong).unwrap_err().to_string();
        assert!(
            error.contains("features, flat: name one with pretrained.output"),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_is_no_encoder_is_refused_with_the_reason() {
    let dims: &[u64] = &[1, 3, 2, 2];
    let cases = [
        (b"no protobuf".to_vec(), "cannot be read as an ONNX file"),
        (
            onnx(
                &[("Frobnicate", &["pixels"], "features")],
                dims,
                &["features"],
            ),
            "operators that are not supported: Frobnicate;",
        ),
        (
            onnx(MEANS, &[1, 3, 4, 4], &["features"]),
            "takes (1, 3, 4, 4) of f32",
        ),
        (
            onnx(MEANS, &[0, 0, 0, 3], &["features"]),
            "takes (?, ?, ?, 3) of f32",
        ),
        (
            onnx(MEANS, &[8, 3, 2, 2], &["features"]),
            "takes (8, 3, 2, 2) of f32",
        ),
        (
            onnx(MEANS, &[3, 2, 2], &["features"]),
            "takes (3, 2, 2) of f32",
        ),
        (
            onnx(&[("Relu", &["pixels"], "features")], dims, &["features"]),
            "gives [1, 3, 2, 2] for one picture, and not (1, F)",
        ),
        (
            with_weights(MEANS, dims, &["features"], &[f32::NAN, 1.0, 1.0]),
            "features that are not finite: NaN at place 0",
        ),
    ];
    for (onnx, words) in cases {
        let error = Encoder::new("small.onnx", &onnx, preprocessing(), "").unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("the pretrained trunk small.onnx "),
            "{error}"
        );
        assert!(error.contains(words), "{error}, not {words}");
    }
    let missing = Encoder::open(Path::new("no/such.onnx"), preprocessing(), "").unwrap_err();
    assert!(matches!(missing, PretrainedError::File { .. }), "{missing}");
}

/// Images filled with a value, the first and the last alike.
fn images(values: [u8; 4]) -> LabelledImages {
    let shape = ImageShape::try_from([3, 2, 2]).unwrap();
    let pixels = values.iter().flat_map(|&value| [value; 12]).collect();
    LabelledImages::new(shape, pixels, vec![0; 4], vec!["x".into()]).unwrap()
}

#[test]
fn features_are_computed_once_for_each_picture_trunk_and_preprocessing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Some(folder.path());
    let encode = |encoder: &Encoder, images: &LabelledImages| {
        let mut cache = Cache::open(folder, encoder);
        let encoded = encoder.encode(images, &mut cache, &|_, _| ()).unwrap();
        assert!(cache.problem().is_none());
        (encoded, cache.computed())
    };
    let (encoded, computed) = encode(&encoder(), &images([100, 150, 200, 100]));
    assert_eq!(computed, 3, "two are alike");
    assert_eq!(encoded.feature_dimension(), Some(4));
    assert_near(encoded.features(1).unwrap(), &[1.0, 2.0, 5.0, 8.0]);
    assert_eq!(encoded.features(0), encoded.features(3));
    let (again, computed) = encode(&encoder(), &images([100, 150, 200, 100]));
    assert_eq!(computed, 0);
    assert_eq!(again.features(1), encoded.features(1));
    let (changed, computed) = encode(&encoder(), &images([100, 150, 201, 100]));
    assert_eq!(computed, 1);
    assert_eq!(changed.features(1), encoded.features(1));
    let other = Preprocessing {
        mean: [0.5; 3],
        ..preprocessing()
    };
    let small = onnx(MEANS, &[1, 3, 2, 2], &["features"]);
    let other = Encoder::new("small.onnx", &small, other, "").unwrap();
    assert_eq!(encode(&other, &images([100, 150, 200, 100])).1, 3);
    let trunk = onnx(MEANS, &[0, 3, 2, 2], &["features"]);
    let trunk = Encoder::new("small.onnx", &trunk, preprocessing(), "").unwrap();
    assert_eq!(encode(&trunk, &images([100, 150, 200, 100])).1, 3);
    assert_eq!(encode(&encoder(), &images([100, 150, 200, 201])).1, 0);
}

#[test]
fn a_cache_that_is_damaged_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = encoder();
    let computed = || {
        let mut cache = Cache::open(Some(folder.path()), &encoder);
        let images = images([1, 2, 3, 4]);
        encoder.encode(&images, &mut cache, &|_, _| ()).unwrap();
        (cache.computed(), cache.path().unwrap().to_path_buf())
    };
    let (_, path) = computed();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(computed().0, 4);
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn a_trunk_is_found_again_and_told_from_another() {
    let folder = tempfile::tempdir().unwrap();
    let [beside, trained] =
        ["model/small.onnx", "trained/small.onnx"].map(|p| folder.path().join(p));
    let (beside, trained) = (beside.as_path(), trained.as_path());
    for path in [beside, trained] {
        fs::create_dir(path.parent().unwrap()).unwrap();
    }
    let bytes = onnx(MEANS, &[1, 3, 2, 2], &["features"]);
    fs::write(trained, &bytes).unwrap();
    let encoder = Encoder::open(trained, preprocessing(), "").unwrap();
    let record = encoder.record(trained, vec![3.0, 4.0]);
    assert_eq!(
        (&*record.name, record.length),
        ("small.onnx", bytes.len() as u64)
    );
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    let open = |embedded: Option<&[u8]>| record.open(beside.parent().unwrap(), embedded);
    let error = |embedded| open(embedded).unwrap_err().to_string();
    assert_eq!(open(None).unwrap().dimension(), 4);
    fs::rename(trained, beside).unwrap();
    assert_eq!(open(None).unwrap().dimension(), 4);
    let other = onnx(MEANS, &[0, 3, 2, 2], &["features"]);
    fs::write(beside, &other).unwrap();
    assert!(error(None).contains("is another file than the model's"));
    assert!(error(Some(&other)).contains("is another file than the model's"));
    assert!(open(Some(&bytes)).is_ok());
    fs::remove_file(beside).unwrap();
    assert!(error(None).contains("is missing"), "{}", error(None));
    assert!(error(None).contains(&record.sha256));
    // Of length 5: a thousandth is 0.005.
    assert!(record.check_probe(&[3.0, 4.004]).is_ok());
    for wrong in [&[3.0, 4.006][..], &[3.0], &[f32::NAN, 4.0]] {
        let error = record.check_probe(wrong).unwrap_err().to_string();
        assert!(error.contains("probe picture"), "{error}");
    }
}
