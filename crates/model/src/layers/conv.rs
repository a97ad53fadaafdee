//! A convolution that keeps the image's size, with its activation, as one candle op with its own
//! backward: what residual blocks are made of.
//!
//! With zeros all around the image, P = ⌊k/2⌋ of them, and w of filter o:
//!
//! ```text
//! result[y, x, o] = activation( bias[o] + Σ_{a,b,c} image[y+a−P, x+b−P, c] · w[o, c, a, b] )
//! ```
//!
//! With a 3×3 kernel it is Winograd's algorithm, see [`winograd`]. With any other, an image at a time, its
//! patches become the rows of a matrix, and the sums a product of matrices. candle's own convolution does
//! that for the whole batch at once, and its gradient is another convolution.

mod winograd;

use candle_core::{Result, Shape, Tensor, WithDType, bail};
use candle_nn::{Init, Module, VarBuilder};
use pulp::Arch;
use rayon::prelude::*;

use super::conv_pool::Buffered;
use super::cpu_op::{Layer, add_to, apply, finish, of_bias, of_sums};
use super::inference::{Convolution, Prepare, Prepared, prepared};
use super::matrix::Matrix;
use super::{Activation, ZERO};
use crate::onnx::{Export, Graph, Value, convolution};
use winograd::turned;
pub(crate) use winograd::{Five, Matrices, Side, Three, Winograd};

/// Images whose gradients of the filters are summed one after the other. The sums of such groups are
/// added in order too, so the bits do not depend on the number of threads.
const GROUP: usize = 8;

/// A convolution, stride 1, that keeps the image's size, and its activation: (N, H, W, C) to
/// (N, H, W, O).
#[derive(Clone, Debug)]
pub struct Conv {
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
    prepared: Option<Prepared>,
}

impl Conv {
    /// `filters` filters of odd side `kernel` over `channels` channels: `weight` (O, C, k, k), which
    /// begins as `init` says, and `bias` (O,), which begins at 0.
    ///
    /// # Errors
    /// Those of `vb`.
    pub fn new(
        channels: usize,
        filters: usize,
        kernel: usize,
        activation: Activation,
        init: Init,
        vb: VarBuilder,
    ) -> Result<Self> {
        let shape = (filters, channels, kernel, kernel);
        Ok(Self {
            weight: vb.get_with_hints(shape, "weight", init)?,
            bias: vb.get_with_hints(filters, "bias", ZERO)?,
            activation,
            prepared: None,
        })
    }
}

impl Prepare for Conv {
    /// A kernel other than 3×3 and 5×5 stays as it is: its products are an image's alone anyway.
    fn prepare(&mut self) -> Result<()> {
        let Self { weight, bias, .. } = &*self;
        let (padding, activation) = (weight.dim(2)? / 2, self.activation);
        self.prepared = prepared!(
            weight,
            Convolution::new(Arch::new(), weight, bias, padding, false, activation)
        );
        Ok(())
    }
}

impl Export for Conv {
    fn export(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let padding = self.weight.dim(2)? / 2;
        let sums = convolution(graph, &x, [&self.weight, &self.bias], padding)?;
        self.activation.export(graph, sums)
    }
}

impl Module for Conv {
    /// On the CPU result and gradients have the same bits for any number of rayon threads.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(prepared) = &self.prepared {
            return prepared.forward(x);
        }
        let (weight, bias, activation) = (&self.weight, &self.bias, self.activation);
        let (images, height, width, channels) = x.dims4()?;
        let (filters, weight_channels, kernel, kernel_width) = weight.dims4()?;
        if weight_channels != channels || kernel != kernel_width || kernel % 2 == 0 {
            let found = weight.dims();
            bail!("conv: a weight of {found:?} for images of {channels} channels");
        }
        if bias.dims() != [filters] {
            bail!("conv: biases of {:?} for {filters} filters", bias.dims());
        }
        if !x.device().is_cpu() {
            let sums = x
                .permute((0, 3, 1, 2))?
                .contiguous()?
                .conv2d(&weight.contiguous()?, kernel / 2, 1, 1, 1)?
                .permute((0, 2, 3, 1))?
                .broadcast_add(bias)?;
            return activation.forward(&sums);
        }
        let op = ConvOp {
            images,
            height,
            width,
            channels,
            kernel,
            filters,
            activation,
        };
        if kernel == 3 {
            // (C, 3, 3, O): candle carries the gradient back.
            return apply(Conv3(op), x, &weight.permute((1, 2, 3, 0))?, bias);
        }
        // Filters as rows in the order of a patch, (k, k, C).
        apply(op, x, &weight.permute((0, 2, 3, 1))?, bias)
    }
}

struct ConvOp {
    images: usize,
    height: usize,
    width: usize,
    channels: usize,
    kernel: usize,
    filters: usize,
    activation: Activation,
}

/// One image's numbers in work.
struct Room<T> {
    /// With its zeros around it.
    padded: Vec<T>,
    /// A row for each place of the image.
    patches: Vec<T>,
}

