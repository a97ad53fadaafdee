use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::onnx::{Export, Graph, Value};

/// What follows a layer's sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The sum as it is.
    Linear,
    /// max(x, 0), with gradient 0 at 0.
    Relu,
}

impl Activation {
    /// Applies it to every element.
    ///
    /// Not `Tensor::relu`: in candle 0.11 its gradient at exactly 0 is 1, where Caffe and PyTorch
    /// have 0, and it turns NaN into 0. A blank image under zero biases meets that 0 everywhere.
    ///
    /// # Errors
    /// Whatever candle reports for the device.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Linear => Ok(x.clone()),
            Self::Relu => x * x.gt(0f64)?.to_dtype(x.dtype())?,
        }
    }
}

impl Export for Activation {
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        Ok(match self {
            Self::Linear => x,
            Self::Relu => graph.elementwise("Relu", &x, &[]),
        })
    }
}
