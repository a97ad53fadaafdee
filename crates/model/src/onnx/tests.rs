use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device};
use prost::Message;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{Activation, Hidden, NetworkConfig, Norm};

const CPU: &Device = &Device::Cpu;

fn network(config: NetworkConfig, dtype: DType) -> Network {
    Network::new(config, dtype, CPU, &mut ChaCha8Rng::seed_from_u64(1)).unwrap()
}

fn file(net: &Network) -> ModelFile {
    ModelFile {
        config: net.config().clone(),
        preprocessing: Preprocessing {
            scale: 1.0 / 256.0,
            mean: 0.5,
            std: 0.25,
            ink_side: None,
        },
        threshold: Some(0.1 + 0.2),
        calibration: None,
        head: Some("lda".into()),
        classes: vec!["ü".into()],
        version: "0.0.1".into(),
        pretrained: None,
    }
}

fn exported(net: &Network, input: Input) -> proto::Model {
    let bytes = to_bytes(net, &file(net), input, &BTreeMap::new()).unwrap();
    proto::Model::decode(&*bytes).unwrap()
}

fn operators(graph: &proto::Graph) -> String {
    let types: Vec<&str> = graph.node.iter().map(|node| &*node.op_type).collect();
    types.join(" ")
}

fn dims(info: &proto::ValueInfo) -> (i32, Vec<i64>) {
    let tensor = info.r#type.clone().unwrap().tensor_type.unwrap();
    let shape = tensor.shape.unwrap().dim;
    assert_eq!(shape[0].dim_param.as_deref(), Some("N"));
    let sizes = shape[1..].iter().map(|dim| dim.dim_value.unwrap());
    (tensor.elem_type, sizes.collect())
}

fn configs() -> Vec<NetworkConfig> {
    vec![
        NetworkConfig::relu(2),
        NetworkConfig {
            norm: Norm::Group,
            normalised: true,
            ..NetworkConfig::caffe(3)
        },
        NetworkConfig {
            input: [3, 27, 21],
            grid: 2,
            ..NetworkConfig::small_resnet(4)
        },
        NetworkConfig {
            hidden: vec![Hidden {
                units: 7,
                activation: Activation::Linear,
            }],
            ..NetworkConfig::conv4(5)
        },
    ]
}

/// Worked out by hand from the field numbers of `onnx.proto3`.
#[test]
fn messages_have_the_bytes_of_the_format() {
    let attribute = int("to", 0).encode_to_vec();
    assert_eq!(attribute, [0x0a, 2, b't', b'o', 0x18, 0, 0xa0, 0x01, 2]);
    let attribute = ints("p", &[2, 300]).encode_to_vec();
    let expected = [0x0a, 1, b'p', 0x40, 2, 0x40, 0xac, 2, 0xa0, 0x01, 7];
    assert_eq!(attribute, expected);
    let attribute = float("e", 1.0).encode_to_vec();
    let expected = [0x0a, 1, b'e', 0x15, 0, 0, 0x80, 0x3f, 0xa0, 0x01, 1];
    assert_eq!(attribute, expected);
    let mut graph = Graph::new(&[]);
    graph.scalar(-2.0);
    let whole = graph.finish(
        String::new(),
        proto::ValueInfo::default(),
        proto::ValueInfo::default(),
    );
    let tensor = whole.initializer[0].encode_to_vec();
    let name = [0x42, 9].into_iter().chain(*b"constant1");
    let expected = [0x10, 1]
        .into_iter()
        .chain(name)
        .chain([0x4a, 4, 0, 0, 0, 0xc0]);
    assert_eq!(tensor, Vec::from_iter(expected));
}

