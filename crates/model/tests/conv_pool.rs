//! The fused layer and the composed one against plain loops, central differences and each other, and
//! the fused one against itself on other threads.

mod gradient;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, IndexOp, Result, Tensor, Var};
use gradient::worst_difference;
use model::layers::conv_pool::conv_pool_padded;
use model::{Activation, ModelError, conv_pool, conv_pool_composed};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CPU: &Device = &Device::Cpu;
const ACTIVATIONS: [Activation; 2] = [Activation::Linear, Activation::Relu];

/// (N, H, W, C, O, kh, kw)
const SHAPES: [[usize; 7]; 7] = [
    [2, 12, 12, 1, 4, 5, 5],
    [3, 9, 10, 3, 5, 3, 3],
    // Odd convolutions: the last row and column are in no window.
    [2, 7, 9, 2, 3, 3, 5],
    // C = H = W, a shape at which a mistaken transposition goes unseen by shape checks.
    [2, 6, 6, 6, 6, 3, 3],
    // More images than parts of a batch, and not a multiple of them.
    [35, 4, 5, 2, 2, 2, 1],
    [1, 4, 4, 1, 1, 3, 3],
    // Two images to a part of the batch, each too large to share a block of patches.
    [20, 40, 40, 5, 3, 5, 5],
];

struct Layer {
    x: Var,
    weight: Var,
    bias: Var,
}

fn random(shape: &[usize], rng: &mut ChaCha8Rng) -> Var {
    let values = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0));
    Var::from_vec(values.collect::<Vec<f64>>(), shape, CPU).unwrap()
}

impl Layer {
    fn random([n, h, w, c, o, kh, kw]: [usize; 7]) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(7);
        Self {
            x: random(&[n, h, w, c], rng),
            weight: random(&[o, c, kh, kw], rng),
            bias: random(&[o], rng),
        }
    }

    fn fused(&self, activation: Activation) -> model::Result<Tensor> {
        conv_pool(&self.x, &self.weight, &self.bias, activation)
    }

    fn composed(&self, activation: Activation) -> model::Result<Tensor> {
        conv_pool_composed(&self.x, &self.weight, &self.bias, activation)
    }

    fn vars(&self) -> [(&'static str, &Var); 3] {
        [
            ("x", &self.x),
            ("weight", &self.weight),
            ("bias", &self.bias),
        ]
    }
}

/// Terms in which every element of the result has another weight, and its square a part.
fn terms(y: &Tensor) -> Result<Tensor> {
    let weights = Tensor::arange(0f64, y.elem_count() as f64, CPU)?
        .reshape(y.shape())?
        .sin()?
        .to_dtype(y.dtype())?;
    y.sqr()? + (y * weights)?
}

/// Gradients of the sum of the terms.
fn backward(y: model::Result<Tensor>) -> GradStore {
    let loss = terms(&y.unwrap()).unwrap().sum_all().unwrap();
    loss.backward().unwrap()
}

fn flat(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap();
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Panics with the worst element unless all differ by at most `tolerance` · max(1, |expected|).
fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (flat(found), flat(expected));
    let error = |i: usize| (found[i] - expected[i]).abs() / expected[i].abs().max(1.0);
    let worst = (0..found.len()).max_by(|&i, &j| error(i).total_cmp(&error(j)));
    let worst = worst.expect("an empty tensor tests nothing");
    assert!(
        error(worst) <= tolerance,
        "{what}: element {worst} is {}, expected {}",
        found[worst],
        expected[worst]
    );
}

