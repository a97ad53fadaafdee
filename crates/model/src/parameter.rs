//! The trained tensors of a network: which there are, and how they begin.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand::RngCore;

use crate::network::EmbeddingNet;
use crate::{ModelError, NetworkConfig, Result};

/// Values of one weight at most: 1 GiB of f32.
const MOST_WEIGHTS: usize = 1 << 28;

/// What a parameter is to its layer. Caffe's solver multiplies the learning rate of biases by 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Multiplies the layer's input.
    Weight,
    /// Is added to the layer's sum.
    Bias,
    /// Multiplies what a normalisation gives; begins at 1, or at 0 where a residual block ends.
    Gain,
    /// Is added to what a normalisation gives.
    Shift,
}

impl Role {
    /// Of the parameter called `name`.
    fn of(name: &str) -> Self {
        let layer = name.strip_suffix(".bias");
        let norm = layer.or(name.strip_suffix(".weight"));
        match (
            layer.is_some(),
            norm.is_some_and(|norm| norm.ends_with("_norm")),
        ) {
            (false, false) => Self::Weight,
            (true, false) => Self::Bias,
            (false, true) => Self::Gain,
            (true, true) => Self::Shift,
        }
    }
}

/// One trained tensor. Clones share its values.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// The layer, then `.weight` or `.bias`. Caffe's names where there is one (`conv1`, `conv2`, `ip1`,
    /// `ip2`, …, `feat`), and `stage1.conv`, `stage1.residual1`, `stage1.residual2`, …; a normalisation is
    /// called after the layer before it, such as `conv1_norm`.
    pub name: String,
    /// Weight or bias, or those of a normalisation.
    pub role: Role,
    /// The values, in PyTorch's shape: (O, C, k, k), (outputs, inputs), (outputs,) or (channels,).
    pub var: Var,
}

/// A parameter that a network is going to have.
#[derive(Clone)]
pub(crate) struct Planned {
    pub name: String,
    pub shape: Shape,
    init: Init,
}

impl Planned {
    /// The parameter, with `values` of its shape.
    pub fn with(self, values: &Tensor) -> Result<Parameter> {
        Ok(Parameter {
            role: Role::of(&self.name),
            var: Var::from_tensor(values)?,
            name: self.name,
        })
    }

    /// Whether it has not too many values.
    fn fits(&self) -> bool {
        let mut sizes = self.shape.dims().iter();
        let count = sizes.try_fold(1usize, |count, &size| count.checked_mul(size));
        count.is_some_and(|count| count <= MOST_WEIGHTS)
    }

    /// Its first values, drawn in f64, 64 bits each.
    pub fn first_values(&self, rng: &mut impl RngCore) -> Result<Tensor> {
        let values = (0..self.shape.elem_count()).map(|_| match self.init {
            Init::Const(value) => value,
            Init::Uniform { lo, up } => (lo + up) / 2.0 + (up - lo) / 2.0 * (2.0 * unit(rng) - 1.0),
            _ => f64::NAN,
        });
        let values = Tensor::from_iter(values, &Device::Cpu)?;
        Ok(values.reshape(&self.shape)?)
    }
}

/// The parameters of a network, in the order in which its layers ask for them: layer by layer from the
/// input on, weight before bias.
///
/// # Errors
/// For a configuration that describes no network.
pub(crate) fn plan(config: &NetworkConfig) -> Result<Vec<Planned>> {
    let asked = Asked::default();
    let vb = VarBuilder::from_backend(Box::new(asked.clone()), DType::F32, Device::Cpu);
    let built = EmbeddingNet::new(config, vb);
    let planned = std::mem::take(&mut *asked.0.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(Planned { name, shape, .. }) = planned.iter().find(|planned| !planned.fits()) {
        let (layer, shape) = (name.trim_end_matches(".weight"), shape.dims());
        let problem = format!("would have {shape:?} weights; {MOST_WEIGHTS} are the most");
        return Err(ModelError::config(layer, problem));
    }
    built.map(|_| planned)
}

/// Notes what is asked for, and gives tensors of that shape that hold a single 0.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Planned>>>);

impl SimpleBackend for Asked {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let planned = Planned {
            name: name.into(),
            shape: shape.clone(),
            init,
        };
        let fits = planned.fits();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(planned);
        match fits {
            true => Tensor::zeros((), dtype, device)?.broadcast_as(shape),
            false => candle_core::bail!("{name} is too large"),
        }
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name} is asked for without its shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Uniform in [0, 1): the top 53 bits, written out so that the stream stays the same whatever
/// `rand` makes of its own conversion.
fn unit(rng: &mut impl RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
