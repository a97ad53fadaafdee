//! Group normalisation (Wu and He 2018) with its activation, as one candle op with its own backward.
//!
//! The channels of an image fall into G groups of neighbours. With the mean and the variance over all
//! places and all channels of a group:
//!
//! ```text
//! result[y, x, c] = activation( gain[c] · (image[y, x, c] − mean) / √(variance + 1e-5) + bias[c] )
//! ```
//!
//! Each image is normalised by itself, so that an embedding never depends on the other images of its
//! batch. Each pass over an image goes from place to place, all channels at once, and its sums are f64,
//! one for each channel. candle's own layer takes a dozen passes over the whole batch.

use std::sync::OnceLock;

use candle_core::{DType, Result, Shape, Tensor, bail};
use candle_nn::{GroupNorm as Stock, Init, Module, VarBuilder};
use pulp::Arch;
use rayon::prelude::*;

use super::conv_pool::Buffered;
use super::cpu_op::{Layer, add_to, apply};
use super::{Activation, ZERO};
use crate::onnx::{Export, Graph, Value, float};

/// Keeps a group whose values are all the same from a division by 0; PyTorch's default.
const EPSILON: f64 = 1e-5;

/// A group normalisation and its activation: (N, H, W, C) to (N, H, W, C).
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    activation: Activation,
}

impl GroupNorm {
    /// `groups` groups of `channels` channels; one group is a layer normalisation. The gain, `weight`
    /// (C,), begins as `gain` says, and `bias` (C,) at 0.
    ///
    /// # Errors
    /// Where `groups` does not divide `channels`, and those of `vb`.
    pub fn new(
        channels: usize,
        groups: usize,
        activation: Activation,
        gain: Init,
        vb: VarBuilder,
    ) -> Result<Self> {
        check(channels, groups)?;
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", gain)?,
            bias: vb.get_with_hints(channels, "bias", ZERO)?,
            groups,
            activation,
        })
    }
}

impl Module for GroupNorm {
    /// On the CPU result and gradients have the same bits for any number of rayon threads.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let op = self.op(x)?;
        if !x.device().is_cpu() {
            return self.composed(x);
        }
        apply(op, x, &self.weight, &self.bias)
    }
}

impl GroupNorm {
    /// The end of a residual block, `activation(skip + normalised x)`, of two tensors (N, H, W, C). The
    /// layer's own activation has no part in it. Threads and bits are as in
    /// [`forward`](Module::forward).
    ///
    /// # Errors
    /// Shapes or types that do not fit.
    pub fn residual(&self, x: &Tensor, skip: &Tensor, activation: Activation) -> Result<Tensor> {
        if skip.dims() != x.dims() {
            let (skip, x) = (skip.dims(), x.dims());
            bail!("group norm: a skip connection of {skip:?} for images of {x:?}");
        }
        let op = NormOp {
            activation,
            ..self.op(x)?
        };
        if !x.device().is_cpu() {
            let linear = Self {
                activation: Activation::Linear,
                ..self.clone()
            };
            return activation.forward(&(skip + linear.composed(x)?)?);
        }
        // An op has three inputs at most.
        let affine = Tensor::stack(&[&self.weight, &self.bias], 0)?;
        apply(Residual(op), x, &affine, skip)
    }

    fn op(&self, x: &Tensor) -> Result<NormOp> {
        let (images, height, width, channels) = x.dims4()?;
        check(channels, self.groups)?;
        for (what, found) in [("gains", &self.weight), ("biases", &self.bias)] {
            if found.dims() != [channels] {
                let found = found.dims();
                bail!("group norm: {what} of {found:?} for images of {channels} channels");
            }
        }
        if height * width == 0 {
            bail!("group norm: images of {height}×{width}");
        }
        Ok(NormOp {
            images,
            height,
            width,
            channels,
            groups: self.groups,
            activation: self.activation,
            moments: OnceLock::new(),
        })
    }

    /// The layer of candle's own ops, for any device; what a GPU runs.
    fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias, channels) = (&self.weight, &self.bias, x.dim(3)?);
        let norm = Stock::new(weight.clone(), bias.clone(), channels, self.groups, EPSILON)?;
        let normalised = norm.forward(&x.permute((0, 3, 1, 2))?.contiguous()?)?;
        self.activation.forward(&normalised.permute((0, 2, 3, 1))?)
    }
}

