use candle_core::{DType, Device, Tensor, Var};
use rand::RngCore;
use serde::{Deserialize, Serialize};

use crate::conv::conv;
use crate::linear::linear;
use crate::{Activation, ModelError, Result, conv_pool};

/// Side of the kernels of LeNet's convolutions.
const LENET_KERNEL: usize = 5;

/// Side of the kernels of a residual network's.
const RESNET_KERNEL: usize = 3;

/// Units of a layer, and sides of an image, at most; far beyond what these networks are good for.
const MOST_UNITS: usize = 1 << 16;

/// Values of one weight at most: 1 GiB of f32.
const MOST_WEIGHTS: usize = 1 << 28;

/// Stages of a residual network at most: an image of 65,536 pixels a side would be one.
const MOST_STAGES: usize = 16;

/// Fully connected layers between the trunk and the embedding at most.
const MOST_HIDDEN: usize = 64;

/// A fully connected layer between the trunk and the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hidden {
    /// Its outputs.
    pub units: usize,
    /// What follows its sum.
    pub activation: Activation,
}

/// What comes before the fully connected layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trunk {
    /// LeNet's: two 5×5 convolutions, each with a 2×2 max-pool.
    #[default]
    Lenet,
    /// Stages of a 3×3 convolution with a 2×2 max-pool, then a residual block, `activation(x +
    /// conv(activation(conv(x))))` with 3×3 convolutions that keep the size; after the last the mean
    /// over all places. A block's last convolution begins at 0, the block as the identity, so that it
    /// needs no batch normalisation: an image's embedding never depends on the others of its batch.
    SmallResnet,
}

/// A trunk, then fully connected layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Which trunk; absent from files before there was more than one.
    #[serde(default)]
    pub trunk: Trunk,
    /// One image: channels, height, width.
    #[serde(default = "mnist_input")]
    pub input: [usize; 3],
    /// Filters of the trunk's convolutions: LeNet's two, or each stage's of a residual network.
    pub channels: Vec<usize>,
    /// What follows each convolution's sum.
    pub conv_activation: Activation,
    /// The fully connected layers before the embedding, in order; may be empty.
    pub hidden: Vec<Hidden>,
    /// Dimensions of the embedding, a linear layer.
    pub embedding: usize,
}

fn mnist_input() -> [usize; 3] {
    [1, 28, 28]
}

impl NetworkConfig {
    /// The network of Caffe's `examples/siamese`: convolutions of 20 and 50 filters with no
    /// activation, 500 units with ReLU, 10 without. 431,102 parameters at embedding 2.
    pub fn caffe(embedding: usize) -> Self {
        Self {
            trunk: Trunk::Lenet,
            input: mnist_input(),
            channels: vec![20, 50],
            conv_activation: Activation::Linear,
            hidden: vec![
                Hidden {
                    units: 500,
                    activation: Activation::Relu,
                },
                Hidden {
                    units: 10,
                    activation: Activation::Linear,
                },
            ],
            embedding,
        }
    }

    /// A network with ReLU throughout, after the `EmbeddingNet` of adambielski/siamese-triplet
    /// (which has PReLU): convolutions of 32 and 64 filters, twice 256 units.
    pub fn relu(embedding: usize) -> Self {
        let hidden = Hidden {
            units: 256,
            activation: Activation::Relu,
        };
        Self {
            trunk: Trunk::Lenet,
            input: mnist_input(),
            channels: vec![32, 64],
            conv_activation: Activation::Relu,
            hidden: vec![hidden; 2],
            embedding,
        }
    }

    /// A residual network of three stages, for pictures that are more than strokes: 497,000 parameters
    /// or so, whatever the size of the images.
    pub fn small_resnet(embedding: usize) -> Self {
        Self {
            trunk: Trunk::SmallResnet,
            channels: vec![32, 64, 128],
            hidden: vec![Hidden {
                units: 128,
                activation: Activation::Relu,
            }],
            ..Self::relu(embedding)
        }
    }

