//! A verifier's verdicts, embeddings and errors.

mod network;

use std::sync::Arc;
use std::thread;

use data::Picture;
use model::{ModelFile, Network, NetworkConfig, Pretrained, Trunk, weights};
use network::{file, net, verifier};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use verifier::{Device, Embeddings, Gallery, OperatingPoint, Verifier, VerifierError};

fn pictures(count: usize) -> Vec<Picture> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let picture = |_| Picture {
        pixels: (0..784).map(|_| rng.random()).collect(),
        treatment: Vec::new(),
    };
    (0..count).map(picture).collect()
}

#[test]
fn it_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Verifier>();
    shared::<Gallery>();
}

#[test]
fn a_run_folder_and_its_model_file_are_the_same_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let net = net(1);
    let file = file(net.config().clone());
    std::fs::write(&path, weights::to_bytes(&net, &file).unwrap()).unwrap();

    let pictures = pictures(2);
    let expected = verifier(1).embed(&pictures).unwrap();
    for place in [folder.path(), &path] {
        let opened = Verifier::open(place, &Device::Cpu).unwrap();
        assert_eq!(opened.embed(&pictures).unwrap(), expected);
        assert_eq!(opened.model(), &file);
    }
}

#[test]
fn what_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Verifier::open(folder.path(), &Device::Cpu).unwrap_err();
    assert!(matches!(error, VerifierError::NoModel { .. }), "{error}");
    let missing = folder.path().join("m.safetensors");
    let error = Verifier::open(&missing, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("m.safetensors"), "{error}");

    let mut file = file(net(1).config().clone());
    file.calibration.as_mut().unwrap().same = vec![3, 2, 1, 0, 0];
    let error = Verifier::new(net(1), file).unwrap_err();
    assert!(matches!(error, VerifierError::Calibration(_)), "{error}");
}

#[test]
fn a_picture_is_the_same_as_itself_and_judged_by_the_threshold() {
    let pictures = pictures(2);
    let verdict = verifier(1).verify(&pictures[0], &pictures[0]).unwrap();
    assert_eq!((verdict.distance, verdict.same), (0.0, true));
    assert_eq!(verdict.threshold, 0.5);
    assert_eq!(verdict.far_at_threshold, Some(0.5));

    let distance = verifier(1)
        .verify(&pictures[0], &pictures[1])
        .unwrap()
        .distance;
    for (factor, same) in [(0.99, false), (1.01, true)] {
        let strict = verifier(1)
            .with_threshold(factor * f64::from(distance))
            .unwrap();
        assert_eq!(
            strict.verify(&pictures[0], &pictures[1]).unwrap().same,
            same
        );
    }
}

#[test]
fn another_operating_point_is_another_threshold() {
    let at = |point: &str| verifier(1).at(point.parse().unwrap());
    // FAR and FRR step over each other between 0.2 (0 and 1/3) and 0.4 (1/2 and 1/3).
    let eer = at("eer").unwrap().threshold().unwrap();
    assert!(eer > 0.2 && eer < 0.4, "{eer}");
    // Its own stays as it was stored.
    assert_eq!(at("accuracy").unwrap().threshold(), Some(0.5));
    let error = at("far=0.01").unwrap_err().to_string();
    assert!(
        error.contains("1000 different pairs") && error.contains("there are 2"),
        "{error}"
    );
}

#[test]
fn an_older_file_has_a_threshold_and_no_more() {
    let mut file = file(net(1).config().clone());
    file.calibration = None;
    let verifier = Verifier::new(net(1), file).unwrap();
    let pictures = pictures(1);
    let verdict = verifier.verify(&pictures[0], &pictures[0]).unwrap();
    assert_eq!(verdict.far_at_threshold, None);
    let error = verifier.at(OperatingPoint::EqualErrorRate).unwrap_err();
    assert!(matches!(error, VerifierError::Calibration(_)), "{error}");
    assert!(error.to_string().contains("format 1.1"), "{error}");
}

#[test]
fn a_network_without_a_threshold_gives_no_verdict() {
    let mut file = file(net(1).config().clone());
    file.threshold = None;
    let verifier = Verifier::new(net(1), file).unwrap();
    let pictures = pictures(1);
    let error = verifier.verify(&pictures[0], &pictures[0]).unwrap_err();
    assert!(matches!(error, VerifierError::Calibration(_)), "{error}");
    assert!(error.to_string().contains("no threshold"), "{error}");
    for threshold in [f64::NAN, f64::INFINITY, -1.0] {
        let net = net(1);
        let file = self::file(net.config().clone());
        let verifier = Verifier::new(net, file).unwrap();
        assert!(verifier.with_threshold(threshold).is_err());
    }
}

