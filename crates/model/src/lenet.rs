use candle_core::{DType, Device, Tensor, Var};
use rand::RngCore;
use serde::{Deserialize, Serialize};

use crate::linear::linear;
use crate::{Activation, ModelError, Result, conv_pool};

/// Side of both convolutions' kernels.
const KERNEL: usize = 5;

/// Units of a layer, and sides of an image, at most; far beyond what a LeNet is good for.
const MOST_UNITS: usize = 1 << 16;

/// Values of one weight at most: 1 GiB of f32.
const MOST_WEIGHTS: usize = 1 << 28;

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

/// A LeNet: two 5×5 convolutions, each with a 2×2 max-pool, then fully connected layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeNetConfig {
    /// One image: channels, height, width.
    #[serde(default = "mnist_input")]
    pub input: [usize; 3],
    /// Filters of the first and of the second convolution.
    pub channels: [usize; 2],
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

impl LeNetConfig {
    /// The network of Caffe's `examples/siamese`: convolutions of 20 and 50 filters with no
    /// activation, 500 units with ReLU, 10 without. 431,102 parameters at embedding 2.
    pub fn caffe(embedding: usize) -> Self {
        Self {
            input: mnist_input(),
            channels: [20, 50],
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
            input: mnist_input(),
            channels: [32, 64],
            conv_activation: Activation::Relu,
            hidden: vec![hidden; 2],
            embedding,
        }
    }

    /// # Errors
    /// [`ModelError::Config`] for a size of 0, for layers too large to be meant, and for an image
    /// too small for the two convolutions and pools: 16×16 is the smallest.
    pub fn validate(&self) -> Result<()> {
        self.parameter_shapes().map(|_| ())
    }

    /// Name and shape of each layer's weight, in order; its bias has the first of its sizes.
    fn layers(&self) -> Result<Vec<(String, Vec<usize>)>> {
        let problem = |field: &str, problem: String| ModelError::Config {
            field: field.into(),
            problem,
        };
        if self.hidden.len() > MOST_HIDDEN {
            let found = self.hidden.len();
            return Err(problem(
                "hidden",
                format!("has {found} layers; {MOST_HIDDEN} are the most"),
            ));
        }
        let mut sizes = vec![
            ("input".to_string(), self.input.to_vec()),
            ("channels".into(), self.channels.to_vec()),
            ("embedding".into(), vec![self.embedding]),
        ];
        for (i, hidden) in self.hidden.iter().enumerate() {
            sizes.push((format!("hidden[{i}].units"), vec![hidden.units]));
        }
        for (field, sizes) in sizes {
            if !sizes.iter().all(|size| (1..=MOST_UNITS).contains(size)) {
                let found = format!("is {sizes:?}: every size must be from 1 to {MOST_UNITS}");
                return Err(problem(&field, found));
            }
        }
        let [channels, height, width] = self.input;
        let after = |side: usize| side.checked_sub(KERNEL - 1).map_or(0, |side| side / 2);
        let [height_out, width_out] = [after(after(height)), after(after(width))];
        if height_out == 0 || width_out == 0 {
            return Err(problem(
                "input",
                format!(
                    "is {height}×{width}: two 5×5 convolutions, each followed by a 2×2 pool, need \
                     at least 16×16"
                ),
            ));
        }
        let [conv1, conv2] = self.channels;
        let Some(mut inputs) = height_out
            .checked_mul(width_out)
            .and_then(|positions| positions.checked_mul(conv2))
        else {
            return Err(problem("channels", format!("has {conv2}: too many")));
        };
        let mut layers = vec![
            ("conv1".to_string(), vec![conv1, channels, KERNEL, KERNEL]),
            ("conv2".into(), vec![conv2, conv1, KERNEL, KERNEL]),
        ];
        for (i, hidden) in self.hidden.iter().enumerate() {
            layers.push((format!("ip{}", i + 1), vec![hidden.units, inputs]));
            inputs = hidden.units;
        }
        layers.push(("feat".into(), vec![self.embedding, inputs]));
        Ok(layers)
    }