    /// # Errors
    /// [`ModelError::Config`] for a size of 0, for layers too large to be meant, and for an image
    /// too small for the trunk: for LeNet's 16×16 is the smallest, and a residual network of S stages
    /// needs 2^S pixels a side.
    pub fn validate(&self) -> Result<()> {
        self.parameter_shapes().map(|_| ())
    }

    fn problem(field: impl Into<String>, problem: String) -> ModelError {
        ModelError::Config {
            field: field.into(),
            problem,
        }
    }

    /// The trunk's layers, and how many numbers it makes of an image.
    fn trunk_layers(&self) -> Result<(Vec<Layer>, usize)> {
        let [mut inputs, height, width] = self.input;
        match self.trunk {
            Trunk::Lenet => {
                let &[conv1, conv2] = &self.channels[..] else {
                    return Err(Self::problem(
                        "channels",
                        format!("is {:?}: LeNet has two convolutions", self.channels),
                    ));
                };
                let after = |side: usize| (side + 1).saturating_sub(LENET_KERNEL) / 2;
                let places = after(after(height)) * after(after(width));
                if places == 0 {
                    return Err(Self::problem(
                        "input",
                        format!(
                            "is {height}×{width}: two 5×5 convolutions, each followed by a 2×2 \
                             pool, need at least 16×16"
                        ),
                    ));
                }
                let kernel = [LENET_KERNEL; 2];
                let layers = vec![
                    Layer::conv("conv1", conv1, inputs, kernel),
                    Layer::conv("conv2", conv2, conv1, kernel),
                ];
                Ok((layers, places * conv2))
            }
            Trunk::SmallResnet => {
                let stages = self.channels.len();
                if !(1..=MOST_STAGES).contains(&stages) {
                    return Err(Self::problem(
                        "channels",
                        format!("has {stages} stages; a residual network has 1 to {MOST_STAGES}"),
                    ));
                }
                if height.min(width) >> stages == 0 {
                    return Err(Self::problem(
                        "input",
                        format!(
                            "is {height}×{width}: {stages} stages, each with a 2×2 pool, need at \
                             least {0}×{0}",
                            1 << stages
                        ),
                    ));
                }
                let mut layers = Vec::new();
                for (stage, &filters) in (1..).zip(&self.channels) {
                    let conv = |name: &str, inputs| {
                        let name = format!("stage{stage}.{name}");
                        Layer::conv(&name, filters, inputs, [RESNET_KERNEL; 2])
                    };
                    layers.push(conv("conv", inputs));
                    layers.push(conv("residual1", filters));
                    layers.push(Layer {
                        begins_at_zero: true,
                        ..conv("residual2", filters)
                    });
                    inputs = filters;
                }
                Ok((layers, inputs))
            }
        }
    }

    fn layers(&self) -> Result<Vec<Layer>> {
        if self.hidden.len() > MOST_HIDDEN {
            let found = self.hidden.len();
            return Err(Self::problem(
                "hidden",
                format!("has {found} layers; {MOST_HIDDEN} are the most"),
            ));
        }
        let mut sizes = vec![
            ("input".to_string(), self.input.to_vec()),
            ("channels".into(), self.channels.clone()),
            ("embedding".into(), vec![self.embedding]),
        ];
        for (i, hidden) in self.hidden.iter().enumerate() {
            sizes.push((format!("hidden[{i}].units"), vec![hidden.units]));
        }
        for (field, sizes) in sizes {
            if !sizes.iter().all(|size| (1..=MOST_UNITS).contains(size)) {
                let found = format!("is {sizes:?}: every size must be from 1 to {MOST_UNITS}");
                return Err(Self::problem(field, found));
            }
        }
        let (mut layers, mut inputs) = self.trunk_layers()?;
        for (i, hidden) in self.hidden.iter().enumerate() {
            layers.push(Layer::linear(&format!("ip{}", i + 1), hidden.units, inputs));
            inputs = hidden.units;
        }
        layers.push(Layer::linear("feat", self.embedding, inputs));
        for Layer { name, weight, .. } in &layers {
            let values = weight
                .iter()
                .try_fold(1usize, |n, &size| n.checked_mul(size));
            if values.is_none_or(|values| values > MOST_WEIGHTS) {
                let found = format!("would have {weight:?} weights; {MOST_WEIGHTS} are the most");
                return Err(Self::problem(name, found));
            }
        }
        Ok(layers)
    }