#[test]
fn a_picture_of_another_size_is_refused_by_its_place() {
    let mut pictures = pictures(3);
    pictures[2].pixels.pop();
    let error = verifier(1).embed(&pictures).unwrap_err();
    assert!(error.to_string().contains("picture 2 has 783"), "{error}");
}

#[test]
fn many_threads_get_the_bits_that_one_gets() {
    let verifier = Arc::new(verifier(1));
    let pictures = Arc::new(pictures(300));
    let expected = verifier.embed(&pictures).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (verifier, pictures) = (Arc::clone(&verifier), Arc::clone(&pictures));
            thread::spawn(move || verifier.embed(&pictures).unwrap())
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn what_a_picture_is_embedded_with_does_not_change_a_bit() {
    let verifier = verifier(1);
    let pictures = pictures(300);
    let together = verifier.embed(&pictures).unwrap();
    for (picture, expected) in pictures.iter().zip(together.rows()) {
        let alone = verifier.embed(&[picture]).unwrap();
        assert_eq!(alone.values(), expected);
    }
}

#[test]
fn a_fingerprint_is_of_the_network_and_not_of_its_threshold() {
    let fingerprint = |verifier: Verifier| verifier.fingerprint().unwrap().to_string();
    let stricter = verifier(1).with_threshold(0.1).unwrap();
    assert_eq!(fingerprint(stricter), fingerprint(verifier(1)));
    assert_ne!(fingerprint(verifier(2)), fingerprint(verifier(1)));
    let mut other = file(net(1).config().clone());
    other.preprocessing.mean = 0.2;
    let other = Verifier::new(net(1), other).unwrap();
    assert_ne!(fingerprint(other), fingerprint(verifier(1)));
}

#[test]
fn nothing_embedded_is_nothing() {
    let none: [Picture; 0] = [];
    assert!(verifier(1).embed(&none).unwrap().is_empty());
    assert!(Embeddings::new(vec![1.0; 3], 2).is_err());
    assert!(Embeddings::new(vec![], 0).is_err());
}

/// A model whose trunk is a pretrained one, with this record of it.
fn with_trunk(record: serde_json::Value) -> Result<Verifier, VerifierError> {
    let config = NetworkConfig {
        input: [4, 1, 1],
        ..NetworkConfig::of(Trunk::Onnx, 2)
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let net = Network::new(
        config.clone(),
        candle_core::DType::F32,
        &Device::Cpu,
        &mut rng,
    );
    let pretrained = Some(Pretrained {
        record,
        file: Some(b"no ONNX file".as_slice().into()),
    });
    let file = ModelFile {
        pretrained,
        ..file(config)
    };
    Verifier::new(net.unwrap(), file)
}

fn record() -> serde_json::Value {
    serde_json::json!({
        "name": "a.onnx", "length": 12, "sha256": "", "path": "", "output": "", "probe": [0.0, 0.0],
        "preprocessing": {
            "size": [8, 8], "resize": [8], "interpolation": "bicubic", "scale": 0.004,
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "colours": "rgb",
        },
    })
}

#[test]
fn a_pretrained_trunk_that_cannot_be_run_is_an_error_of_the_trunk() {
    let error = with_trunk(record()).unwrap_err();
    let words = match cfg!(feature = "pretrained") {
        true => "cannot be read as an ONNX file",
        false => "built without pretrained trunks",
    };
    assert!(matches!(error, VerifierError::Trunk(_)), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_record_that_makes_no_sense_is_refused() {
    let mut wrong = record();
    wrong["preprocessing"]["std"] = serde_json::json!([0.5, 0.5, 0.0]);
    let error = with_trunk(wrong).unwrap_err().to_string();
    assert!(
        error.contains("the model file: ") && error.contains("above 0"),
        "{error}"
    );
    let mut wrong = record();
    wrong["preprocessing"]["interpolation"] = "cubic".into();
    let error = with_trunk(wrong).unwrap_err().to_string();
    assert!(
        error.contains("`pretrained`") && error.contains("cubic"),
        "{error}"
    );
}
