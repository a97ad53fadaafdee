//! A trained network as an ONNX file, for programs in other languages.
//!
//! The graph has one input, [images or their pixels](Input), and one output, `embeddings` (N, D) f32, with
//! any batch N. Its tensors have the names of the parameters.
//!
//! It keeps to operators that every ONNX runtime has, in the form of opset 13 (2020): a group
//! normalisation is an InstanceNormalization over the groups, since GroupNormalization came with opset 18.
//!
//! `metadata_props` has the entries of the [model file](crate::weights)'s header, but for those of its
//! format, and `distance`, by which embeddings are compared.

mod graph;
mod proto;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use prost::Message;

use crate::weights::PRODUCER;
use crate::{EmbeddingNet, ModelError, ModelFile, Network, Preprocessing, Result, Trunk};
pub(crate) use graph::{Export, Graph, Value, float, int, ints};

/// The operators' version. Later ones only change how they are written.
const OPSET: i64 = 13;

/// The file format's version that belongs to the opset.
const IR_VERSION: i64 = 7;

/// What the graph takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// `images` (N, C, H, W) f32: the network's own input, with scale, mean and std applied.
    #[default]
    Images,
    /// `pixels` (N, H, W, C) u8, 0 to 255, as image libraries have them: the graph applies scale, mean and
    /// std.
    Pixels,
}

/// The bytes of an ONNX file of the network, in f32. The same arguments give the same bytes. `metadata` is
/// added to the file's own.
///
/// # Errors
/// [`ModelError::Config`] for a [pretrained trunk](Trunk::Onnx), which is an ONNX file of its own, and
/// whatever candle reports for the device.
pub fn to_bytes(
    net: &Network,
    file: &ModelFile,
    input: Input,
    metadata: &BTreeMap<&str, String>,
) -> Result<Vec<u8>> {
    if net.config().trunk == Trunk::Onnx {
        let problem = "is a pretrained encoder, which has an ONNX file of its own: run that, and then \
                       the layers of the model file, as docs/pretrained.md says";
        return Err(ModelError::config("trunk", problem.into()));
    }
    let mut props = file.to_header();
    props.retain(|key, _| !["format", "format_version"].contains(key));
    props.insert("distance", "euclidean".into());
    props.extend(metadata.iter().map(|(&key, value)| (key, value.clone())));
    let model = proto::Model {
        ir_version: IR_VERSION,
        producer_name: PRODUCER.into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: "Embeds images: two show the same thing if the Euclidean distance between their \
                     embeddings is at most `threshold` in the metadata. `preprocessing` there says how \
                     pictures become the input."
            .into(),
        graph: Some(graph(net, &file.preprocessing, input)?),
        opset_import: vec![proto::OperatorSetId {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: props
            .into_iter()
            .map(|(key, value)| proto::StringStringEntry {
                key: key.into(),
                value,
            })
            .collect(),
    };
    Ok(model.encode_to_vec())
}

fn graph(net: &Network, preprocessing: &Preprocessing, input: Input) -> Result<proto::Graph> {
    let (config, parameters) = (net.config(), net.parameters());
    let [c, h, w] = config.input;
    let mut graph = Graph::new(parameters);
    let (info, images) = match input {
        Input::Images => {
            let doc = "(pixel · scale − mean) / std, by `preprocessing` in the metadata";
            let images = Value {
                name: "images".into(),
                dims: vec![c, h, w],
            };
            (info(&images, proto::FLOAT, doc), images)
        }
        Input::Pixels => {
            let pixels = Value {
                name: "pixels".into(),
                dims: vec![h, w, c],
            };
            let info = info(&pixels, proto::UINT8, "0 to 255, grey or red, green, blue");
            (info, normalised(&mut graph, &pixels, preprocessing))
        }
    };
    // Layers of the very tensors whose names the graph knows.
    let tensors = parameters
        .iter()
        .map(|p| (p.name.clone(), p.var.as_tensor().clone()));
    let first = parameters[0].var.as_tensor();
    let vb = VarBuilder::from_tensors(tensors.collect(), first.dtype(), first.device());
    let embeddings = Value {
        name: "embeddings".into(),
        ..EmbeddingNet::new(config, vb)?.export(&mut graph, images)?
    };
    let doc = match config.normalised {
        true => "of length 1",
        false => "",
    };
    let output = self::info(&embeddings, proto::FLOAT, doc);
    Ok(graph.finish("siamese network".into(), info, output))
}

/// Network input of pixels, in the order in which it is computed for training.
fn normalised(graph: &mut Graph, pixels: &Value, preprocessing: &Preprocessing) -> Value {
    let [h, w, c] = pixels.dims[..] else {
        unreachable!("an image has three dimensions");
    };
    let float = int("to", i64::from(proto::FLOAT));
    let x = graph.add("Cast", &[&pixels.name], vec![float], &pixels.dims);
    let mut x = graph.add(
        "Transpose",
        &[&x.name],
        vec![ints("perm", &[0, 3, 1, 2])],
        &[c, h, w],
    );
    let Preprocessing {
        scale, mean, std, ..
    } = *preprocessing;
    for (operator, number) in [("Mul", scale), ("Sub", mean), ("Div", std)] {
        let number = graph.scalar(number);
        x = graph.elementwise(operator, &x, &[&number]);
    }
    x
}

fn info(value: &Value, elem_type: i32, doc: &str) -> proto::ValueInfo {
    let batch = proto::Dimension {
        dim_param: Some("N".into()),
        ..Default::default()
    };
    let sizes = value.dims.iter().map(|&size| proto::Dimension {
        dim_value: Some(size as i64),
        ..Default::default()
    });
    let shape = proto::Shape {
        dim: [batch].into_iter().chain(sizes).collect(),
    };
    proto::ValueInfo {
        name: value.name.clone(),
        r#type: Some(proto::Type {
            tensor_type: Some(proto::TensorType {
                elem_type,
                shape: Some(shape),
            }),
        }),
        doc_string: doc.into(),
    }
}

/// Divides each row by its Euclidean length; a row of zeros stays as it is.
pub(crate) fn divided_by_length(graph: &mut Graph, rows: &Value) -> Value {
    let attributes = vec![ints("axes", &[1]), int("keepdims", 1)];
    let length = graph.add("ReduceL2", &[&rows.name], attributes, &[1]);
    // Shorter rows have no length in f32: the square of it is 0.
    let least = graph.scalar(f32::MIN_POSITIVE.sqrt());
    let length = graph.elementwise("Max", &length, &[&least]);
    graph.elementwise("Div", rows, &[&length.name])
}

/// A convolution with stride 1, of a weight (O, C, k, k), a bias (O,) and `padding` zeros on each side.
pub(crate) fn convolution(
    graph: &mut Graph,
    x: &Value,
    [weight, bias]: [&Tensor; 2],
    padding: usize,
) -> candle_core::Result<Value> {
    let (filters, _, kernel, _) = weight.dims4()?;
    let names = [
        graph.tensor(weight, weight.dims())?,
        graph.tensor(bias, bias.dims())?,
    ];
    let attributes = vec![
        ints("kernel_shape", &[kernel, kernel]),
        ints("pads", &[padding; 4]),
    ];
    let after = |side: usize| side + 2 * padding + 1 - kernel;
    let dims = [filters, after(x.dims[1]), after(x.dims[2])];
    Ok(graph.add("Conv", &[&x.name, &names[0], &names[1]], attributes, &dims))
}