/// The module's formula, word for word.
fn plain_loops(layer: &Layer, activation: Activation) -> Tensor {
    let (n, h, w, c) = layer.x.dims4().unwrap();
    let (o, _, kh, kw) = layer.weight.dims4().unwrap();
    let [x, weight, bias] = [&layer.x, &layer.weight, &layer.bias].map(|t| flat(t));
    let (ph, pw) = ((h - kh).div_ceil(2), (w - kw).div_ceil(2));
    let mut out = Vec::new();
    for image in 0..n {
        for (i, j) in (0..ph).flat_map(|i| (0..pw).map(move |j| (i, j))) {
            for filter in 0..o {
                let mut best = f64::NEG_INFINITY;
                for (y, z) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let mut sum = bias[filter];
                    for a in 0..kh {
                        for b in 0..kw {
                            for channel in 0..c {
                                let pixel = (image * h + 2 * i + y + a) * w + 2 * j + z + b;
                                sum += x[pixel * c + channel]
                                    * weight[((filter * c + channel) * kh + a) * kw + b];
                            }
                        }
                    }
                    best = best.max(sum);
                }
                out.push(match activation {
                    Activation::Linear => best,
                    Activation::Relu => best.max(0.0),
                });
            }
        }
    }
    Tensor::from_vec(out, (n, ph, pw, o), CPU).unwrap()
}

#[test]
fn padding_gives_the_bits_of_images_with_zeros_around_them() {
    for shape in [
        [2, 5, 6, 1, 4, 3, 3],
        [35, 4, 4, 20, 3, 3, 3],
        [3, 2, 5, 2, 2, 2, 5],
    ] {
        for (padding, activation) in [(1, ACTIVATIONS[0]), (2, ACTIVATIONS[1])] {
            let layer = Layer::random(shape);
            let Layer { x, weight, bias } = &layer;
            let around = x.pad_with_zeros(1, padding, padding).unwrap();
            let around = around.pad_with_zeros(2, padding, padding).unwrap();
            let expected = conv_pool(&around, weight, bias, activation).unwrap();
            let found = conv_pool_padded(x, weight, bias, padding, activation).unwrap();
            let case = format!("{shape:?} {padding} {activation:?}");
            let numbers = |x: &Tensor| x.flatten_all()?.to_vec1::<f64>();
            assert_eq!(found.dims(), expected.dims(), "{case}");
            assert_eq!(
                numbers(&found).unwrap(),
                numbers(&expected).unwrap(),
                "{case}"
            );
            let [found, expected] = [found, expected].map(|y| backward(Ok(y)));
            for (name, var) in layer.vars() {
                let [found, expected] =
                    [&found, &expected].map(|gradients| numbers(gradients.get(var).unwrap()));
                assert_eq!(found.unwrap(), expected.unwrap(), "{case} {name}");
            }
        }
    }
}

#[test]
fn forward_is_the_formula() {
    for shape in SHAPES {
        for activation in ACTIVATIONS {
            let layer = Layer::random(shape);
            let expected = plain_loops(&layer, activation);
            let what = format!("{shape:?} {activation:?}");
            for y in [layer.fused(activation), layer.composed(activation)] {
                assert_close(&y.unwrap(), &expected, 1e-12, &what);
            }
        }
    }
}

#[test]
fn gradients_are_the_central_differences() {
    for shape in SHAPES {
        for activation in ACTIVATIONS {
            let layer = Layer::random(shape);
            for (name, var) in layer.vars() {
                // Fewer entries of the composed one, which takes ten times as long.
                for (path, conv_pool, entries) in [
                    ("fused", Layer::fused as fn(&_, _) -> _, 60),
                    ("composed", Layer::composed, 10),
                ] {
                    let stride = var.elem_count().div_ceil(entries);
                    let terms = || terms(&conv_pool(&layer, activation).unwrap());
                    let worst = worst_difference(var, stride, terms).unwrap();
                    assert!(
                        worst < 1e-6,
                        "{path}: {name} of {shape:?} {activation:?}: {worst:e}"
                    );
                }
            }
        }
    }
}