impl ConvOp {
    fn room<T: WithDType>(&self) -> Room<T> {
        let around = self.kernel - 1;
        let padded = (self.height + around) * (self.width + around) * self.channels;
        Room {
            padded: vec![T::zero(); padded],
            patches: vec![T::zero(); self.places() * self.patch()],
        }
    }

    fn places(&self) -> usize {
        self.height * self.width
    }

    /// Numbers of one image.
    fn image(&self) -> usize {
        self.places() * self.channels
    }

    /// Numbers of one image's result.
    fn result(&self) -> usize {
        self.places() * self.filters
    }

    fn patch(&self) -> usize {
        self.kernel * self.kernel * self.channels
    }

    fn padded_row(&self) -> usize {
        (self.width + self.kernel - 1) * self.channels
    }

    /// Where each row of the image begins among the padded.
    fn rows(&self) -> impl Iterator<Item = usize> {
        let (around, row) = (self.kernel / 2, self.padded_row());
        let left = around * self.channels;
        (0..self.height).map(move |y| (y + around) * row + left)
    }

    /// Where the runs of each patch, one for each row of the kernel, begin among the padded.
    fn runs(&self) -> impl Iterator<Item = usize> {
        let (row, channels, kernel, width) =
            (self.padded_row(), self.channels, self.kernel, self.width);
        (0..self.height).flat_map(move |y| {
            (0..width).flat_map(move |x| (0..kernel).map(move |a| (y + a) * row + x * channels))
        })
    }

    fn take_patches<'r, T: WithDType>(
        &self,
        image: &[T],
        Room { padded, patches }: &'r mut Room<T>,
    ) -> Matrix<'r, T> {
        let row = self.width * self.channels;
        for (from, at) in image.chunks_exact(row).zip(self.rows()) {
            padded[at..at + row].copy_from_slice(from);
        }
        let run = self.kernel * self.channels;
        for (to, at) in patches.chunks_exact_mut(run).zip(self.runs()) {
            to.copy_from_slice(&padded[at..at + run]);
        }
        Matrix::by_row(patches, self.places(), self.patch())
    }

    /// The gradient of an image: what its patches, in `room`, were given, by the place they are from.
    fn put_patches<T: WithDType>(&self, Room { padded, patches }: &mut Room<T>, image: &mut [T]) {
        padded.fill(T::zero());
        let run = self.kernel * self.channels;
        for (from, at) in patches.chunks_exact(run).zip(self.runs()) {
            add_to(&mut padded[at..at + run], from);
        }
        let row = self.width * self.channels;
        for (to, at) in image.chunks_exact_mut(row).zip(self.rows()) {
            to.copy_from_slice(&padded[at..at + row]);
        }
    }

    fn of_images<T: WithDType>(&self, filters: &[T], gradient: &[T]) -> Vec<T> {
        let filters = Matrix::by_row(filters, self.filters, self.patch());
        let mut of_images = vec![T::zero(); self.images * self.image()];
        of_images
            .par_chunks_exact_mut(self.image())
            .zip(gradient.par_chunks_exact(self.result()))
            .for_each_init(
                || self.room(),
                |room, (image, gradient)| {
                    let gradient = Matrix::by_row(gradient, self.places(), self.filters);
                    gradient.write_times(filters, &mut room.patches);
                    self.put_patches(room, image);
                },
            );
        of_images
    }

    fn of_filters<T: WithDType>(&self, images: &[T], gradient: &[T]) -> Vec<T> {
        let of_group = |(images, gradient): (&[T], &[T])| {
            let mut room = self.room();
            let mut sum = vec![T::zero(); self.filters * self.patch()];
            let images = images.chunks_exact(self.image());
            for (image, gradient) in images.zip(gradient.chunks_exact(self.result())) {
                let gradient = Matrix::by_row(gradient, self.places(), self.filters);
                let patches = self.take_patches(image, &mut room);
                gradient.transposed().add_times(patches, &mut sum);
            }
            sum
        };
        let of_groups: Vec<Vec<T>> = images
            .par_chunks(GROUP * self.image())
            .zip(gradient.par_chunks(GROUP * self.result()))
            .map(of_group)
            .collect();
        let mut sum = vec![T::zero(); self.filters * self.patch()];
        for of_group in of_groups {
            add_to(&mut sum, &of_group);
        }
        sum
    }
}

impl Layer for ConvOp {
    const NAME: &str = "conv";

    fn forward<T: Buffered>(&self, [x, filters, bias]: [&[T]; 3]) -> (Vec<T>, Shape) {
        let filters = Matrix::by_row(filters, self.filters, self.patch());
        let mut results = vec![T::zero(); self.images * self.result()];
        results
            .par_chunks_exact_mut(self.result())
            .zip(x.par_chunks_exact(self.image()))
            .for_each_init(
                || self.room(),
                |room, (result, image)| {
                    let patches = self.take_patches(image, room);
                    patches.write_times(filters.transposed(), result);
                    finish(result, bias, self.activation);
                },
            );
        let shape = (self.images, self.height, self.width, self.filters);
        (results, shape.into())
    }

