use serde::{Deserialize, Serialize};

use crate::parameter::plan;
use crate::{Activation, ModelError, Norm, Result, Trunk};

/// Units of a layer, and sides of an image, at most; far beyond what these networks are good for.
const MOST_UNITS: usize = 1 << 16;

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
    /// Filters of the trunk's layers: LeNet's two convolutions, each stage of a residual network, or each
    /// block of `conv4`.
    pub channels: Vec<usize>,
    /// What follows each convolution's sum, behind the `norm` if there is one.
    pub conv_activation: Activation,
    /// What the trunk's convolutions are normalised by; absent from model files where it is nothing.
    #[serde(default)]
    pub norm: Norm,
    /// A residual network's last maps are averaged over each cell of a grid of so many cells a side: 1
    /// for their mean over all places, which does not see where things are. Absent from model files
    /// where it is 1.
    #[serde(default = "one")]
    pub grid: usize,
    /// Whether the features are those of the maps of every stage of a residual network, each averaged over
    /// the same grid, and not of the last stage's alone; absent from model files where they are not.
    #[serde(default)]
    pub every_stage: bool,
    /// The fully connected layers before the embedding, in order; may be empty.
    pub hidden: Vec<Hidden>,
    /// Dimensions of the embedding, a linear layer.
    pub embedding: usize,
    /// Whether an embedding is divided by its Euclidean length; absent from model files where it is not.
    #[serde(default)]
    pub normalised: bool,
}

fn one() -> usize {
    1
}

fn mnist_input() -> [usize; 3] {
    [1, 28, 28]
}

impl NetworkConfig {
    /// The network of Caffe's `examples/siamese`: convolutions of 20 and 50 filters with no
    /// activation, 500 units with ReLU, 10 without. 431,102 parameters at embedding 2.
    pub fn caffe(embedding: usize) -> Self {
        Self {
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
            ..Self::of(Trunk::Lenet, embedding)
        }
    }

    /// The network that a trunk makes where nothing else is said, with ReLU throughout, for MNIST's
    /// images.
    pub fn of(trunk: Trunk, embedding: usize) -> Self {
        Self {
            trunk,
            input: mnist_input(),
            channels: trunk.default_channels(),
            conv_activation: Activation::Relu,
            norm: trunk.default_norm(),
            grid: 1,
            every_stage: false,
            hidden: trunk.default_hidden(),
            embedding,
            normalised: false,
        }
    }

    /// A network with ReLU throughout, after the `EmbeddingNet` of adambielski/siamese-triplet
    /// (which has PReLU): convolutions of 32 and 64 filters, twice 256 units.
    pub fn relu(embedding: usize) -> Self {
        Self::of(Trunk::Lenet, embedding)
    }

    /// A residual network of three stages, for pictures that are more than strokes: 497,000 parameters
    /// or so, whatever the size of the images.
    pub fn small_resnet(embedding: usize) -> Self {
        Self::of(Trunk::SmallResnet, embedding)
    }

    /// Four convolutions of 64 filters with group normalisation and a linear embedding of what they give,
    /// after the networks that learn from few images: 112,000 parameters or so, and 64 more for each
    /// dimension of the embedding and pixel that is left of an image.
    pub fn conv4(embedding: usize) -> Self {
        Self::of(Trunk::Conv4, embedding)
    }

    /// # Errors
    /// [`ModelError::Config`] for a size of 0, for layers too large to be meant, for an image too small
    /// for the trunk (for LeNet's 16×16 is the smallest, and a residual network of S stages or a `conv4`
    /// of S blocks needs 2^S pixels a side), and for a normalisation of single numbers, which would leave
    /// nothing of them.
    pub fn validate(&self) -> Result<()> {
        plan(self).map(|_| ())
    }

    /// Checks every size but those that the trunk alone knows.
    pub(crate) fn check_sizes(&self) -> Result<()> {
        if self.hidden.len() > MOST_HIDDEN {
            let found = self.hidden.len();
            let problem = format!("has {found} layers; {MOST_HIDDEN} are the most");
            return Err(ModelError::config("hidden", problem));
        }
        if self.grid != 1 && self.trunk != Trunk::SmallResnet {
            let problem = format!(
                "is {}: only the maps of a small-resnet are averaged",
                self.grid
            );
            return Err(ModelError::config("grid", problem));
        }
        if self.every_stage && self.trunk != Trunk::SmallResnet {
            let problem = "is true: only a small-resnet has stages".into();
            return Err(ModelError::config("every_stage", problem));
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
                let problem = format!("is {sizes:?}: every size must be from 1 to {MOST_UNITS}");
                return Err(ModelError::config(field, problem));
            }
        }
        Ok(())
    }
}