    /// Name, role and shape of every parameter, in order.
    pub(crate) fn parameter_shapes(&self) -> Result<Vec<(String, Role, Vec<usize>)>> {
        let layers = self.layers()?;
        Ok(layers.into_iter().flat_map(Layer::parameters).collect())
    }
}

/// A layer with a weight and a bias, which has the first of the weight's sizes.
struct Layer {
    name: String,
    weight: Vec<usize>,
    begins_at_zero: bool,
}

impl Layer {
    fn conv(name: &str, filters: usize, channels: usize, [height, width]: [usize; 2]) -> Self {
        Self {
            name: name.into(),
            weight: vec![filters, channels, height, width],
            begins_at_zero: false,
        }
    }

    fn linear(name: &str, outputs: usize, inputs: usize) -> Self {
        Self {
            name: name.into(),
            weight: vec![outputs, inputs],
            begins_at_zero: false,
        }
    }

    fn parameters(self) -> [(String, Role, Vec<usize>); 2] {
        let bias = vec![self.weight[0]];
        [
            (format!("{}.weight", self.name), Role::Weight, self.weight),
            (format!("{}.bias", self.name), Role::Bias, bias),
        ]
    }
}

/// What a parameter is to its layer. Caffe's solver multiplies the learning rate of biases by 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Multiplies the layer's input.
    Weight,
    /// Is added to the layer's sum.
    Bias,
}

/// One trained tensor. Clones share its values.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// The layer, then `.weight` or `.bias`. Caffe's names where there is one (`conv1`, `conv2`, `ip1`,
    /// `ip2`, …, `feat`), and `stage1.conv`, `stage1.residual1`, `stage1.residual2`, ….
    pub name: String,
    /// Weight or bias.
    pub role: Role,
    /// The values, in PyTorch's shape: (O, C, k, k), (outputs, inputs) or (outputs,).
    pub var: Var,
}

/// The trunk and its weights; both images of a pair go through this one network.
#[derive(Debug, Clone)]
pub struct Network {
    config: NetworkConfig,
    parameters: Vec<Parameter>,
}

