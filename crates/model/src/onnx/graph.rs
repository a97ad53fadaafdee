//! A graph as it is built, node by node.

use std::collections::HashMap;

use candle_core::{DType, Result, Tensor, TensorId};

use super::proto;
use crate::Parameter;

/// What a node gives: its name in the graph, and the shape of one image of it.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub name: String,
    /// Without the batch: (C, H, W) or (F,).
    pub dims: Vec<usize>,
}

/// A layer that can be written as nodes.
pub(crate) trait Export {
    /// Adds what the layer makes of `x`. Images are (N, C, H, W) in the graph, where the layers here have
    /// channels last.
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value>;
}

/// The nodes so far, in the order in which they run, and the tensors that they read.
pub(crate) struct Graph {
    nodes: Vec<proto::Node>,
    tensors: Vec<proto::Tensor>,
    names: HashMap<TensorId, String>,
}

impl Graph {
    /// An empty one, in which the tensors of `parameters` keep their names.
    pub fn new(parameters: &[Parameter]) -> Self {
        let name = |p: &Parameter| (p.var.as_tensor().id(), p.name.clone());
        Self {
            nodes: Vec::new(),
            tensors: Vec::new(),
            names: parameters.iter().map(name).collect(),
        }
    }

    /// Adds a node of one output, named after its operator.
    pub fn add(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<proto::Attribute>,
        dims: &[usize],
    ) -> Value {
        let same = |node: &&proto::Node| node.op_type == operator;
        let number = self.nodes.iter().filter(same).count() + 1;
        let name = format!("{}{number}", operator.to_lowercase());
        self.nodes.push(proto::Node {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: operator.into(),
            attribute: attributes,
        });
        let dims = dims.to_vec();
        Value { name, dims }
    }

    /// Adds a node that works on each number of `x` by itself.
    pub fn elementwise(&mut self, operator: &str, x: &Value, others: &[&str]) -> Value {
        let inputs = [&[x.name.as_str()], others].concat();
        self.add(operator, &inputs, Vec::new(), &x.dims)
    }

    /// Adds a node that gives `x` the shape `dims` for each image.
    pub fn reshape(&mut self, x: &Value, dims: &[usize]) -> Value {
        // 0 is the batch as it is.
        let shape: Vec<i64> = [0].iter().chain(dims).map(|&dim| dim as i64).collect();
        let bytes = shape.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let shape = self.store(None, proto::INT64, &[shape.len()], bytes);
        self.add("Reshape", &[&x.name, &shape], Vec::new(), dims)
    }

    /// Adds a node that puts the numbers of each image in a row.
    pub fn flatten(&mut self, x: &Value) -> Value {
        let features = x.dims.iter().product();
        self.add("Flatten", &[&x.name], Vec::new(), &[features])
    }

    /// Stores the values of a tensor as f32 of the shape `dims`, and says by which name nodes read them.
    pub fn tensor(&mut self, values: &Tensor, dims: &[usize]) -> Result<String> {
        let name = self.names.get(&values.id()).cloned();
        let values = values.flatten_all()?.to_dtype(DType::F32)?;
        let bytes = values.to_vec1::<f32>()?;
        let bytes = bytes.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(self.store(name, proto::FLOAT, dims, bytes))
    }

    /// Stores a number.
    pub fn scalar(&mut self, value: f32) -> String {
        self.store(None, proto::FLOAT, &[], value.to_le_bytes().to_vec())
    }

    fn store(
        &mut self,
        name: Option<String>,
        data_type: i32,
        dims: &[usize],
        raw_data: Vec<u8>,
    ) -> String {
        let name = name.unwrap_or_else(|| format!("constant{}", self.tensors.len() + 1));
        self.tensors.push(proto::Tensor {
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            data_type,
            name: name.clone(),
            raw_data,
        });
        name
    }

    /// The whole, from `input` to what its last node gives, which is named like `output`.
    pub fn finish(
        mut self,
        name: String,
        input: proto::ValueInfo,
        output: proto::ValueInfo,
    ) -> proto::Graph {
        if let Some(last) = self.nodes.last_mut() {
            last.output = vec![output.name.clone()];
        }
        proto::Graph {
            node: self.nodes,
            name,
            initializer: self.tensors,
            input: vec![input],
            output: vec![output],
        }
    }
}

/// An attribute that is a whole number.
pub(crate) fn int(name: &str, value: i64) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        i: Some(value),
        r#type: 2,
        ..Default::default()
    }
}

/// An attribute that is a list of whole numbers.
pub(crate) fn ints(name: &str, values: &[usize]) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        ints: values.iter().map(|&value| value as i64).collect(),
        r#type: 7,
        ..Default::default()
    }
}

/// An attribute that is a number.
pub(crate) fn float(name: &str, value: f32) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        f: Some(value),
        r#type: 1,
        ..Default::default()
    }
}