/// candle's `max_pool2d` is why this layer exists. Should this fail, candle has been mended, and
/// its pool could serve in `conv_pool_composed`.
#[test]
fn the_check_rejects_candles_max_pool() {
    let layer = Layer::random(SHAPES[0]);
    let stock = || {
        let x = layer.x.permute((0, 3, 1, 2))?.contiguous()?;
        let conv = x.conv2d(&layer.weight, 0, 1, 1, 1)?;
        let conv = conv.broadcast_add(&layer.bias.reshape((1, (), 1, 1))?)?;
        conv.max_pool2d(2)?.permute((0, 2, 3, 1))
    };
    let fused = layer.fused(Activation::Linear).unwrap();
    assert_close(&stock().unwrap(), &fused, 1e-12, "forward");
    for (name, var) in layer.vars() {
        let worst = worst_difference(var, 7, || terms(&stock()?)).unwrap();
        assert!(
            worst > 0.5,
            "{name}: candle's gradient is off by {worst:e} only"
        );
    }
}

#[test]
fn composed_of_candles_ops_it_is_the_same_layer() {
    for shape in SHAPES {
        for activation in ACTIVATIONS {
            let layer = Layer::random(shape);
            let (fused, composed) = (layer.fused(activation), layer.composed(activation));
            let what = format!("{shape:?} {activation:?}");
            assert_close(
                composed.as_ref().unwrap(),
                fused.as_ref().unwrap(),
                1e-12,
                &what,
            );
            let (fused, composed) = (backward(fused), backward(composed));
            for (name, var) in layer.vars() {
                let (found, expected) = (composed.get(var).unwrap(), fused.get(var).unwrap());
                assert_close(found, expected, 1e-11, &format!("{name} of {what}"));
            }
        }
    }
}

#[test]
fn of_equal_maxima_the_first_takes_the_gradient() {
    // Every window of the values 1, 2 and 3, an image each.
    let windows = (0..81).map(|n| [27, 9, 3, 1].map(|digit| f64::from(n / digit % 3 + 1)));
    let first: Vec<f64> = windows
        .clone()
        .flat_map(|window| {
            let largest = window.into_iter().fold(0.0, f64::max);
            let winner = window.iter().position(|&value| value == largest);
            std::array::from_fn::<f64, 4, _>(|place| (Some(place) == winner).into())
        })
        .collect();
    let layer = Layer {
        x: Var::from_vec(windows.flatten().collect(), (81, 2, 2, 1), CPU).unwrap(),
        weight: Var::ones((1, 1, 1, 1), DType::F64, CPU).unwrap(),
        bias: Var::zeros(1, DType::F64, CPU).unwrap(),
    };
    for activation in ACTIVATIONS {
        for y in [layer.fused(activation), layer.composed(activation)] {
            let gradients = y.unwrap().sum_all().unwrap().backward().unwrap();
            assert_eq!(flat(gradients.get(&layer.x).unwrap()), first);
        }
    }
}

#[test]
fn relu_has_gradient_zero_at_zero() {
    let layer = Layer {
        x: Var::zeros((1, 4, 4, 1), DType::F64, CPU).unwrap(),
        weight: Var::ones((1, 1, 1, 1), DType::F64, CPU).unwrap(),
        bias: Var::zeros(1, DType::F64, CPU).unwrap(),
    };
    for y in [
        layer.fused(Activation::Relu),
        layer.composed(Activation::Relu),
    ] {
        let gradients = y.unwrap().sum_all().unwrap().backward().unwrap();
        for (name, var) in layer.vars() {
            let gradient = flat(gradients.get(var).unwrap());
            assert!(gradient.iter().all(|&g| g == 0.0), "{name}: {gradient:?}");
        }
    }
}

