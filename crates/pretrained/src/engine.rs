//! What runs an ONNX file.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;
use tract_onnx::tract_hir::ops::unimpl::UnimplementedOp;

use crate::{Preprocessing, PretrainedError, Result};

/// An ONNX file, ready to run on one picture at a time, which is faster here than several together.
#[derive(Debug)]
pub struct Engine {
    trunk: String,
    plan: Arc<TypedRunnableModel>,
    shape: [usize; 4],
}

impl Engine {
    /// Takes the bytes of the file; errors call it `trunk`. `output` names one of several outputs.
    pub fn new(
        trunk: &str,
        onnx: &[u8],
        preprocessing: &Preprocessing,
        output: &str,
    ) -> Result<Self> {
        let [height, width] = preprocessing.size;
        let shape = [1, 3, height, width];
        let plan = plan(onnx, shape, output);
        Ok(Self {
            trunk: trunk.into(),
            plan: plan.map_err(|problem| PretrainedError::trunk(trunk, problem))?,
            shape,
        })
    }

    /// The features (F,) of an input (1, 3, H, W).
    pub fn run(&self, input: Vec<f32>) -> Result<Vec<f32>> {
        let run = || -> TractResult<_> {
            let input = Tensor::from_shape(&self.shape, &input)?;
            let output = self.plan.run(tvec!(input.into()))?.remove(0);
            Ok(output.into_tensor())
        };
        let wrong = |problem: String| PretrainedError::trunk(&self.trunk, problem);
        let output = run().map_err(|error| wrong(format!("cannot be computed: {error:#}")))?;
        let found = output.shape().to_vec();
        let features = output
            .cast_to::<f32>()
            .map_err(|error| wrong(error.to_string()))?;
        let features = features.view();
        let features = features.as_slice::<f32>();
        let features = features.map_err(|error| wrong(error.to_string()))?;
        // A map of one place is a row of features too.
        let [1, count, places @ ..] = &found[..] else {
            return Err(wrong(shape_problem(&found)));
        };
        if *count == 0 || places.len() == 1 || places.iter().any(|&places| places != 1) {
            return Err(wrong(shape_problem(&found)));
        }
        Ok(features.to_vec())
    }
}

fn shape_problem(found: &[usize]) -> String {
    format!(
        "gives {found:?} for one picture, and not (1, F): it has to end in a row of features, such as the mean \
         over all places or a class token; name another of its outputs with pretrained.output, or export it \
         so"
    )
}

fn plan(
    onnx: &[u8],
    shape: [usize; 4],
    output: &str,
) -> std::result::Result<Arc<TypedRunnableModel>, String> {
    let not_onnx = |error| format!("cannot be read as an ONNX file: {error:#}");
    let mut model = tract_onnx::onnx()
        // PyTorch's newer exporter writes symbols that do not agree with each other.
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_read(&mut &*onnx)
        .map_err(not_onnx)?;
    check_operators(&model)?;
    check_input(&model, shape)?;
    choose_output(&mut model, output)?;
    let of = |error| format!("cannot be prepared for pictures of {shape:?}: {error:#}");
    let prepare = || {
        model
            .with_input_fact(0, f32::fact(shape).into())?
            .into_optimized()?
            .into_runnable()
    };
    prepare().map_err(of)
}

fn check_operators(model: &InferenceModel) -> std::result::Result<(), String> {
    let nodes = model.nodes().iter();
    let unknown = nodes.filter(|node| node.op_is::<UnimplementedOp>());
    // Named `Unimplemented(NAME)`.
    let name = |op: &str| op.split(['(', ')']).nth(1).unwrap_or(op).to_string();
    let mut unknown: Vec<String> = unknown.map(|node| name(&node.op.name())).collect();
    unknown.sort();
    unknown.dedup();
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "has operators that are not supported: {}; export it without them, or for another opset",
            unknown.join(", ")
        )),
    }
}

fn check_input(model: &InferenceModel, shape: [usize; 4]) -> std::result::Result<(), String> {
    let [input] = &model.inputs[..] else {
        let names = model
            .inputs
            .iter()
            .map(|input| &*model.node(input.node).name);
        let names: Vec<&str> = names.collect();
        return Err(format!(
            "has {} inputs ({}); it has to take pictures and nothing else",
            names.len(),
            names.join(", ")
        ));
    };
    let fact = model
        .outlet_fact(*input)
        .map_err(|error| error.to_string())?;
    let dims: Vec<Option<usize>> = fact
        .shape
        .dims()
        .map(|dim| dim.concretize()?.to_usize().ok())
        .collect();
    let floats = fact
        .datum_type
        .concretize()
        .is_none_or(|t| t == f32::datum_type());
    let fits = |(found, wanted): (&Option<usize>, usize)| found.is_none_or(|found| found == wanted);
    if !floats || dims.len() != 4 || !dims.iter().zip(shape).all(fits) {
        let found: Vec<String> = dims
            .iter()
            .map(|dim| dim.map_or_else(|| "?".into(), |dim| dim.to_string()))
            .collect();
        return Err(format!(
            "takes ({}) of {}, and pictures are {shape:?} of f32: a picture at a time, channels first, of the \
             size that the preprocessing says",
            found.join(", "),
            fact.datum_type
                .concretize()
                .map_or_else(|| "?".into(), |t| format!("{t:?}").to_lowercase()),
        ));
    }
    Ok(())
}

fn choose_output(model: &mut InferenceModel, output: &str) -> std::result::Result<(), String> {
    let name = |outlet: &OutletId| {
        let label = model.outlet_label(*outlet);
        label.unwrap_or(&model.node(outlet.node).name).to_string()
    };
    let names: Vec<String> = model.outputs.iter().map(name).collect();
    let chosen = match output {
        "" if names.len() == 1 => return Ok(()),
        output => names.iter().position(|name| name == output),
    };
    let Some(chosen) = chosen else {
        return Err(format!(
            "has the outputs {}: name one with pretrained.output",
            names.join(", ")
        ));
    };
    let chosen = model.outputs[chosen];
    model
        .select_output_outlets(&[chosen])
        .map_err(|error| error.to_string())
}
