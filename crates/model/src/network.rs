use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, VarBuilder};
use rand::RngCore;

use crate::embedder::Embedder;
use crate::layers::Linear;
use crate::layers::inference::Prepare;
use crate::onnx::{Export, Graph, Value, divided_by_length};
use crate::parameter::plan;
use crate::trunk::TrunkModule;
use crate::{Activation, ModelError, NetworkConfig, Parameter, Result, Trunk};

/// A trunk, then fully connected layers, as a candle module: images (N, C, H, W) to embeddings (N, D).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap};
/// use model::{EmbeddingNet, NetworkConfig};
///
/// # fn main() -> Result<(), model::ModelError> {
/// let weights = VarMap::new();
/// let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
/// let net = EmbeddingNet::new(&NetworkConfig::relu(2), vb)?;
/// let images = Tensor::zeros((3, 1, 28, 28), DType::F32, &Device::Cpu)?;
/// assert_eq!(net.forward(&images)?.dims(), [3, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct EmbeddingNet {
    trunk: Arc<dyn TrunkModule>,
    head: Vec<Linear>,
    normalised: bool,
}

impl EmbeddingNet {
    /// The network that `config` describes, with the parameters of `vb`: those of the trunk, then `ip1`,
    /// `ip2`, … and `feat`.
    ///
    /// # Errors
    /// A configuration that fails [`NetworkConfig::validate`], and those of `vb`.
    pub fn new(config: &NetworkConfig, vb: VarBuilder) -> Result<Self> {
        config.check_sizes()?;
        let (trunk, mut inputs) = (config.trunk.definition().build)(config, vb.clone())?;
        let mut head = Vec::new();
        for (number, hidden) in (1..).zip(&config.hidden) {
            let vb = vb.pp(format!("ip{number}"));
            head.push(Linear::new(inputs, hidden.units, hidden.activation, vb)?);
            inputs = hidden.units;
        }
        let vb = vb.pp("feat");
        head.push(Linear::new(
            inputs,
            config.embedding,
            Activation::Linear,
            vb,
        )?);
        Ok(Self {
            trunk,
            head,
            normalised: config.normalised,
        })
    }

    /// The embeddings before they are normalised, for a loss that does so itself.
    ///
    /// # Errors
    /// Whatever candle reports for the shapes and the device.
    pub fn forward_raw(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.through(images, self.head.len())
    }

    /// The input of the last layer, `feat`: images (N, C, H, W) to features (N, F).
    ///
    /// # Errors
    /// Whatever candle reports for the shapes and the device.
    pub fn features(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.through(images, self.head.len() - 1)
    }

    /// What the trunk and the first `layers` fully connected layers make of `images`.
    fn through(&self, images: &Tensor, layers: usize) -> candle_core::Result<Tensor> {
        let features = self.trunk.forward(images)?;
        let mut head = self.head[..layers].iter();
        head.try_fold(features, |x, layer| layer.forward(&x))
    }
}

impl Prepare for EmbeddingNet {
    fn prepare(&mut self) -> candle_core::Result<()> {
        self.trunk = self.trunk.prepared()?;
        self.head.iter_mut().try_for_each(Prepare::prepare)
    }
}

impl Export for EmbeddingNet {
    fn export(&self, graph: &mut Graph, images: Value) -> candle_core::Result<Value> {
        let features = self.trunk.export(graph, images)?;
        let mut head = self.head.iter();
        let embeddings = head.try_fold(features, |x, layer| layer.export(graph, x))?;
        Ok(match self.normalised {
            true => divided_by_length(graph, &embeddings),
            false => embeddings,
        })
    }
}

impl Module for EmbeddingNet {
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let embeddings = self.forward_raw(images)?;
        match self.normalised {
            true => normalise(&embeddings),
            false => Ok(embeddings),
        }
    }
}

/// Divides each row by its Euclidean length; a row of zeros stays as it is.
fn normalise(rows: &Tensor) -> candle_core::Result<Tensor> {
    let squares = rows.sqr()?.sum_keepdim(1)?;
    let zero = squares.eq(0f64)?.to_dtype(squares.dtype())?;
    rows.broadcast_div(&(squares + zero)?.sqrt()?)
}

/// A network and its weights; both images of a pair go through this one network.
#[derive(Debug, Clone)]
pub struct Network {
    config: NetworkConfig,
    layers: EmbeddingNet,
    parameters: Vec<Parameter>,
    /// How many of them, from the first on, take no gradient.
    frozen: usize,
}