impl Export for GroupNorm {
    /// Each group as a channel of an instance normalisation, then gain and bias of each channel.
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let (groups, channels) = (self.groups, x.dims[0]);
        let device = self.weight.device();
        let one = graph.tensor(&Tensor::ones(groups, DType::F32, device)?, &[groups])?;
        let zero = graph.tensor(&Tensor::zeros(groups, DType::F32, device)?, &[groups])?;
        let of_group = x.dims.iter().product::<usize>() / groups;
        let grouped = graph.reshape(&x, &[groups, of_group]);
        let inputs = [&*grouped.name, &one, &zero];
        let epsilon = vec![float("epsilon", EPSILON as f32)];
        let normalised = graph.add("InstanceNormalization", &inputs, epsilon, &grouped.dims);
        let mut x = graph.reshape(&normalised, &x.dims);
        for (operator, values) in [("Mul", &self.weight), ("Add", &self.bias)] {
            let values = graph.tensor(values, &[channels, 1, 1])?;
            x = graph.elementwise(operator, &x, &[&values]);
        }
        self.activation.export(graph, x)
    }
}

fn check(channels: usize, groups: usize) -> Result<()> {
    if channels == 0 || groups == 0 || !channels.is_multiple_of(groups) {
        bail!("group norm: {channels} channels do not fall into {groups} groups");
    }
    Ok(())
}

/// One forward of the layer. It keeps the moments for the backward of that forward.
struct NormOp {
    images: usize,
    height: usize,
    width: usize,
    channels: usize,
    groups: usize,
    activation: Activation,
    moments: OnceLock<Vec<Moments>>,
}

/// Of one group of one image.
#[derive(Clone, Copy, Default)]
struct Moments {
    mean: f64,
    /// 1 / √(variance + epsilon).
    scale: f64,
}

/// The sums of two quantities over all places, for each channel.
struct Sums {
    first: Vec<f64>,
    second: Vec<f64>,
}

impl NormOp {
    /// Numbers of one image.
    fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Channels of a group.
    fn group(&self) -> usize {
        self.channels / self.groups
    }

    /// Numbers of a group.
    fn count(&self) -> f64 {
        (self.image() / self.groups) as f64
    }

    fn no_sums(&self) -> Sums {
        Sums {
            first: vec![0.0; self.channels],
            second: vec![0.0; self.channels],
        }
    }

    /// A number for each channel, of its number and its group's moments.
    fn by_channel<T: Buffered>(
        &self,
        moments: &[Moments],
        number: impl Fn(usize, Moments) -> f64,
    ) -> Vec<T> {
        let channels = 0..self.channels;
        let number = |c| T::from_f64(number(c, moments[c / self.group()]));
        channels.map(number).collect()
    }

    /// A sum over the channels of each group.
    fn by_group(&self, of_channel: impl Fn(usize) -> f64) -> impl Iterator<Item = f64> {
        let group = self.group();
        let of_group = move |g| (g * group..(g + 1) * group).map(&of_channel).sum();
        (0..self.groups).map(of_group)
    }

    /// The moments of each group. Sums are of the differences to the group's first number: squares of
    /// the numbers themselves would lose digits where these are far from 0.
    #[inline(always)]
    fn moments<T: Buffered>(&self, image: &[T], moments: &mut [Moments]) {
        let first = |c: usize| image[c / self.group() * self.group()].to_f64();
        let firsts: Vec<f64> = (0..self.channels).map(first).collect();
        let mut sums = self.no_sums();
        for row in image.chunks_exact(self.channels) {
            let sums = sums.first.iter_mut().zip(&mut sums.second);
            for ((x, first), (sum, squares)) in row.iter().zip(&firsts).zip(sums) {
                let difference = x.to_f64() - first;
                *sum += difference;
                *squares += difference * difference;
            }
        }
        let means = self.by_group(|c| sums.first[c] / self.count());
        let squares = self.by_group(|c| sums.second[c] / self.count());
        let firsts = firsts.iter().step_by(self.group());
        for (((mean, squares), first), moments) in means.zip(squares).zip(firsts).zip(moments) {
            // Not `max`, which would turn NaN into 0.
            let variance = squares - mean * mean;
            let variance = if variance < 0.0 { 0.0 } else { variance };
            *moments = Moments {
                mean: first + mean,
                scale: 1.0 / (variance + EPSILON).sqrt(),
            };
        }
    }