#[test]
fn nan_reaches_the_result() {
    // At every set of places but the empty one.
    for places in 1..16 {
        let x = (0..4).map(|place| match places >> place & 1 {
            1 => f32::NAN,
            _ => place as f32,
        });
        let x = x.collect::<Vec<f32>>();
        let x = Tensor::from_vec(x, (1, 2, 2, 1), CPU).unwrap();
        let weight = Tensor::ones((1, 1, 1, 1), DType::F32, CPU).unwrap();
        let bias = Tensor::zeros(1, DType::F32, CPU).unwrap();
        for activation in ACTIVATIONS {
            for layer in [conv_pool, conv_pool_composed] {
                let y = layer(&x, &weight, &bias, activation).unwrap();
                assert!(flat(&y)[0].is_nan(), "NaN at {places:04b}, {activation:?}");
            }
        }
    }
}

#[test]
fn one_forward_may_be_used_twice_and_the_layer_twice_in_a_graph() {
    let layer = Layer::random([2, 8, 8, 2, 2, 3, 3]);
    let terms = || {
        let y = layer.fused(Activation::Relu).unwrap();
        // The same weights again, on what they made; and the first result twice more.
        let corner = layer.weight.narrow(2, 0, 1)?.narrow(3, 0, 1)?;
        let again = conv_pool(&y, &corner, &layer.bias, Activation::Linear).unwrap();
        let terms = [terms(&again)?, terms(&y)?, y.sqr()?].map(|t| t.flatten_all());
        Tensor::cat(&terms.into_iter().collect::<Result<Vec<_>>>()?, 0)
    };
    for (name, var) in layer.vars() {
        let worst = worst_difference(var, 1, terms).unwrap();
        assert!(worst < 1e-6, "{name}: {worst:e}");
    }
}

#[test]
fn only_tracked_inputs_get_a_gradient() {
    let layer = Layer::random(SHAPES[1]);
    for tracked in 0..3 {
        let mut inputs = layer.vars().map(|(_, var)| var.as_detached_tensor());
        inputs[tracked] = layer.vars()[tracked].1.as_tensor().clone();
        let [x, weight, bias] = &inputs;
        let alone = backward(conv_pool(x, weight, bias, Activation::Relu));
        let all = backward(layer.fused(Activation::Relu));
        for (i, input) in inputs.iter().enumerate() {
            assert_eq!(alone.get(input).is_some(), i == tracked);
        }
        let found = flat(alone.get(&inputs[tracked]).unwrap());
        assert_eq!(found, flat(all.get(layer.vars()[tracked].1).unwrap()));
    }
}

#[test]
fn views_are_read_through_their_strides_and_offset() {
    let layer = Layer::random(SHAPES[2]);
    let x = Tensor::cat(&[layer.x.as_tensor(), layer.x.as_tensor()], 0).unwrap();
    let x = x.transpose(1, 2).unwrap().contiguous().unwrap();
    let weight = layer
        .weight
        .permute((3, 2, 1, 0))
        .unwrap()
        .contiguous()
        .unwrap();
    let bias = Tensor::cat(&[layer.bias.as_tensor(), layer.bias.as_tensor()], 0).unwrap();
    let views = conv_pool(
        &x.transpose(1, 2).unwrap().i(2..4).unwrap(),
        &weight.permute((3, 2, 1, 0)).unwrap(),
        &bias.i(3..6).unwrap(),
        Activation::Relu,
    );
    let expected = flat(&layer.fused(Activation::Relu).unwrap());
    assert_eq!(flat(&views.unwrap()), expected);
}

/// Result and gradients, in f32, as bits.
fn bits(shape: [usize; 7]) -> Vec<u32> {
    let layer = Layer::random(shape);
    let vars = layer
        .vars()
        .map(|(_, var)| Var::from_tensor(&var.to_dtype(DType::F32).unwrap()).unwrap());
    let [x, weight, bias] = &vars;
    let y = conv_pool(x, weight, bias, Activation::Relu).unwrap();
    let gradients = backward(Ok(y.clone()));
    let gradients = vars.iter().map(|var| gradients.get(var).unwrap().clone());
    std::iter::once(y.clone())
        .chain(gradients)
        .flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        .map(f32::to_bits)
        .collect()
}

