//! What comes before the fully connected layers, a file each. A new trunk is a file with its module and
//! its [`Definition`], a variant of [`Trunk`] and an arm in [`Trunk::definition`].

mod conv4;
mod halving;
mod lenet;
mod norm;
mod onnx;
mod small_resnet;

use std::fmt::Debug;
use std::sync::Arc;

use candle_nn::{Module, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::layers::inference::Prepare;
use crate::onnx::Export;
use crate::{Activation, Hidden, NetworkConfig, Result};

pub use conv4::Conv4;
pub use lenet::LeNet;
pub use norm::Norm;
pub use small_resnet::SmallResnet;

/// What comes before the fully connected layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trunk {
    /// [`LeNet`].
    #[default]
    Lenet,
    /// [`SmallResnet`].
    SmallResnet,
    /// [`Conv4`].
    Conv4,
    /// A pretrained encoder, which runs outside the network and is not trained: the network's input is its
    /// features, (F, 1, 1).
    Onnx,
}

/// A trunk: images (N, C, H, W) to features (N, F).
pub(crate) trait TrunkModule: Module + Export + Debug + Send + Sync {
    /// The same, [laid out for inference](Prepare).
    fn prepared(&self) -> candle_core::Result<Arc<dyn TrunkModule>>;
}

impl<M: Module + Prepare + Export + Clone + Debug + Send + Sync + 'static> TrunkModule for M {
    fn prepared(&self) -> candle_core::Result<Arc<dyn TrunkModule>> {
        let mut prepared = self.clone();
        prepared.prepare()?;
        Ok(Arc::new(prepared))
    }
}

/// A trunk that was made, and the number of its features.
pub(crate) type Built = (Arc<dyn TrunkModule>, usize);

/// What the network and its settings have to know of a trunk.
pub(crate) struct Definition {
    /// What people call one of the layers that `channels` counts.
    pub layer: &'static str,
    /// Filters, where nothing else is said.
    pub channels: &'static [usize],
    /// What its convolutions are normalised by, where nothing else is said.
    pub norm: Norm,
    /// Units of the fully connected layers behind it, where nothing else is said.
    pub hidden: &'static [usize],
    /// Checks a configuration and makes its trunk; and how many features that makes of an image.
    pub build: fn(&NetworkConfig, VarBuilder) -> Result<Built>,
}

impl Trunk {
    pub(crate) fn definition(self) -> Definition {
        match self {
            Self::Lenet => lenet::DEFINITION,
            Self::SmallResnet => small_resnet::DEFINITION,
            Self::Conv4 => conv4::DEFINITION,
            Self::Onnx => onnx::DEFINITION,
        }
    }

    /// What people call one of its layers, such as `conv`.
    pub fn layer(self) -> &'static str {
        self.definition().layer
    }

    /// The filters of its layers, where nothing else is said.
    pub fn default_channels(self) -> Vec<usize> {
        self.definition().channels.to_vec()
    }

    /// What its convolutions are normalised by, where nothing else is said.
    pub fn default_norm(self) -> Norm {
        self.definition().norm
    }

    /// The fully connected layers behind it, where nothing else is said.
    pub fn default_hidden(self) -> Vec<Hidden> {
        let units = self.definition().hidden.iter();
        units
            .map(|&units| Hidden {
                units,
                activation: Activation::Relu,
            })
            .collect()
    }
}
