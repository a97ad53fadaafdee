use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};
use candle_nn::{Module, VarBuilder};

use super::Definition;
use super::halving::{Halving, Halvings, KERNEL};
use super::norm::Normed;
use crate::layers::inference::Prepare;
use crate::layers::{Conv, ONE, ZERO, xavier};
use crate::onnx::{Export, Graph, Value, int};
use crate::{Activation, ModelError, Norm};

/// A small residual network: stages, then the mean over each cell of a grid of G×G. Images (N, C, H, W) to
/// features (N, O·G·G), with O the filters of the last stage, or of all of them, the first one's features
/// first. With G = 1, the mean over all places.
#[derive(Clone, Debug)]
pub struct SmallResnet {
    stages: Vec<Stage>,
    grid: usize,
    every_stage: bool,
}

/// A 3×3 convolution with a 2×2 max-pool, then a residual block, `activation(x +
/// conv(activation(conv(x))))`, with 3×3 convolutions that keep the size. Each convolution may have a
/// normalisation behind it, the first one's behind the pool.
///
/// A block's last convolution begins at 0, or the gain of its normalisation does, so the block begins as
/// the identity: that lets the network train without batch normalisation, and an embedding never depends
/// on the other images of its batch.
#[derive(Clone, Debug)]
struct Stage {
    conv: Halving,
    residual1: Normed<Conv>,
    residual2: Normed<Conv>,
    activation: Activation,
}

impl SmallResnet {
    /// The parameters are `stage1.conv`, `stage1.residual1`, `stage1.residual2`, `stage2.conv`, …, each
    /// followed by that of its `norm`, such as `stage1.conv_norm`; there is a stage for each of
    /// `filters`.
    ///
    /// # Errors
    /// Those of `vb`.
    pub fn new(
        mut channels: usize,
        filters: &[usize],
        norm: Norm,
        activation: Activation,
        (grid, every_stage): (usize, bool),
        vb: VarBuilder,
    ) -> Result<Self> {
        let mut stages = Vec::new();
        for (number, &filters) in (1..).zip(filters) {
            let vb = &vb.pp(format!("stage{number}"));
            let random = xavier(filters * KERNEL * KERNEL);
            let residual = |name, activation, [weight, gain]: [_; 2]| {
                let finish = (norm, activation);
                Normed::new(finish, filters, gain, name, vb, |activation, vb| {
                    Conv::new(filters, filters, KERNEL, activation, weight, vb)
                })
            };
            let last = match norm {
                Norm::None => [ZERO, ONE],
                Norm::Group => [random, ZERO],
            };
            stages.push(Stage {
                conv: Halving::new(channels, filters, (norm, activation), "conv", vb)?,
                residual1: residual("residual1", activation, [random, ONE])?,
                residual2: residual("residual2", Activation::Linear, last)?,
                activation,
            });
            channels = filters;
        }
        Ok(Self {
            stages,
            grid,
            every_stage,
        })
    }
}

impl SmallResnet {
    /// The stages in order, each with whether its maps are among the features.
    fn stages(&self) -> impl Iterator<Item = (&Stage, bool)> {
        let last = self.stages.len() - 1;
        let stages = self.stages.iter().enumerate();
        stages.map(move |(number, stage)| (stage, self.every_stage || number == last))
    }
}

impl Prepare for Stage {
    fn prepare(&mut self) -> Result<()> {
        self.conv.prepare()?;
        self.residual1.prepare()?;
        self.residual2.prepare()
    }
}

impl Prepare for SmallResnet {
    fn prepare(&mut self) -> Result<()> {
        self.stages.iter_mut().try_for_each(Prepare::prepare)
    }
}

impl Module for Stage {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv.forward(x)?;
        let residual = self.residual1.forward(&x)?;
        self.residual2.residual(&residual, &x, self.activation)
    }
}

impl Module for SmallResnet {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        // The layers want channels last.
        let mut x = images.permute((0, 2, 3, 1))?;
        let mut features = Vec::new();
        for (stage, seen) in self.stages() {
            x = stage.forward(&x)?;
            if seen {
                features.push(cells(&x, self.grid)?);
            }
        }
        Tensor::cat(&features, 1)
    }
}

/// Maps (N, H, W, O) to features (N, O·G·G): flattened as (O, G, G), so that PyTorch's `flatten(1)` fits the
/// same weights.
fn cells(x: &Tensor, grid: usize) -> Result<Tensor> {
    match grid {
        1 => x.mean((1, 2)),
        _ => means(x, grid)?.transpose(1, 2)?.flatten_from(1),
    }
}

impl Export for Stage {
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let skip = self.conv.export(graph, x)?;
        let residual = self.residual1.export(graph, skip.clone())?;
        let residual = self.residual2.export(graph, residual)?;
        let sum = graph.elementwise("Add", &skip, &[&residual.name]);
        self.activation.export(graph, sum)
    }
}