impl Network {
    /// A new network with Caffe's Xavier initialisation: weights uniform in ±sqrt(3 / fan-in),
    /// biases 0, as are the weights that end a residual block.
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
            return Err(ModelError::DType {
                tensor: "a network",
                expected: "f32 or f64".into(),
                found: dtype,
            });
        }
        let mut parameters = Vec::new();
        for layer in config.layers()? {
            let begins_at_zero = layer.begins_at_zero;
            for (name, role, shape) in layer.parameters() {
                let count = shape.iter().product();
                let values = if role == Role::Bias || begins_at_zero {
                    vec![0.0; count]
                } else {
                    let fan_in: usize = shape[1..].iter().product();
                    let bound = (3.0 / fan_in as f64).sqrt();
                    (0..count)
                        .map(|_| bound * (2.0 * unit(rng) - 1.0))
                        .collect()
                };
                let values = Tensor::from_vec(values, shape, &Device::Cpu)?
                    .to_dtype(dtype)?
                    .to_device(device)?;
                parameters.push(Parameter {
                    name,
                    role,
                    var: Var::from_tensor(&values)?,
                });
            }
        }
        Ok(Self { config, parameters })
    }

    /// `parameters` has the names and shapes of `config.parameter_shapes()`, in that order.
    pub(crate) fn from_parameters(config: NetworkConfig, parameters: Vec<Parameter>) -> Self {
        Self { config, parameters }
    }

    /// What the network is.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The trained tensors: layer by layer from the input on, weight before bias.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Where the parameters are, all of them.
    pub fn device(&self) -> &Device {
        self.parameters[0].var.device()
    }

    /// Embeds `images` (N, C, H, W), of the network's element type and on its device: (N, D).
    ///
    /// # Errors
    /// [`ModelError::Shape`] unless (C, H, W) is the configuration's `input` and N at least 1,
    /// [`ModelError::DType`] for another element type, and whatever candle reports for the device.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let [c, h, w] = self.config.input;
        if images.dims().get(1..) != Some(&[c, h, w]) || images.elem_count() == 0 {
            return Err(ModelError::Shape {
                tensor: "images",
                expected: format!("(N, {c}, {h}, {w}) with N ≥ 1"),
                found: images.dims().to_vec(),
            });
        }
        let head = 2 * (self.config.hidden.len() + 1);
        let (trunk, head) = self.parameters.split_at(self.parameters.len() - head);
        let x = images.permute((0, 2, 3, 1))?;
        let mut x = match self.config.trunk {
            Trunk::Lenet => self.lenet(x, trunk)?,
            Trunk::SmallResnet => self.small_resnet(x, trunk)?,
        };
        let hidden = self.config.hidden.iter().map(|hidden| hidden.activation);
        let activations = hidden.chain([Activation::Linear]);
        for (layer, activation) in head.chunks_exact(2).zip(activations) {
            x = linear(&x, &layer[0].var, &layer[1].var, activation)?;
        }
        Ok(x)
    }

    /// Two convolutions and pools of `x` (N, H, W, C), then all numbers of an image in a row.
    fn lenet(&self, mut x: Tensor, layers: &[Parameter]) -> Result<Tensor> {
        for layer in layers.chunks_exact(2) {
            let activation = self.config.conv_activation;
            x = conv_pool(&x, &layer[0].var, &layer[1].var, activation)?;
        }
        // Flattened as (C, H, W), so that PyTorch's `flatten(1)` fits the same weights.
        Ok(x.permute((0, 3, 1, 2))?.flatten_from(1)?)
    }

    /// Stages over `x` (N, H, W, C), then the mean over all places.
    fn small_resnet(&self, mut x: Tensor, layers: &[Parameter]) -> Result<Tensor> {
        const AROUND: usize = RESNET_KERNEL / 2;
        let activation = self.config.conv_activation;
        for stage in layers.chunks_exact(6) {
            let [weight, bias, weight1, bias1, weight2, bias2] =
                std::array::from_fn(|i| stage[i].var.as_tensor());
            let padded = x
                .pad_with_zeros(1, AROUND, AROUND)?
                .pad_with_zeros(2, AROUND, AROUND)?;
            x = conv_pool(&padded, weight, bias, activation)?;
            let residual = conv(&x, weight1, bias1, activation)?;
            let residual = conv(&residual, weight2, bias2, Activation::Linear)?;
            x = activation.forward(&(x + residual)?)?;
        }
        Ok(x.mean((1, 2))?)
    }

    /// Embeds pairs in one pass: `images` (2B, C, H, W) holds the B first images, then the B
    /// second ones in the same order. Returns the two sides' embeddings, (B, D) each.
    ///
    /// # Errors
    /// As [`Network::forward`], and for an odd number of images.
    pub fn forward_pair(&self, images: &Tensor) -> Result<(Tensor, Tensor)> {
        if images.dims().first().is_none_or(|n| n % 2 == 1) {
            return Err(ModelError::Shape {
                tensor: "images",
                expected: "(2B, C, H, W): the first images of B pairs, then the second ones".into(),
                found: images.dims().to_vec(),
            });
        }
        let embeddings = self.forward(images)?;
        let pairs = embeddings.dim(0)? / 2;
        Ok((
            embeddings.narrow(0, 0, pairs)?,
            embeddings.narrow(0, pairs, pairs)?,
        ))
    }
}

/// Uniform in [0, 1): the top 53 bits, written out so that the stream stays the same whatever
/// `rand` makes of its own conversion.
fn unit(rng: &mut impl RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