    fn backward<T: Buffered>(
        &self,
        wanted: [bool; 3],
        [x, filters, result, gradient]: [&[T]; 4],
    ) -> [Option<Vec<T>>; 3] {
        let gradient = of_sums(self.activation, result, gradient);
        [
            wanted[0].then(|| self.of_images(filters, &gradient)),
            wanted[1].then(|| self.of_filters(x, &gradient)),
            wanted[2].then(|| of_bias(&gradient, self.filters)),
        ]
    }
}

/// The same with a 3×3 kernel.
struct Conv3(ConvOp);

impl Conv3 {
    fn winograd(&self) -> Winograd {
        Winograd {
            height: self.0.height,
            width: self.0.width,
            kernel: 3,
            padding: 1,
        }
    }
}

impl Layer for Conv3 {
    const NAME: &str = "conv-3x3";

    fn forward<T: Buffered>(&self, [x, filters, bias]: [&[T]; 3]) -> (Vec<T>, Shape) {
        let op = &self.0;
        let finish = |sums: &mut [T]| finish(sums, bias, op.activation);
        let channels = [op.channels, op.filters];
        let results = self.winograd().convolve(x, filters, channels, finish);
        (results, (op.images, op.height, op.width, op.filters).into())
    }

    fn backward<T: Buffered>(
        &self,
        wanted: [bool; 3],
        [x, filters, result, gradient]: [&[T]; 4],
    ) -> [Option<Vec<T>>; 3] {
        let (channels, count) = (self.0.channels, self.0.filters);
        let gradient = of_sums(self.0.activation, result, gradient);
        let of_images = || {
            let filters = turned(filters, [channels, count]);
            let channels = [count, channels];
            self.winograd()
                .convolve(&gradient, &filters, channels, |_| ())
        };
        let of_filters = || self.winograd().of_filters(x, &gradient, [channels, count]);
        [
            wanted[0].then(of_images),
            wanted[1].then(of_filters),
            wanted[2].then(|| of_bias(&gradient, count)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::cpu_op::checks::{assert_close, bits, random, result_and_gradients};
    use candle_core::{DType, Var};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn conv(x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
        let layer = Conv {
            weight: weight.clone(),
            bias: bias.clone(),
            activation,
            prepared: None,
        };
        layer.forward(x)
    }

    /// x (n, height, width, channels), weight (filters, channels, k, k), bias (filters,).
    fn inputs([n, height, width, channels, filters, k]: [usize; 6], dtype: DType) -> [Var; 3] {
        let rng = &mut ChaCha8Rng::seed_from_u64(5);
        let shapes = [
            &[n, height, width, channels][..],
            &[filters, channels, k, k],
            &[filters],
        ];
        shapes.map(|shape| random(shape, dtype, rng))
    }

    #[test]
    fn result_and_gradients_are_those_of_candles_convolution() {
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-13)] {
            for sizes in [
                [1, 1, 1, 1, 1, 1],
                [2, 1, 3, 2, 2, 3],
                [3, 5, 4, 3, 7, 3],
                [17, 6, 6, 4, 2, 3],
                [2, 4, 7, 2, 3, 5],
                // More than a vector of channels, and more tiles than are multiplied at once.
                [9, 7, 5, 19, 35, 3],
                [70, 2, 2, 16, 33, 3],
            ] {
                for activation in [Activation::Linear, Activation::Relu] {
                    let vars = inputs(sizes, dtype);
                    let [x, weight, bias] = vars.each_ref().map(|var| var.as_tensor());
                    let found = result_and_gradients(|| conv(x, weight, bias, activation), &vars);
                    let stock = || {
                        let x = x.permute((0, 3, 1, 2))?.contiguous()?;
                        let sums = x.conv2d(weight, sizes[5] / 2, 1, 1, 1)?;
                        activation.forward(&sums.permute((0, 2, 3, 1))?.broadcast_add(bias)?)
                    };
                    let expected = result_and_gradients(stock, &vars);
                    assert_close(&found, &expected, tolerance, (sizes, activation, dtype));
                }
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let vars = inputs([37, 8, 8, 16, 24, 3], DType::F32);
        let [x, weight, bias] = vars.each_ref().map(|var| var.as_tensor());
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let layer = || conv(x, weight, bias, Activation::Relu);
                bits(&result_and_gradients(layer, &vars))
            })
        };
        let one = run(1);
        for threads in [2, 3, 7] {
            assert!(run(threads) == one, "{threads} threads");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let vars = inputs([2, 4, 4, 3, 5, 3], DType::F32);
        let [x, weight, bias] = vars.each_ref().map(|var| var.as_tensor());
        let error = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
            let result = conv(x, weight, bias, Activation::Linear);
            result.unwrap_err().to_string()
        };
        assert!(error(x, &weight.narrow(1, 0, 2).unwrap(), bias).contains("images of 3 channels"));
        assert!(error(x, &weight.narrow(3, 0, 2).unwrap(), bias).contains("conv: a weight of"));
        assert!(error(x, weight, &bias.narrow(0, 0, 4).unwrap()).contains("for 5 filters"));
        assert!(!error(bias, weight, bias).is_empty());
    }
}
