//! Model files: what goes in comes out, and every damage is named.

use candle_core::{DType, Device, Tensor};
use metrics::OperatingPoint;
use model::{
    Calibration, ModelError, ModelFile, Network, NetworkConfig, Preprocessing, Pretrained, Trunk,
    weights,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;

const CPU: &Device = &Device::Cpu;

fn net(dtype: DType) -> Network {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    Network::new(NetworkConfig::caffe(2), dtype, CPU, &mut rng).unwrap()
}

fn file() -> ModelFile {
    ModelFile {
        config: NetworkConfig::caffe(2),
        preprocessing: Preprocessing {
            scale: 1.0 / 255.0,
            mean: 0.1307,
            std: 0.3081,
            ink_side: Some(20),
        },
        threshold: Some(0.1 + 0.2),
        calibration: Some(Calibration {
            at: OperatingPoint::EqualErrorRate,
            distance: vec![0.1, 1.0 / 3.0],
            same: vec![1, 1],
            different: vec![0, 2],
        }),
        head: None,
        classes: vec!["zero".into(), "a \"quoted\" ü".into()],
        version: "0.1.0".into(),
        pretrained: None,
    }
}

fn stored() -> Vec<u8> {
    weights::to_bytes(&net(DType::F32), &file()).unwrap()
}

fn error(bytes: &[u8]) -> String {
    weights::from_bytes(bytes, CPU).unwrap_err().to_string()
}

/// The stored file with its JSON header edited.
fn edited(edit: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let bytes = stored();
    let (header_len, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*header_len) as usize);
    let mut header = serde_json::from_slice(header).unwrap();
    edit(&mut header);
    let header = header.to_string();
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn with_entry(key: &str, value: &str) -> Vec<u8> {
    edited(|header| header["__metadata__"][key] = value.into())
}

/// It says nothing that a reader needs, so one of a newer program is no error.
#[test]
fn a_head_is_kept_and_absent_where_there_is_none() {
    assert!(!String::from_utf8_lossy(&stored()).contains("\"head\""));
    for head in ["lda", "of a newer program"] {
        let file = ModelFile {
            head: Some(head.into()),
            ..file()
        };
        let bytes = weights::to_bytes(&net(DType::F32), &file).unwrap();
        assert_eq!(weights::from_bytes(&bytes, CPU).unwrap().1, file);
    }
}

#[test]
fn what_is_stored_comes_back_bit_for_bit() {
    for dtype in [DType::F32, DType::F64] {
        for threshold in [None, Some(0.0), Some(0.1 + 0.2)] {
            let (net, file) = (
                net(dtype),
                ModelFile {
                    threshold,
                    ..file()
                },
            );
            let bytes = weights::to_bytes(&net, &file).unwrap();
            let (net_back, file_back) = weights::from_bytes(&bytes, CPU).unwrap();
            assert_eq!(file_back, file);
            assert_eq!(net_back.config(), net.config());
            for (found, expected) in net_back.parameters().iter().zip(net.parameters()) {
                assert_eq!(found.name, expected.name);
                assert_eq!(found.role, expected.role);
                assert_eq!(found.var.dtype(), dtype);
                let bits = |t: &Tensor| -> Vec<u64> {
                    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
                    t.to_vec1::<f64>()
                        .unwrap()
                        .iter()
                        .map(|v| v.to_bits())
                        .collect()
                };
                assert_eq!(bits(&found.var), bits(&expected.var));
            }
            assert_eq!(weights::to_bytes(&net_back, &file_back).unwrap(), bytes);
        }
    }
}

/// So that files from before there were such keys keep their bytes.
#[test]
fn keys_of_the_network_that_say_nothing_are_left_out() {
    let net_of = |config: NetworkConfig| {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let net = Network::new(config.clone(), DType::F32, CPU, &mut rng).unwrap();
        let bytes = weights::to_bytes(&net, &ModelFile { config, ..file() }).unwrap();
        let (back, file) = weights::from_bytes(&bytes, CPU).unwrap();
        assert_eq!((back.config(), &file.config), (net.config(), net.config()));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        header.metadata().clone().unwrap()["net"].clone()
    };
    assert_eq!(
        net_of(NetworkConfig {
            channels: vec![2, 3],
            hidden: vec![],
            ..NetworkConfig::relu(1)
        }),
        r#"{"trunk":"lenet","input":[1,28,28],"channels":[2,3],"conv_activation":"relu","hidden":[],"embedding":1}"#
    );
    assert_eq!(
        net_of(NetworkConfig {
            channels: vec![2, 3],
            normalised: true,
            ..NetworkConfig::conv4(1)
        }),
        r#"{"trunk":"conv4","input":[1,28,28],"channels":[2,3],"conv_activation":"relu","norm":"group","hidden":[],"embedding":1,"normalised":true}"#
    );
}

#[test]
fn every_threshold_and_normalisation_comes_back_exactly() {
    use rand::Rng;
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let config = NetworkConfig {
        channels: vec![1, 1],
        hidden: vec![],
        ..NetworkConfig::relu(1)
    };
    let net = Network::new(config.clone(), DType::F32, CPU, &mut rng).unwrap();
    for _ in 0..500 {
        let mut file = file();
        file.config = config.clone();
        file.threshold = Some(rng.random());
        file.preprocessing.mean = rng.random();
        let bytes = weights::to_bytes(&net, &file).unwrap();
        assert_eq!(weights::from_bytes(&bytes, CPU).unwrap().1, file);
    }
}

#[test]
fn the_file_is_plain_safetensors_with_sorted_names() {
    let bytes = stored();
    let (header_len, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header_len % 8, 0);
    let header = metadata.metadata().clone().unwrap();
    assert_eq!(header["format"], "pt");
    assert_eq!(header["embedding"], "2");
    assert_eq!(header["input"], "[1,28,28]");
    assert_eq!(header["threshold"], "0.30000000000000004");
    let names = metadata.offset_keys();
    assert!(names.is_sorted() && names.len() == 10, "{names:?}");
    let text = std::str::from_utf8(&bytes[8..8 + header_len]).unwrap();
    let places: Vec<_> = ["classes", "embedding", "format", "net", "version"]
        .map(|key| text.find(&format!("\"{key}\":")).unwrap())
        .to_vec();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn open_names_the_file_and_the_reason() {
    let folder = std::env::temp_dir().join(format!("model-weights-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("cut.safetensors");
    std::fs::write(&path, &stored()[..1000]).unwrap();
    let missing = folder.join("missing.safetensors");
    let errors = [&path, &missing].map(|path| weights::open(path, CPU).unwrap_err());
    std::fs::write(&path, stored()).unwrap();
    let opened = weights::open(&path, CPU);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(opened.unwrap().1, file());
    for (error, file) in errors.iter().zip(["cut", "missing"]) {
        assert!(error.to_string().contains(&format!("{file}.safetensors")));
        let ModelError::Open { source, .. } = error else {
            panic!("{error:?}");
        };
        match file {
            "cut" => assert!(matches!(**source, ModelError::NotSafetensors(_))),
            _ => assert!(matches!(**source, ModelError::Io(_))),
        }
    }
}

#[test]
fn bytes_that_are_no_safetensors_file_are_refused() {
    let bytes = stored();
    let longer = [&bytes[..], b"x"].concat();
    for damaged in [
        &b""[..],
        b"PK",
        &[0xff; 64],
        &bytes[..bytes.len() - 1],
        &longer,
    ] {
        let error = weights::from_bytes(damaged, CPU).unwrap_err();
        assert!(matches!(error, ModelError::NotSafetensors(_)), "{error:?}");
    }
}

#[test]
fn a_header_that_is_missing_or_wrong_is_refused_by_key() {
    let none = edited(|header| {
        header.as_object_mut().unwrap().remove("__metadata__");
    });
    assert!(error(&none).contains("`format_version` is missing"));
    for key in [
        "format_version",
        "version",
        "net",
        "normalisation",
        "classes",
    ] {
        let without = edited(|header| {
            header["__metadata__"].as_object_mut().unwrap().remove(key);
        });
        assert_eq!(
            error(&without),
            format!("model header: `{key}` is missing; was this file written by this program?")
        );
    }
    let cases = [
        ("format_version", "one", "not a version like 2.0"),
        (
            "format_version",
            "3.0",
            "model format 3.0 is newer than 2.0",
        ),
        ("net", "{}", "`net` is `{}`: missing field"),
        ("classes", "[1]", "`classes` is `[1]`"),
        ("threshold", "null", "`threshold` is `null`"),
        ("threshold", "-1", "a distance is finite and at least 0"),
        (
            "normalisation",
            r#"{"scale":1,"mean":0,"std":0,"ink_side":20}"#,
            "std above 0",
        ),
    ];
    for (key, value, message) in cases {
        let error = error(&with_entry(key, value));
        assert!(error.contains(message), "{error} / {message}");
    }
    assert!(weights::from_bytes(&with_entry("format_version", "1.7"), CPU).is_ok());
}

#[test]
fn a_network_too_large_to_exist_is_refused_before_anything_is_allocated() {
    let refusal = |config: NetworkConfig| {
        let net = serde_json::to_string(&config).unwrap();
        error(&with_entry("net", &net))
    };
    assert!(refusal(NetworkConfig::caffe(usize::MAX)).contains("from 1 to 65536"));
    let wide = NetworkConfig {
        channels: vec![60_000; 2],
        ..NetworkConfig::caffe(2)
    };
    assert!(refusal(wide).contains("conv2"));
    assert!(refusal(NetworkConfig::caffe(60_000)).contains("`feat.weight` has shape [2, 10]"));
}

#[test]
fn a_tensor_that_does_not_fit_the_network_is_refused_by_name() {
    let rename = |from: &'static str, to: &'static str| {
        edited(move |header| {
            let tensors = header.as_object_mut().unwrap();
            let tensor = tensors.remove(from).unwrap();
            tensors.insert(to.into(), tensor);
        })
    };
    assert!(error(&rename("ip2.bias", "ip9.bias")).contains("`ip9.bias` is not part of"));
    let one_less = serde_json::to_string(&NetworkConfig {
        hidden: NetworkConfig::caffe(2).hidden[..1].to_vec(),
        ..NetworkConfig::caffe(2)
    });
    let error_extra = error(&with_entry("net", &one_less.unwrap()));
    assert!(
        error_extra.contains("`ip2.bias` is not part of"),
        "{error_extra}"
    );
    let mut more = NetworkConfig::caffe(2);
    more.hidden.push(more.hidden[1]);
    let more = serde_json::to_string(&more).unwrap();
    assert_eq!(
        error(&with_entry("net", &more)),
        "tensor `ip3.weight` is missing"
    );
    let shape = edited(|header| header["ip1.weight"]["shape"] = serde_json::json!([800, 500]));
    assert_eq!(
        error(&shape),
        "tensor `ip1.weight` has shape [800, 500], the network needs [500, 800]"
    );
    let mixed = edited(|header| header["ip1.bias"]["dtype"] = "I32".into());
    assert_eq!(
        error(&mixed),
        "tensor `ip1.bias` is I32 where others are F32"
    );
    let integers = edited(|header| {
        for (name, tensor) in header.as_object_mut().unwrap() {
            if name != "__metadata__" {
                tensor["dtype"] = "U32".into();
            }
        }
    });
    assert_eq!(
        error(&integers),
        "tensor `conv1.weight` is U32, not F32 or F64"
    );
}

#[test]
fn a_value_that_is_not_finite_is_neither_written_nor_read() {
    // The data is sorted by name: `ip2.weight` comes last.
    let mut bytes = stored();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_eq!(
        error(&bytes),
        "tensor `ip2.weight` has the value NaN at place 4999"
    );
    let net = net(DType::F32);
    let bias = net.parameters().last().unwrap();
    bias.var
        .set(&Tensor::new(&[0f32, f32::INFINITY], CPU).unwrap())
        .unwrap();
    let error = weights::to_bytes(&net, &file()).unwrap_err().to_string();
    assert_eq!(error, "tensor `feat.bias` has the value inf at place 1");
}

#[test]
fn a_description_of_another_network_is_not_written() {
    let net = net(DType::F32);
    let other = ModelFile {
        config: NetworkConfig::relu(2),
        ..file()
    };
    let error = weights::to_bytes(&net, &other).unwrap_err().to_string();
    assert!(error.contains("`net` describes another network"), "{error}");
    let nan = ModelFile {
        threshold: Some(f64::NAN),
        ..file()
    };
    let error = weights::to_bytes(&net, &nan).unwrap_err().to_string();
    assert!(error.contains("`threshold` is NaN"), "{error}");
}

/// A head on five features, and its encoder.
fn with_trunk(pretrained: Option<Pretrained>) -> (Network, ModelFile) {
    let config = NetworkConfig {
        input: [5, 1, 1],
        ..NetworkConfig::of(Trunk::Onnx, 2)
    };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let net = Network::new(config.clone(), DType::F32, CPU, &mut rng).unwrap();
    let file = ModelFile {
        config,
        pretrained,
        ..file()
    };
    (net, file)
}

#[test]
fn a_pretrained_trunk_comes_back_with_its_file_or_without() {
    let record = serde_json::json!({"name": "a.onnx", "probe": [0.1f32, 1e-7]});
    for file in [None, Some(vec![0, 7, 255].into())] {
        let record = record.clone();
        let (net, file) = with_trunk(Some(Pretrained { record, file }));
        let bytes = weights::to_bytes(&net, &file).unwrap();
        let (net_back, file_back) = weights::from_bytes(&bytes, CPU).unwrap();
        assert_eq!(file_back, file);
        let names = net_back.parameters().iter().map(|p| p.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["feat.weight", "feat.bias"]);
        assert_eq!(net_back.parameters()[0].var.dims(), [2, 5]);
        let features = Tensor::new(&[[1f32, 2.0, 3.0, 4.0, 5.0]], CPU).unwrap();
        let features = features.reshape((1, 5, 1, 1)).unwrap();
        let row = |net: &Network| net.forward(&features).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(row(&net_back), row(&net));
    }
}

#[test]
fn a_pretrained_trunk_and_what_is_known_of_it_belong_together() {
    let (net, file) = with_trunk(None);
    let error_of = |net: &Network, file: &ModelFile| {
        let error = weights::to_bytes(net, file).unwrap_err();
        error.to_string()
    };
    let missing = error_of(&net, &file);
    assert!(missing.contains("`pretrained` is missing"), "{missing}");
    let error = error(&with_entry("pretrained", "{}"));
    assert!(error.contains("the trunk of `net` is another"), "{error}");
    let (net, mut file) = with_trunk(Some(Pretrained {
        record: serde_json::Value::Null,
        file: Some(vec![1].into()),
    }));
    let bytes = weights::to_bytes(&net, &file).unwrap();
    assert!(weights::from_bytes(&bytes, CPU).is_ok());
    file.config.trunk = Trunk::Lenet;
    assert!(error_of(&net, &file).contains("describes another network"));
}