    #[inline(always)]
    fn normalise<T: Buffered>(
        &self,
        [image, gain, bias]: [&[T]; 3],
        skip: Option<&[T]>,
        moments: &mut [Moments],
        result: &mut [T],
    ) {
        self.moments(image, moments);
        let mean: Vec<T> = self.by_channel(moments, |_, m| m.mean);
        let scale: Vec<T> = self.by_channel(moments, |c, m| gain[c].to_f64() * m.scale);
        // Not `max`, which would turn NaN into 0.
        let (relu, zero) = (self.activation == Activation::Relu, T::zero());
        let activation = |y| if relu & (y <= zero) { zero } else { y };
        let skipped = skip.is_some();
        let rows = image.chunks_exact(self.channels);
        for (row, result) in rows.zip(result.chunks_exact_mut(self.channels)) {
            let layer = mean.iter().zip(&scale).zip(bias);
            for ((&x, result), ((&mean, &scale), &bias)) in row.iter().zip(result).zip(layer) {
                let y = (x - mean) * scale + bias;
                *result = if skipped { y } else { activation(y) };
            }
        }
        for (result, &skip) in result.iter_mut().zip(skip.unwrap_or_default()) {
            *result = activation(skip + *result);
        }
    }

    /// The gradient of an image, into `of_image`, and the sums of gradient and of gradient times
    /// normalised number over its places: the image's share in the gradients of biases and gains.
    ///
    /// With ĝ = gain · gradient, and means over the group: (ĝ − mean(ĝ) − x̂ · mean(ĝ · x̂)) · scale.
    #[inline(always)]
    fn of_image<T: Buffered>(
        &self,
        [image, gain, result, gradient]: [&[T]; 4],
        moments: &[Moments],
        of_image: Option<&mut [T]>,
    ) -> Sums {
        let channels = self.channels;
        let linear = self.activation == Activation::Linear;
        let zero = T::zero();
        let mean: Vec<T> = self.by_channel(moments, |_, m| m.mean);
        let mut sums = self.no_sums();
        let rows = image
            .chunks_exact(channels)
            .zip(result.chunks_exact(channels));
        for ((row, result), gradient) in rows.zip(gradient.chunks_exact(channels)) {
            let inputs = row.iter().zip(result).zip(gradient).zip(&mean);
            let sums = sums.first.iter_mut().zip(&mut sums.second);
            for ((((&x, &y), &g), &mean), (sum, product)) in inputs.zip(sums) {
                let g = if linear | (y > zero) { g } else { zero };
                *sum += g.to_f64();
                *product += (g * (x - mean)).to_f64();
            }
        }
        for (c, product) in sums.second.iter_mut().enumerate() {
            *product *= moments[c / self.group()].scale;
        }
        let Some(of_image) = of_image else {
            return sums;
        };
        let gain: Vec<f64> = gain.iter().map(|gain| gain.to_f64()).collect();
        let means = self.by_group(|c| gain[c] * sums.first[c] / self.count());
        let means: Vec<f64> = means.collect();
        let slopes = self.by_group(|c| gain[c] * sums.second[c] / self.count());
        let slopes: Vec<f64> = slopes.collect();
        let scale: Vec<T> = self.by_channel(moments, |c, m| gain[c] * m.scale);
        let shift: Vec<T> = self.by_channel(moments, |c, m| means[c / self.group()] * m.scale);
        let slope = |c: usize, m: Moments| slopes[c / self.group()] * m.scale * m.scale;
        let slope: Vec<T> = self.by_channel(moments, slope);
        let rows = image
            .chunks_exact(channels)
            .zip(result.chunks_exact(channels));
        let rows = rows.zip(gradient.chunks_exact(channels));
        for (((row, result), gradient), to) in rows.zip(of_image.chunks_exact_mut(channels)) {
            let inputs = row.iter().zip(result).zip(gradient).zip(to);
            let layer = mean.iter().zip(&scale).zip(&shift).zip(&slope);
            for ((((&x, &y), &g), to), (((&mean, &scale), &shift), &slope)) in inputs.zip(layer) {
                let g = if linear | (y > zero) { g } else { zero };
                *to = g * scale - shift - (x - mean) * slope;
            }
        }
        sums
    }

    fn run<T: Buffered>(&self, [x, gain, bias]: [&[T]; 3], skip: Option<&[T]>) -> (Vec<T>, Shape) {
        let arch = Arch::new();
        let mut results = vec![T::zero(); x.len()];
        let mut moments = vec![Moments::default(); self.images * self.groups];
        (
            x.par_chunks_exact(self.image()),
            self.by_image(skip),
            results.par_chunks_exact_mut(self.image()),
            moments.par_chunks_exact_mut(self.groups),
        )
            .into_par_iter()
            .for_each(|(image, skip, result, moments)| {
                arch.dispatch(|| self.normalise([image, gain, bias], skip, moments, result));
            });
        let first = self.moments.set(moments).is_ok();
        assert!(first, "group norm: one op instance ran forward twice");
        let shape = (self.images, self.height, self.width, self.channels);
        (results, shape.into())
    }