#[test]
fn bits_are_the_same_for_any_thread_count() {
    for shape in SHAPES {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| bits(shape))
        };
        let one = on(1);
        assert!(one == on(2) && one == on(3), "{shape:?}");
    }
}

#[test]
fn threads_do_not_disturb_each_other() {
    let alone = SHAPES.map(bits);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(SHAPES.map(bits) == alone));
        }
    });
}

/// The images of one group are worked through in bands of rows when they are too large for a cache.
#[test]
fn wide_images_are_the_formula_too() {
    let layer = Layer::random([3, 11, 3000, 3, 2, 3, 2]);
    let y = layer.fused(Activation::Relu).unwrap();
    assert_close(&y, &plain_loops(&layer, Activation::Relu), 1e-12, "values");
    let found = backward(Ok(y));
    let expected = backward(layer.composed(Activation::Relu));
    for (name, var) in layer.vars() {
        let (found, expected) = (found.get(var).unwrap(), expected.get(var).unwrap());
        assert_close(found, expected, 1e-11, name);
    }
}

#[test]
fn f32_agrees_with_f64() {
    for shape in SHAPES {
        let layer = Layer::random(shape);
        let [x, weight, bias] = layer
            .vars()
            .map(|(_, var)| var.to_dtype(DType::F32).unwrap());
        let y = conv_pool(&x, &weight, &bias, Activation::Relu).unwrap();
        assert_eq!(y.dtype(), DType::F32);
        let expected = layer.fused(Activation::Relu).unwrap();
        assert_close(&y, &expected, 1e-5, &format!("{shape:?}"));
    }
}

#[test]
fn errors_name_the_argument_and_both_shapes() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, CPU).unwrap();
    let half = |t: Tensor| t.to_dtype(DType::F16).unwrap();
    let double = |t: Tensor| t.to_dtype(DType::F64).unwrap();
    let (x, w, b) = (zeros(&[2, 8, 8, 3]), zeros(&[4, 3, 5, 5]), zeros(&[4]));
    let cases = [
        (
            zeros(&[8, 8, 3]),
            w.clone(),
            b.clone(),
            "x must be (N, H, W, C), found shape [8, 8, 3]",
        ),
        (
            zeros(&[0, 8, 8, 3]),
            w.clone(),
            b.clone(),
            "no size 0, found shape [0, 8, 8, 3]",
        ),
        (
            x.clone(),
            zeros(&[4, 3, 5]),
            b.clone(),
            "found shape [4, 3, 5]",
        ),
        (
            x.clone(),
            zeros(&[4, 8, 5, 5]),
            b.clone(),
            "x has 3 channels, with no size 0, found shape [4, 8, 5, 5]",
        ),
        (
            x.clone(),
            zeros(&[4, 3, 0, 5]),
            b.clone(),
            "found shape [4, 3, 0, 5]",
        ),
        (
            x.clone(),
            w.clone(),
            zeros(&[3]),
            "bias must be (4,), found shape [3]",
        ),
        (
            x.clone(),
            zeros(&[4, 3, 8, 5]),
            b.clone(),
            "an image of 8×8 is too small",
        ),
        (
            x.clone(),
            zeros(&[4, 3, 9, 5]),
            b.clone(),
            "need at least 10×6",
        ),
        (
            half(x.clone()),
            half(w.clone()),
            half(b.clone()),
            "x must be f32 or f64, found F16",
        ),
        (
            x.clone(),
            double(w.clone()),
            b.clone(),
            "weight must be F32 as x is, found F64",
        ),
        (x, w, double(b), "bias must be F32 as x is, found F64"),
    ];
    for (x, weight, bias, message) in cases {
        for layer in [conv_pool, conv_pool_composed] {
            let error: ModelError = layer(&x, &weight, &bias, Activation::Linear).unwrap_err();
            assert!(error.to_string().contains(message), "{error} / {message}");
        }
    }
}