#[test]
fn a_lenet_is_its_layers_in_order() {
    let net = network(NetworkConfig::relu(2), DType::F32);
    let graph = exported(&net, Input::Images).graph.unwrap();
    let expected = "Conv Relu MaxPool Conv Relu MaxPool Flatten Gemm Relu Gemm Relu Gemm";
    assert_eq!(operators(&graph), expected);
    assert_eq!(
        graph.node[0].input,
        ["images", "conv1.weight", "conv1.bias"]
    );
    assert_eq!(dims(&graph.input[0]), (proto::FLOAT, vec![1, 28, 28]));
    assert_eq!(dims(&graph.output[0]), (proto::FLOAT, vec![2]));

    let graph = exported(&net, Input::Pixels).graph.unwrap();
    let expected = format!("Cast Transpose Mul Sub Div {expected}");
    assert_eq!(operators(&graph), expected);
    assert_eq!(graph.input[0].name, "pixels");
    assert_eq!(dims(&graph.input[0]), (proto::UINT8, vec![28, 28, 1]));
    let numbers = &graph.initializer[..3];
    let numbers = numbers
        .iter()
        .map(|n| f32::from_le_bytes(n.raw_data[..].try_into().unwrap()));
    assert_eq!(Vec::from_iter(numbers), [1.0 / 256.0, 0.5, 0.25]);
}

#[test]
fn every_node_reads_what_is_there_and_every_parameter_is_read() {
    for config in configs() {
        let net = network(config, DType::F32);
        let graph = exported(&net, Input::Images).graph.unwrap();
        let tensors: BTreeMap<&str, &proto::Tensor> =
            graph.initializer.iter().map(|t| (&*t.name, t)).collect();
        assert_eq!(tensors.len(), graph.initializer.len());
        let mut known: BTreeSet<&str> = tensors.keys().copied().collect();
        known.insert("images");
        let mut read = BTreeSet::new();
        for node in &graph.node {
            for input in &node.input {
                assert!(known.contains(&**input), "{} reads {input}", node.name);
                read.insert(&**input);
            }
            assert!(known.insert(&node.output[0]), "{} twice", node.output[0]);
        }
        assert!(known.contains("embeddings") && !read.contains("embeddings"));
        assert!(tensors.keys().all(|name| read.contains(name)));
        for parameter in net.parameters() {
            let tensor = tensors[&*parameter.name];
            let values = parameter
                .var
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            assert_eq!(tensor.raw_data, Vec::from_iter(bytes));
            assert_eq!(tensor.dims.iter().product::<i64>() as usize, values.len());
        }
    }
}

#[test]
fn weights_in_f64_are_exported_in_f32() {
    let [single, double] = [DType::F32, DType::F64].map(|dtype| {
        let net = network(NetworkConfig::relu(2), dtype);
        exported(&net, Input::Images)
    });
    assert_eq!(single, double);
}

#[test]
fn metadata_is_the_model_files_and_the_callers() {
    let net = network(NetworkConfig::relu(2), DType::F32);
    let more = BTreeMap::from([("more", "x".to_string())]);
    let bytes = to_bytes(&net, &file(&net), Input::Images, &more).unwrap();
    assert_eq!(
        bytes,
        to_bytes(&net, &file(&net), Input::Images, &more).unwrap()
    );
    let model = proto::Model::decode(&*bytes).unwrap();
    assert_eq!((model.ir_version, model.opset_import[0].version), (7, 13));
    let props = model.metadata_props.iter();
    let props: BTreeMap<&str, &str> = props.map(|prop| (&*prop.key, &*prop.value)).collect();
    let expected = [
        ("classes", r#"["ü"]"#),
        ("distance", "euclidean"),
        ("embedding", "2"),
        ("head", "lda"),
        ("input", "[1,28,28]"),
        ("more", "x"),
        ("threshold", "0.30000000000000004"),
        ("version", "0.0.1"),
    ];
    for (key, value) in expected {
        assert_eq!(props[key], value, "{key}");
    }
    assert!(!props.contains_key("format") && !props.contains_key("calibration"));
}

#[test]
fn a_pretrained_trunk_is_refused() {
    let config = NetworkConfig {
        input: [8, 1, 1],
        ..NetworkConfig::of(Trunk::Onnx, 2)
    };
    let net = network(config, DType::F32);
    let refused = to_bytes(&net, &file(&net), Input::Images, &BTreeMap::new()).unwrap_err();
    assert!(
        refused.to_string().contains("ONNX file of its own"),
        "{refused}"
    );
}