    /// An image of a batch for each, or none.
    fn by_image<'a, T>(&self, batch: Option<&'a [T]>) -> Vec<Option<&'a [T]>> {
        match batch {
            Some(batch) => batch.chunks_exact(self.image()).map(Some).collect(),
            None => vec![None; self.images],
        }
    }

    fn by_image_mut<'a, T>(&self, batch: &'a mut Option<Vec<T>>) -> Vec<Option<&'a mut [T]>> {
        match batch {
            Some(batch) => batch.chunks_exact_mut(self.image()).map(Some).collect(),
            None => (0..self.images).map(|_| None).collect(),
        }
    }

    /// The gradients of x and of the skip connection, where wanted, and of gain and bias.
    fn run_back<T: Buffered>(
        &self,
        [x_wanted, skip_wanted]: [bool; 2],
        [x, gain, result, gradient]: [&[T]; 4],
    ) -> ([Option<Vec<T>>; 2], [Vec<T>; 2]) {
        let (arch, moments) = (Arch::new(), self.moments.get());
        let moments = moments.expect("a backward pass follows the forward pass");
        let wanted = |wanted: bool| wanted.then(|| vec![T::zero(); x.len()]);
        let (mut of_x, mut of_skip) = (wanted(x_wanted), wanted(skip_wanted));
        let sums: Vec<Sums> = (
            x.par_chunks_exact(self.image()),
            result.par_chunks_exact(self.image()),
            gradient.par_chunks_exact(self.image()),
            moments.par_chunks_exact(self.groups),
            self.by_image_mut(&mut of_x),
            self.by_image_mut(&mut of_skip),
        )
            .into_par_iter()
            .map(|(image, result, gradient, moments, of_image, of_skip)| {
                let inputs = [image, gain, result, gradient];
                arch.dispatch(|| {
                    self.of_sums([result, gradient], of_skip.unwrap_or_default());
                    self.of_image(inputs, moments, of_image)
                })
            })
            .collect();
        // In the order of the images, whatever the number of threads.
        let mut total = self.no_sums();
        for Sums { first, second } in &sums {
            add_to(&mut total.first, first);
            add_to(&mut total.second, second);
        }
        let gradient = |sums: Vec<f64>| sums.into_iter().map(T::from_f64).collect();
        ([of_x, of_skip], [total.second, total.first].map(gradient))
    }

    /// The gradient of what the activation was given.
    #[inline(always)]
    fn of_sums<T: Buffered>(&self, [result, gradient]: [&[T]; 2], of_sums: &mut [T]) {
        let (linear, zero) = (self.activation == Activation::Linear, T::zero());
        for ((to, &y), &g) in of_sums.iter_mut().zip(result).zip(gradient) {
            *to = if linear | (y > zero) { g } else { zero };
        }
    }
}

impl Layer for NormOp {
    const NAME: &str = "group-norm";

    fn forward<T: Buffered>(&self, inputs: [&[T]; 3]) -> (Vec<T>, Shape) {
        self.run(inputs, None)
    }

    fn backward<T: Buffered>(&self, wanted: [bool; 3], tensors: [&[T]; 4]) -> [Option<Vec<T>>; 3] {
        let ([of_x, _], [of_gain, of_bias]) = self.run_back([wanted[0], false], tensors);
        [
            of_x,
            wanted[1].then_some(of_gain),
            wanted[2].then_some(of_bias),
        ]
    }
}

/// The end of a residual block. In the place of gains and biases it has both, (2, C), and the skip
/// connection.
struct Residual(NormOp);

impl Layer for Residual {
    const NAME: &str = "group-norm-residual";

    fn forward<T: Buffered>(&self, [x, affine, skip]: [&[T]; 3]) -> (Vec<T>, Shape) {
        let (gain, bias) = affine.split_at(self.0.channels);
        self.0.run([x, gain, bias], Some(skip))
    }

