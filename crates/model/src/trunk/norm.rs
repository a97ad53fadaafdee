//! What a trunk's convolutions are normalised by.

use candle_core::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::layers::GroupNorm;
use crate::layers::inference::Prepare;
use crate::onnx::{Export, Graph, Value};
use crate::{Activation, ModelError};

/// Groups of channels, where their number divides the channels.
const GROUPS: usize = 8;

/// What a trunk's convolutions are normalised by, behind the pool and before the activation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Nothing.
    #[default]
    None,
    /// [`GroupNorm`] in 8 groups where 8 divides the channels, else in as many as the largest divisor of
    /// the channels below 8. An embedding depends on its own image alone.
    Group,
}

impl Norm {
    /// Refuses to normalise what would leave nothing of an image: groups of a single number, each its
    /// own mean.
    pub(super) fn check(self, channels: usize, places: usize) -> crate::Result<()> {
        if self == Self::Group && channels / groups(channels) * places == 1 {
            let problem = format!(
                "is group: {channels} channels on a single pixel fall into groups of one number \
                 each, which leave nothing of it; take channels that 8 divides, from 16 on, or \
                 larger images"
            );
            return Err(ModelError::config("norm", problem));
        }
        Ok(())
    }
}

fn groups(channels: usize) -> usize {
    let mut groups = (1..=GROUPS).rev();
    let divides = groups.find(|&groups| channels.is_multiple_of(groups));
    divides.unwrap_or(1)
}

/// A convolution, what it is normalised by, and the activation.
#[derive(Clone, Debug)]
pub(super) struct Normed<L> {
    conv: L,
    norm: Option<GroupNorm>,
}

impl<L> Normed<L> {
    /// `conv` makes the convolution, of `filters` filters and with the activation it is given. Its
    /// parameters are called `name`, and those of the norm `name` and `_norm`; the gain begins as `gain`
    /// says.
    ///
    /// A convolution before a norm keeps its bias, which the norm's own could take the place of: the
    /// layers stay the same with and without, and a few numbers cost nothing.
    pub fn new(
        (norm, activation): (Norm, Activation),
        filters: usize,
        gain: Init,
        name: &str,
        vb: &VarBuilder,
        conv: impl FnOnce(Activation, VarBuilder) -> Result<L>,
    ) -> Result<Self> {
        let before = match norm {
            Norm::None => activation,
            Norm::Group => Activation::Linear,
        };
        let conv = conv(before, vb.pp(name))?;
        let norm = match norm {
            Norm::None => None,
            Norm::Group => {
                let vb = vb.pp(format!("{name}_norm"));
                let groups = groups(filters);
                Some(GroupNorm::new(filters, groups, activation, gain, vb)?)
            }
        };
        Ok(Self { conv, norm })
    }
}

impl<L: Prepare> Prepare for Normed<L> {
    /// The normalisation is each image's own anyway.
    fn prepare(&mut self) -> Result<()> {
        self.conv.prepare()
    }
}

impl<L: Export> Export for Normed<L> {
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let x = self.conv.export(graph, x)?;
        match &self.norm {
            Some(norm) => norm.export(graph, x),
            None => Ok(x),
        }
    }
}

impl<L: Module> Normed<L> {
    /// `activation` of the sum of `skip` and the layer, which has none of its own.
    pub fn residual(&self, x: &Tensor, skip: &Tensor, activation: Activation) -> Result<Tensor> {
        let x = self.conv.forward(x)?;
        match &self.norm {
            Some(norm) => norm.residual(&x, skip, activation),
            None => activation.forward(&(skip + x)?),
        }
    }
}

impl<L: Module> Module for Normed<L> {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv.forward(x)?;
        self.norm
            .as_ref()
            .map_or(Ok(x.clone()), |norm| norm.forward(&x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_groups_or_as_many_as_divide_the_channels() {
        for (channels, expected) in [(64, 8), (8, 8), (20, 5), (50, 5), (12, 6), (7, 7), (11, 1)] {
            assert_eq!(groups(channels), expected, "{channels}");
        }
    }

    #[test]
    fn what_would_leave_nothing_is_refused() {
        for (norm, channels, places, refused) in [
            (Norm::Group, 8, 1, true),
            (Norm::Group, 7, 1, true),
            (Norm::Group, 8, 2, false),
            (Norm::Group, 16, 1, false),
            (Norm::Group, 11, 1, false),
            (Norm::None, 8, 1, false),
        ] {
            let found = norm.check(channels, places);
            assert_eq!(found.is_err(), refused, "{norm:?} {channels} {places}");
        }
    }
}