impl Network {
    /// A new network with Caffe's Xavier initialisation: weights uniform in ±sqrt(3 / fan-in),
    /// biases 0, as are the weights that end a residual block; the gains of a normalisation 1, or those
    /// 0 where it ends a residual block.
    ///
    /// Weights are drawn in f64 in the order of [`Network::parameters`], 64 bits each, so that the
    /// same `rng` gives the same network in f32 and f64 but for rounding.
    ///
    /// # Errors
    /// A configuration that fails [`NetworkConfig::validate`], a `dtype` other than f32 and f64,
    /// and whatever candle reports for the device.
    pub fn new(
        config: NetworkConfig,
        dtype: DType,
        device: &Device,
        rng: &mut impl RngCore,
    ) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(ModelError::dtype("a network", "f32 or f64", dtype));
        }
        let parameters = plan(&config)?.into_iter().map(|planned| {
            let values = planned.first_values(rng)?.to_dtype(dtype)?;
            planned.with(&values.to_device(device)?)
        });
        let parameters = parameters.collect::<Result<Vec<_>>>()?;
        Self::from_parameters(config, parameters)
    }

    /// `parameters` are those of `config`'s plan, in that order.
    pub(crate) fn from_parameters(
        config: NetworkConfig,
        parameters: Vec<Parameter>,
    ) -> Result<Self> {
        Self::assemble(config, parameters, 0)
    }

    /// The same, with the first `frozen` parameters as constants.
    fn assemble(config: NetworkConfig, parameters: Vec<Parameter>, frozen: usize) -> Result<Self> {
        let first = parameters[0].var.as_tensor();
        let (dtype, device) = (first.dtype(), first.device().clone());
        let tensors = parameters.iter().enumerate().map(|(place, parameter)| {
            let tensor = parameter.var.as_tensor();
            let tensor = match place < frozen {
                // Of the same values, later ones too, and none that a gradient is computed for.
                true => tensor.detach(),
                // The very tensors of the variables, so that gradients are theirs.
                false => tensor.clone(),
            };
            (parameter.name.clone(), tensor)
        });
        let tensors: HashMap<String, Tensor> = tensors.collect();
        let vb = VarBuilder::from_tensors(tensors, dtype, &device);
        Ok(Self {
            layers: EmbeddingNet::new(&config, vb)?,
            config,
            parameters,
            frozen,
        })
    }

    /// This network with a trunk that takes no gradient, so that a backward pass ends before it. The
    /// parameters are this network's: the values are shared.
    ///
    /// # Errors
    /// Whatever candle reports for the device.
    pub fn with_frozen_trunk(&self) -> Result<Self> {
        // A weight and a bias of each fully connected layer.
        let of_head = 2 * (self.config.hidden.len() + 1);
        let frozen = self.parameters.len() - of_head;
        Self::assemble(self.config.clone(), self.parameters.clone(), frozen)
    }

    /// Those of the [parameters](Self::parameters) that take a gradient: all, or all but those of a
    /// [frozen trunk](Self::with_frozen_trunk).
    pub fn trained_parameters(&self) -> &[Parameter] {
        &self.parameters[self.frozen..]
    }

    /// What the network is.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The trained tensors: layer by layer from the input on, weight before bias.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Takes the values of those parameters of `other` that have the name and the shape of one of this
    /// network's. Returns the names of this network's that keep their own.
    ///
    /// # Errors
    /// Whatever candle reports for the device.
    pub fn take_from(&self, other: &Self) -> Result<Vec<&str>> {
        let mut kept = Vec::new();
        for own in &self.parameters {
            let mut theirs = other.parameters.iter();
            let theirs = theirs.find(|p| p.name == own.name && p.var.shape() == own.var.shape());
            match theirs {
                Some(theirs) => {
                    let values = theirs.var.to_dtype(own.var.dtype())?;
                    own.var.set(&values.to_device(own.var.device())?)?;
                }
                None => kept.push(own.name.as_str()),
            }
        }
        Ok(kept)
    }

    /// The weight (D, F) and the bias (D,) of the last layer, `feat`, which makes embeddings of
    /// [features](Self::features).
    pub fn last_layer(&self) -> (&Var, &Var) {
        let [.., weight, bias] = &self.parameters[..] else {
            unreachable!("every network has a last layer");
        };
        (&weight.var, &bias.var)
    }

    /// This network with another last layer, with as many dimensions as `weight` (D, F) has rows, `bias`
    /// (D,), and embeddings that are `normalised` or not. The other layers are this network's: the values
    /// are shared.
    ///
    /// # Errors
    /// For shapes that don't fit, and whatever candle reports for the device.
    pub fn with_last_layer(
        &self,
        weight: &Tensor,
        bias: &Tensor,
        normalised: bool,
    ) -> Result<Self> {
        let config = NetworkConfig {
            embedding: weight.dims2()?.0,
            normalised,
            ..self.config.clone()
        };
        self.ending(config, weight, bias)
    }

    /// This network with its last maps averaged over each cell of a [grid](NetworkConfig::grid) of `grid`
    /// cells a side, those of [every stage](NetworkConfig::every_stage) or the last's alone, and otherwise
    /// its embeddings, but for rounding: a last layer that is fitted to the [features](Self::features) of
    /// this one may tell where things are, and what the later stages make nothing of.
    ///
    /// `None` where that cannot be: the network is no residual network that takes the mean of all places,
    /// or has further layers behind it, or the cells would differ in size.
    ///
    /// # Errors
    /// Whatever candle reports for the device.
    pub fn on_grid(&self, grid: usize, every_stage: bool) -> Result<Option<Self>> {
        let NetworkConfig {
            trunk,
            input: [_, height, width],
            ..
        } = self.config;
        let stages = self.config.channels.len();
        let fits = |side: usize| grid > 0 && (side >> stages).is_multiple_of(grid);
        let whole = trunk == Trunk::SmallResnet
            && self.config.grid == 1
            && !self.config.every_stage
            && self.config.hidden.is_empty();
        if !(whole && fits(height) && fits(width)) {
            return Ok(None);
        }
        let (weight, bias) = self.last_layer();
        let (dimensions, filters) = weight.dims2()?;
        let cells = grid * grid;
        // The mean of all places is that of the cells' means.
        let weight = (weight.as_tensor() / cells as f64)?
            .unsqueeze(2)?
            .broadcast_as((dimensions, filters, cells))?
            .reshape((dimensions, filters * cells))?;
        let others = match every_stage {
            true => self.config.channels.iter().sum::<usize>() - filters,
            false => 0,
        };
        let weight = weight.pad_with_zeros(1, others * cells, 0)?;
        let config = NetworkConfig {
            grid,
            every_stage,
            ..self.config.clone()
        };
        self.ending(config, &weight, bias).map(Some)
    }

    /// The network of `config` with the layers of this one, but for the last.
    fn ending(&self, config: NetworkConfig, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let mut parameters = self.parameters.clone();
        for (parameter, values) in parameters.iter_mut().rev().zip([bias, weight]) {
            let values = values.to_dtype(parameter.var.dtype())?;
            // A copy, so that no two variables share their values.
            parameter.var = Var::from_tensor(&values.to_device(self.device())?.copy()?)?;
        }
        Self::from_parameters(config, parameters)
    }

    /// This network with its weights as they are now, laid out to embed images.
    ///
    /// # Errors
    /// Whatever candle reports for the device.
    pub fn embedder(&self) -> Result<Embedder> {
        // Copies, which later steps of a training run do not change.
        let copy = |p: &Parameter| Ok((p.name.clone(), p.var.as_detached_tensor().copy()?));
        let tensors: Result<HashMap<String, Tensor>> = self.parameters.iter().map(copy).collect();
        let first = &self.parameters[0].var;
        let vb = VarBuilder::from_tensors(tensors?, first.dtype(), first.device());
        let mut layers = EmbeddingNet::new(&self.config, vb)?;
        layers.prepare()?;
        Ok(Embedder::new(layers, self.config.input))
    }

    /// Where the parameters are, all of them.
    pub fn device(&self) -> &Device {
        self.parameters[0].var.device()
    }

    /// Embeds `images` (N, C, H, W), of the network's element type and on its device: (N, D).
    ///
    /// # Errors
    /// [`ModelError::Input`] unless (C, H, W) is the configuration's `input` and N at least 1, or for
    /// another element type, and whatever candle reports for the device.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.check(images)?;
        Ok(self.layers.forward(images)?)
    }

    /// As [`forward`](Self::forward), before the embeddings are normalised: for a loss that does so
    /// itself. The same where the network does not normalise.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_raw(&self, images: &Tensor) -> Result<Tensor> {
        self.check(images)?;
        Ok(self.layers.forward_raw(images)?)
    }

    /// The features of `images` (N, C, H, W) that the last layer makes embeddings of: (N, F).
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        self.check(images)?;
        Ok(self.layers.features(images)?)
    }

    /// Embeds pairs in one pass, as [`forward_raw`](Self::forward_raw) does: `images` (2B, C, H, W) holds
    /// the B first images, then the B second ones in the same order. Returns the two sides' embeddings,
    /// (B, D) each.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and for an odd number of images.
    pub fn forward_pair(&self, images: &Tensor) -> Result<(Tensor, Tensor)> {
        if images.dims().first().is_none_or(|n| n % 2 == 1) {
            let expected = "(2B, C, H, W): the first images of B pairs, then the second ones";
            return Err(ModelError::shape("images", expected, images));
        }
        let embeddings = self.forward_raw(images)?;
        let pairs = embeddings.dim(0)? / 2;
        Ok((
            embeddings.narrow(0, 0, pairs)?,
            embeddings.narrow(0, pairs, pairs)?,
        ))
    }

    fn check(&self, images: &Tensor) -> Result<()> {
        check(images, self.config.input)
    }
}

/// Refuses what are not images of the shape (C, H, W) of a network's `input`.
pub(crate) fn check(images: &Tensor, [c, h, w]: [usize; 3]) -> Result<()> {
    if images.dims().get(1..) != Some(&[c, h, w]) || images.elem_count() == 0 {
        let expected = format!("(N, {c}, {h}, {w}) with N ≥ 1");
        return Err(ModelError::shape("images", expected, images));
    }
    Ok(())
}

impl Module for Network {
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        Ok(Self::forward(self, images)?)
    }
}
