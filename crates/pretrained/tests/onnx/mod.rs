//! Small ONNX files, written byte by byte as the protobuf that they are.

/// A node: its operator, inputs and output.
pub type Node = (&'static str, &'static [&'static str], &'static str);

/// The mean of each colour, times [`WEIGHTS`]: (1, 3, H, W) to (1, 4).
pub const MEANS: &[Node] = &[
    ("GlobalAveragePool", &["pixels"], "means"),
    ("Flatten", &["means"], "flat"),
    ("MatMul", &["flat", "weights"], "features"),
];

/// (3, 4): each colour's mean, and the sum of all.
pub const WEIGHTS: [f32; 12] = [
    1.0, 0.0, 0.0, 1.0, //
    0.0, 1.0, 0.0, 1.0, //
    0.0, 0.0, 1.0, 1.0,
];

/// The bytes of a file with one input `pixels` of `dims`, none of them fixed where it is 0, and with `outputs`.
pub fn onnx(nodes: &[Node], dims: &[u64], outputs: &[&str]) -> Vec<u8> {
    with_weights(nodes, dims, outputs, &WEIGHTS)
}

/// The same, with other weights (3, N).
pub fn with_weights(nodes: &[Node], dims: &[u64], outputs: &[&str], weights: &[f32]) -> Vec<u8> {
    let mut graph = Vec::new();
    for (operator, inputs, output) in nodes {
        let inputs = inputs.iter().flat_map(|input| text(1, input));
        let mut node: Vec<u8> = inputs.collect();
        node.extend(text(2, output));
        node.extend(text(4, operator));
        graph.extend(message(1, &node));
    }
    graph.extend(text(2, "graph"));
    let mut tensor = number(1, 3);
    tensor.extend(number(1, weights.len() as u64 / 3));
    tensor.extend(number(2, FLOAT));
    tensor.extend(text(8, "weights"));
    let values = weights.iter().flat_map(|value| value.to_le_bytes());
    tensor.extend(message(9, &values.collect::<Vec<u8>>()));
    graph.extend(message(5, &tensor));
    graph.extend(message(11, &value("pixels", dims)));
    for output in outputs {
        graph.extend(message(12, &value(output, &[])));
    }
    let mut model = number(1, 8);
    model.extend(message(7, &graph));
    model.extend(message(8, &number(2, 17)));
    model
}

/// The element type f32.
const FLOAT: u64 = 1;

/// A `ValueInfoProto`; without `dims` it has no shape.
fn value(name: &str, dims: &[u64]) -> Vec<u8> {
    let dims = dims.iter().map(|&dim| match dim {
        0 => text(2, "any"),
        dim => number(1, dim),
    });
    let shape: Vec<u8> = dims.flat_map(|dim| message(1, &dim)).collect();
    let mut tensor = number(1, FLOAT);
    if !shape.is_empty() {
        tensor.extend(message(2, &shape));
    }
    let mut value = text(1, name);
    value.extend(message(2, &message(1, &tensor)));
    value
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn message(field: u64, bytes: &[u8]) -> Vec<u8> {
    [
        varint(field << 3 | 2),
        varint(bytes.len() as u64),
        bytes.to_vec(),
    ]
    .concat()
}

fn text(field: u64, text: &str) -> Vec<u8> {
    message(field, text.as_bytes())
}