    /// Name, role and shape of every parameter, in order.
    pub(crate) fn parameter_shapes(&self) -> Result<Vec<(String, Role, Vec<usize>)>> {
        let mut parameters = Vec::new();
        for (layer, weight) in self.layers()? {
            let values = weight
                .iter()
                .try_fold(1usize, |n, &size| n.checked_mul(size));
            if values.is_none_or(|values| values > MOST_WEIGHTS) {
                return Err(ModelError::Config {
                    field: layer,
                    problem: format!("would have {weight:?} weights; {MOST_WEIGHTS} are the most"),
                });
            }
            let bias = vec![weight[0]];
            parameters.push((format!("{layer}.weight"), Role::Weight, weight));
            parameters.push((format!("{layer}.bias"), Role::Bias, bias));
        }
        Ok(parameters)
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
    /// Caffe's layer (`conv1`, `conv2`, `ip1`, `ip2`, …, `feat`), then `.weight` or `.bias`.
    pub name: String,
    /// Weight or bias.
    pub role: Role,
    /// The values, in PyTorch's shape: (O, C, 5, 5), (outputs, inputs) or (outputs,).
    pub var: Var,
}

/// The trunk and its weights; both images of a pair go through this one network.
#[derive(Debug, Clone)]
pub struct LeNet {
    config: LeNetConfig,
    parameters: Vec<Parameter>,
}

impl LeNet {
    /// A new network with Caffe's Xavier initialisation: weights uniform in ±sqrt(3 / fan-in),
    /// biases 0.
    ///
    /// Weights are drawn in f64 in the order of [`LeNet::parameters`], 64 bits each, so that the
    /// same `rng` gives the same network in f32 and f64 but for rounding.
    ///
    /// # Errors
    /// A configuration that fails [`LeNetConfig::validate`], a `dtype` other than f32 and f64,
    /// and whatever candle reports for the device.
    pub fn new(
        config: LeNetConfig,
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
        for (name, role, shape) in config.parameter_shapes()? {
            let count = shape.iter().product();
            let values = match role {
                Role::Bias => vec![0.0; count],
                Role::Weight => {
                    let fan_in: usize = shape[1..].iter().product();
                    let bound = (3.0 / fan_in as f64).sqrt();
                    (0..count)
                        .map(|_| bound * (2.0 * unit(rng) - 1.0))
                        .collect()
                }
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
        Ok(Self { config, parameters })
    }

    /// `parameters` has the names and shapes of `config.parameter_shapes()`, in that order.
    pub(crate) fn from_parameters(config: LeNetConfig, parameters: Vec<Parameter>) -> Self {
        Self { config, parameters }
    }

    /// What the network is.
    pub fn config(&self) -> &LeNetConfig {
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
        let activation = self.config.conv_activation;
        let (trunk, head) = self.parameters.split_at(4);
        let mut x = images.permute((0, 2, 3, 1))?;
        for layer in trunk.chunks_exact(2) {
            x = conv_pool(&x, &layer[0].var, &layer[1].var, activation)?;
        }
        // Flattened as (C, H, W), so that PyTorch's `flatten(1)` fits the same weights.
        x = x.permute((0, 3, 1, 2))?.flatten_from(1)?;
        let hidden = self.config.hidden.iter().map(|hidden| hidden.activation);
        let activations = hidden.chain([Activation::Linear]);
        for (layer, activation) in head.chunks_exact(2).zip(activations) {
            x = linear(&x, &layer[0].var, &layer[1].var, activation)?;
        }
        Ok(x)
    }

    /// Embeds pairs in one pass: `images` (2B, C, H, W) holds the B first images, then the B
    /// second ones in the same order. Returns the two sides' embeddings, (B, D) each.
    ///
    /// # Errors
    /// As [`LeNet::forward`], and for an odd number of images.
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