    fn backward<T: Buffered>(
        &self,
        wanted: [bool; 3],
        [x, affine, result, gradient]: [&[T]; 4],
    ) -> [Option<Vec<T>>; 3] {
        let gain = &affine[..self.0.channels];
        let tensors = [x, gain, result, gradient];
        let (of_maps, of_affine) = self.0.run_back([wanted[0], wanted[2]], tensors);
        let [of_x, of_skip] = of_maps;
        [of_x, wanted[1].then(|| of_affine.concat()), of_skip]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::cpu_op::checks::{assert_close, bits, random, result_and_gradients};
    use candle_core::{DType, Device, Var};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn layer(groups: usize, activation: Activation, [gain, bias]: [&Tensor; 2]) -> GroupNorm {
        GroupNorm {
            weight: gain.clone(),
            bias: bias.clone(),
            groups,
            activation,
        }
    }

    /// x (n, height, width, channels), gain and bias (channels,).
    fn inputs(sizes: [usize; 4], dtype: DType) -> [Var; 3] {
        let rng = &mut ChaCha8Rng::seed_from_u64(5);
        let channels = &sizes[3..];
        [&sizes[..], channels, channels].map(|shape| random(shape, dtype, rng))
    }

    #[test]
    fn result_and_gradients_are_those_of_candles_layer() {
        for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F64, 1e-12)] {
            for (sizes, groups) in [
                ([2, 1, 3, 2], 1),
                ([3, 5, 4, 6], 3),
                ([17, 6, 6, 8], 8),
                ([2, 4, 7, 40], 8),
                ([1, 9, 9, 7], 1),
            ] {
                for activation in [Activation::Linear, Activation::Relu] {
                    let vars = inputs(sizes, dtype);
                    let [x, gain, bias] = vars.each_ref().map(|var| var.as_tensor());
                    let layer = layer(groups, activation, [gain, bias]);
                    let found = result_and_gradients(|| layer.forward(x), &vars);
                    let expected = result_and_gradients(|| layer.composed(x), &vars);
                    assert_close(&found, &expected, tolerance, (sizes, activation, dtype));
                }
            }
        }
    }

    /// x and a skip connection, (n, height, width, channels), gain and bias.
    fn residual_inputs(sizes: [usize; 4], dtype: DType) -> [Var; 4] {
        let [x, gain, bias] = inputs(sizes, dtype);
        let skip = random(&sizes, dtype, &mut ChaCha8Rng::seed_from_u64(6));
        [x, skip, gain, bias]
    }

    #[test]
    fn a_residual_and_its_gradients_are_those_of_candles_layers() {
        for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F64, 1e-12)] {
            for (sizes, groups) in [([3, 5, 4, 6], 3), ([17, 6, 6, 40], 8)] {
                for activation in [Activation::Linear, Activation::Relu] {
                    let vars = residual_inputs(sizes, dtype);
                    let [x, skip, gain, bias] = vars.each_ref().map(|var| var.as_tensor());
                    let layer = layer(groups, Activation::Linear, [gain, bias]);
                    let found = || layer.residual(x, skip, activation);
                    let found = result_and_gradients(found, &vars);
                    let stock = || activation.forward(&(skip + layer.composed(x)?)?);
                    let expected = result_and_gradients(stock, &vars);
                    assert_close(&found, &expected, tolerance, (sizes, activation, dtype));
                }
            }
        }
    }

    /// One group of the numbers 1, 2, 3 and 6: mean 3, variance 3.5.
    #[test]
    fn a_group_of_four_numbers_is_as_worked_out_by_hand() {
        let cpu = &Device::Cpu;
        let x = Tensor::new(&[1f64, 2.0, 3.0, 6.0], cpu).unwrap();
        let x = x.reshape((1, 1, 2, 2)).unwrap();
        let gain = Tensor::new(&[2f64, -1.0], cpu).unwrap();
        let bias = Tensor::new(&[0.5f64, 0.0], cpu).unwrap();
        let deviation = 3.50001f64.sqrt();
        let sums = [
            0.5 - 4.0 / deviation,
            1.0 / deviation,
            0.5,
            -3.0 / deviation,
        ];
        for (activation, expected) in [
            (Activation::Linear, sums),
            (Activation::Relu, sums.map(|sum| sum.max(0.0))),
        ] {
            let y = layer(1, activation, [&gain, &bias]).forward(&x).unwrap();
            let y = y.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (found, expected) in y.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-14, "{y:?}");
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let vars = residual_inputs([37, 8, 8, 24], DType::F32);
        let [x, skip, gain, bias] = vars.each_ref().map(|var| var.as_tensor());
        let alone = [x, gain, bias].map(|x| Var::from_tensor(x).unwrap());
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let [x, gain, bias] = alone.each_ref().map(|var| var.as_tensor());
                let forward = || layer(8, Activation::Relu, [gain, bias]).forward(x);
                let found = bits(&result_and_gradients(forward, &alone));
                let [x, gain, bias] = [&vars[0], &vars[2], &vars[3]];
                let layer = layer(8, Activation::Linear, [gain, bias]);
                let residual = || layer.residual(x, skip, Activation::Relu);
                [found, bits(&result_and_gradients(residual, &vars))]
            })
        };
        let one = run(1);
        for threads in [2, 3, 7] {
            assert!(run(threads) == one, "{threads} threads");
        }
    }

    /// Whatever the number, the sums leave no remainder of it.
    #[test]
    fn an_image_of_one_number_becomes_the_bias() {
        for value in [0f32, 0.1, -3e7] {
            let [_, gain, bias] = inputs([1, 1, 1, 6], DType::F32);
            let x = Tensor::full(value, (2, 9, 9, 6), &Device::Cpu).unwrap();
            let x = Var::from_tensor(&x).unwrap();
            let layer = layer(2, Activation::Linear, [&gain, &bias]);
            let y = layer.forward(&x).unwrap();
            let expected = bias.broadcast_as(y.shape()).unwrap().contiguous().unwrap();
            let all = result_and_gradients(|| layer.forward(&x), &[x.clone(), gain, bias]);
            assert_eq!(bits(&[y]), bits(&[expected]), "{value}");
            let all = bits(&all).concat();
            assert!(all.iter().all(|&bits| f32::from_bits(bits).is_finite()));
        }
    }

    /// 100,000 numbers about 10,000, of variance 1: in f32 their squares would swallow it.
    #[test]
    fn a_large_map_far_from_zero_keeps_its_digits() {
        let n = 100_000;
        let values = (0..n).map(|i| if i % 2 == 0 { 9999f32 } else { 10001.0 });
        let x = Tensor::from_iter(values, &Device::Cpu).unwrap();
        let x = x.reshape((1, 100, 1000, 1)).unwrap();
        let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
        let zero = one.zeros_like().unwrap();
        let y = layer(1, Activation::Linear, [&one, &zero])
            .forward(&x)
            .unwrap();
        let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = 1.0 / 1.00001f32.sqrt();
        for (i, y) in y.iter().enumerate() {
            let expected = if i % 2 == 0 { -expected } else { expected };
            assert!((y - expected).abs() <= f32::EPSILON, "{i}: {y}");
        }
    }

    #[test]
    fn a_nan_shows_in_all_of_its_group_and_in_no_other() {
        let [x, gain, bias] = inputs([2, 3, 3, 4], DType::F32);
        let mut values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values[13] = f32::NAN;
        let x = Tensor::from_vec(values, x.shape(), &Device::Cpu).unwrap();
        let layer = layer(2, Activation::Relu, [&gain, &bias]);
        let y = layer.forward(&x).unwrap();
        let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (i, y) in y.iter().enumerate() {
            // The first image's first group.
            assert_eq!(y.is_nan(), i < 36 && i % 4 < 2, "{i}: {y}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let vars = inputs([2, 4, 4, 6], DType::F32);
        let [x, gain, bias] = vars.each_ref().map(|var| var.as_tensor());
        let error = |groups, x: &Tensor, gain: &Tensor, bias: &Tensor| {
            let layer = layer(groups, Activation::Linear, [gain, bias]);
            layer.forward(x).unwrap_err().to_string()
        };
        let short = gain.narrow(0, 0, 5).unwrap();
        assert!(error(2, x, &short, bias).contains("gains of [5] for images of 6 channels"));
        assert!(error(2, x, gain, &short).contains("biases of [5]"));
        assert!(error(4, x, gain, bias).contains("6 channels do not fall into 4 groups"));
        assert!(error(0, x, gain, bias).contains("into 0 groups"));
        let empty = x.narrow(1, 0, 0).unwrap();
        assert!(error(2, &empty, gain, bias).contains("images of 0×4"));
        assert!(!error(2, bias, gain, bias).is_empty());
        let linear = layer(2, Activation::Linear, [gain, bias]);
        let error_of = |skip| {
            linear
                .residual(x, skip, Activation::Relu)
                .unwrap_err()
                .to_string()
        };
        assert!(error_of(bias).contains("a skip connection of [6]"));
        let wide = x.to_dtype(DType::F64).unwrap();
        assert!(!error_of(&wide).is_empty());
        assert!(!error(2, &wide, gain, bias).is_empty());
    }
}