impl Export for SmallResnet {
    fn export(&self, graph: &mut Graph, mut x: Value) -> Result<Value> {
        let mut features = Vec::new();
        for (stage, seen) in self.stages() {
            x = stage.export(graph, x)?;
            if seen {
                features.push(export_cells(graph, &x, self.grid)?);
            }
        }
        if let [features] = &features[..] {
            return Ok(features.clone());
        }
        let names: Vec<&str> = features.iter().map(|x| x.name.as_str()).collect();
        let sizes = features.iter().flat_map(|x| &x.dims);
        let axis = vec![int("axis", 1)];
        Ok(graph.add("Concat", &names, axis, &[sizes.sum()]))
    }
}

/// The mean over a cell is that of its rows' means, so two small matrices take the means of all cells.
fn export_cells(graph: &mut Graph, x: &Value, grid: usize) -> Result<Value> {
    let &[channels, height, width] = &x.dims[..] else {
        bail!("a residual network: maps of {:?}", x.dims);
    };
    let rows = averages(grid, height)?;
    let rows = graph.tensor(&rows, &[grid, height])?;
    let columns = averages(grid, width)?.t()?;
    let columns = graph.tensor(&columns, &[width, grid])?;
    let dims = [channels, grid, width];
    let x = graph.add("MatMul", &[&rows, &x.name], vec![], &dims);
    let dims = [channels, grid, grid];
    let x = graph.add("MatMul", &[&x.name, &columns], vec![], &dims);
    Ok(graph.flatten(&x))
}

/// The first place of a cell of a grid and how many it has, along a side.
fn cell(number: usize, grid: usize, side: usize) -> (usize, usize) {
    let first = number * side / grid;
    (first, ((number + 1) * side).div_ceil(grid) - first)
}

/// The matrix (G, S) that takes S places along a side to the means of a grid's cells.
fn averages(grid: usize, side: usize) -> Result<Tensor> {
    let share = |at: usize| {
        let (first, places) = cell(at / side, grid, side);
        match (first..first + places).contains(&(at % side)) {
            true => 1.0 / places as f32,
            false => 0.0,
        }
    };
    Tensor::from_iter((0..grid * side).map(share), &Device::Cpu)?.reshape((grid, side))
}

/// Means over the cells of a grid: (N, H, W, O) to (N, G·G, O), with the cells of PyTorch's
/// `adaptive_avg_pool2d`, which share a row or a column where G does not divide the side.
fn means(x: &Tensor, grid: usize) -> Result<Tensor> {
    let (_, height, width, _) = x.dims4()?;
    let mut means = Vec::new();
    for row in 0..grid {
        let (top, rows) = cell(row, grid, height);
        let band = x.narrow(1, top, rows)?;
        for column in 0..grid {
            let (left, columns) = cell(column, grid, width);
            means.push(band.narrow(2, left, columns)?.mean((1, 2))?);
        }
    }
    Tensor::stack(&means, 1)
}

const STAGES: Halvings = Halvings {
    trunk: "a residual network",
    layers: "stages",
    // An image of 65,536 pixels a side would be one pixel after as many.
    most: 16,
};

pub(super) const DEFINITION: Definition = Definition {
    layer: "residual stage",
    channels: &[32, 64, 128],
    norm: Norm::None,
    hidden: &[128],
    build: |config, vb| {
        STAGES.check(config)?;
        let (filters, grid) = (&config.channels[..], config.grid);
        let [channels, height, width] = config.input;
        let left = height.min(width) >> filters.len();
        if !(1..=left).contains(&grid) {
            let problem = format!("is {grid}; the last maps of {height}×{width} allow 1 to {left}");
            return Err(ModelError::config("grid", problem));
        }
        let (norm, activation) = (config.norm, config.conv_activation);
        let seen = (grid, config.every_stage);
        let trunk = SmallResnet::new(channels, filters, norm, activation, seen, vb)?;
        let seen: usize = match config.every_stage {
            true => filters.iter().sum(),
            false => filters[filters.len() - 1],
        };
        Ok((Arc::new(trunk), seen * grid * grid))
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_share_a_row_where_the_grid_does_not_divide_the_side() {
        // Two maps of 3×2: 0 to 5, and ten times as much.
        let maps: Vec<f32> = (0..6).flat_map(|v| [v as f32, 10.0 * v as f32]).collect();
        let x = Tensor::from_vec(maps, (1, 3, 2, 2), &Device::Cpu).unwrap();
        let found = means(&x, 2).unwrap().to_vec3::<f32>().unwrap();
        // Rows 0 and 1, then 1 and 2; as torch.nn.functional.adaptive_avg_pool2d gives them.
        assert_eq!(found, [[[1., 10.], [2., 20.], [3., 30.], [4., 40.]]]);
    }
}
