//! The whole network: sizes, initialisation, and its gradient against central differences.

mod gradient;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::Module;
use gradient::worst_difference;
use model::{Activation, Hidden, Network, NetworkConfig, Norm, Parameter, Role, Trunk};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CPU: &Device = &Device::Cpu;

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(11)
}

fn lenets() -> [NetworkConfig; 2] {
    [NetworkConfig::caffe(2), NetworkConfig::relu(2)]
}

fn resnet() -> NetworkConfig {
    NetworkConfig {
        channels: vec![4, 6, 5],
        ..NetworkConfig::small_resnet(2)
    }
}

/// Every trunk, with groups of more than one channel.
fn normed() -> [NetworkConfig; 3] {
    let group = |trunk, channels: &[usize]| NetworkConfig {
        norm: Norm::Group,
        channels: channels.to_vec(),
        ..NetworkConfig::of(trunk, 2)
    };
    [
        group(Trunk::Lenet, &[4 * 5, 3 * 7]),
        group(Trunk::SmallResnet, &[16, 12]),
        group(Trunk::Conv4, &[16, 12, 10]),
    ]
}

fn configs() -> Vec<NetworkConfig> {
    let grid = NetworkConfig {
        grid: 2,
        ..resnet()
    };
    let every_stage = NetworkConfig {
        every_stage: true,
        ..grid.clone()
    };
    let plain = lenets().into_iter().chain([resnet(), grid, every_stage]);
    plain.chain(normed()).collect()
}

/// Images as MNIST's after normalisation: strokes in the middle of a background that is the same
/// everywhere, so that most pooling windows of the first layer are ties.
fn digits(n: usize, dtype: DType) -> Tensor {
    let (mut rng, mut pixels) = (rng(), vec![-0.4242; n * 28 * 28]);
    for (i, pixel) in pixels.iter_mut().enumerate() {
        let (y, x) = (i / 28 % 28, i % 28);
        if (9..19).contains(&y) && (9..19).contains(&x) {
            *pixel = rng.random_range(-0.4242..2.8);
        }
    }
    let images = Tensor::from_vec(pixels, (n, 1, 28, 28), CPU).unwrap();
    images.to_dtype(dtype).unwrap()
}

/// Random numbers for biases and weights that begin at 0: under zero biases a blank window would sit
/// on the ReLU's kink, where there is no gradient to compare.
fn with_random_biases(config: NetworkConfig) -> Network {
    let mut rng = rng();
    let net = Network::new(config, DType::F64, CPU, &mut rng).unwrap();
    let zero =
        |p: &Parameter| matches!(p.role, Role::Bias | Role::Shift) || p.name.contains("residual2");
    for p in net.parameters().iter().filter(|p| zero(p)) {
        // Or the gradients behind a gain would be so small that the differences' rounding shows.
        let size = if p.role == Role::Gain { 2.0 } else { 0.1 };
        let values = (0..p.var.elem_count()).map(|_| rng.random_range(-size..size));
        let values = Tensor::from_vec(values.collect::<Vec<f64>>(), p.var.shape(), CPU);
        p.var.set(&values.unwrap()).unwrap();
    }
    net
}

/// The squared distance of a similar pair, the squared hinge of a dissimilar one, and the squared
/// embeddings: a loss of distances alone would leave `feat.bias`, which both sides share, at 0.
fn contrastive(net: &Network, images: &Tensor) -> Result<Tensor> {
    let (a, b) = net.forward_pair(images).unwrap();
    let squared = (&a - &b)?.sqr()?.sum(1)?;
    let hinges = (4.0 - squared.sqrt()?)?.relu()?.sqr()?;
    let similar = Tensor::new(&[1f64, 0.0], CPU)?;
    let pairs = ((&similar * squared)? + ((1.0 - &similar)? * hinges)?)?;
    Tensor::cat(
        &[pairs, a.sqr()?.flatten_all()?, b.sqr()?.flatten_all()?],
        0,
    )
}

#[test]
fn gradient_of_every_parameter_is_the_central_differences() {
    for config in configs() {
        let net = with_random_biases(config.clone());
        let images = digits(4, DType::F64);
        for parameter in net.parameters() {
            let stride = parameter.var.elem_count().div_ceil(25);
            let terms = || contrastive(&net, &images);
            let worst = worst_difference(&parameter.var, stride, terms).unwrap();
            assert!(worst < 1e-6, "{} of {config:?}: {worst:e}", parameter.name);
        }
    }
}

/// PyTorch's layout throughout: NCHW, `flatten(1)`, weights (outputs, inputs).
#[test]
fn embeddings_are_those_of_the_network_in_nchw() {
    for config in lenets() {
        let net = with_random_biases(config.clone());
        let var = |i: usize| net.parameters()[i].var.as_tensor();
        let (images, mut x) = (digits(3, DType::F64), digits(3, DType::F64));
        for (weight, bias) in [(var(0), var(1)), (var(2), var(3))] {
            let conv = x.conv2d(weight, 0, 1, 1, 1).unwrap();
            let bias = bias.reshape((1, (), 1, 1)).unwrap();
            let sum = conv.broadcast_add(&bias).unwrap();
            let activated = match config.conv_activation {
                Activation::Linear => sum,
                Activation::Relu => sum.relu().unwrap(),
            };
            x = activated.max_pool2d(2).unwrap();
        }
        x = x.flatten_from(1).unwrap();
        for i in [4, 6, 8] {
            let sum = x.matmul(&var(i).t().unwrap()).unwrap();
            x = sum.broadcast_add(var(i + 1)).unwrap();
            let hidden = config.hidden.get(i / 2 - 2);
            if hidden.is_some_and(|h| h.activation == Activation::Relu) {
                x = x.relu().unwrap();
            }
        }
        let difference = (net.forward(&images).unwrap() - &x).unwrap().abs().unwrap();
        let worst = difference.max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(worst < 1e-12, "{config:?}: {worst:e}");
    }
}

/// Of candle's own convolution.
#[test]
fn a_residual_networks_embeddings_are_those_of_candles_layers() {
    let net = with_random_biases(NetworkConfig {
        input: [3, 29, 18],
        ..resnet()
    });
    let images: Vec<f64> = {
        let mut rng = rng();
        (0..2 * 3 * 29 * 18)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect()
    };
    let images = Tensor::from_vec(images, (2, 3, 29, 18), CPU).unwrap();
    let mut layers = net.parameters().chunks_exact(2);
    let mut conv = |x: &Tensor| -> Tensor {
        let layer = layers.next().unwrap();
        let bias = layer[1].var.reshape((1, (), 1, 1)).unwrap();
        let sums = x.conv2d(&layer[0].var, 1, 1, 1, 1).unwrap();
        sums.broadcast_add(&bias).unwrap()
    };
    let mut x = images.clone();
    for _ in 0..3 {
        x = conv(&x).relu().unwrap().max_pool2d(2).unwrap();
        let residual = conv(&x).relu().unwrap();
        let residual = conv(&residual);
        x = (x + residual).unwrap().relu().unwrap();
    }
    x = x.mean((2, 3)).unwrap();
    for (layer, last) in layers.zip([false, true]) {
        let sums = x.matmul(&layer[0].var.t().unwrap()).unwrap();
        x = sums.broadcast_add(&layer[1].var).unwrap();
        if !last {
            x = x.relu().unwrap();
        }
    }
    let difference = (net.forward(&images).unwrap() - &x).unwrap().abs().unwrap();
    let worst = difference.max_all().unwrap().to_scalar::<f64>().unwrap();
    assert!(worst < 1e-12, "{worst:e}");
}

/// Layers of candle's own in NCHW, with a network's parameters in turn.
struct Stock<'a>(std::slice::ChunksExact<'a, Parameter>);

impl Stock<'_> {
    fn conv(&mut self, x: &Tensor, padding: usize) -> Tensor {
        let layer = self.0.next().unwrap();
        let bias = layer[1].var.reshape((1, (), 1, 1)).unwrap();
        let sums = x.conv2d(&layer[0].var, padding, 1, 1, 1).unwrap();
        sums.broadcast_add(&bias).unwrap()
    }

    fn norm(&mut self, x: &Tensor, groups: usize) -> Tensor {
        let layer = self.0.next().unwrap();
        assert_eq!([layer[0].role, layer[1].role], [Role::Gain, Role::Shift]);
        let [gain, bias] = [0, 1].map(|i| layer[i].var.as_tensor().clone());
        let channels = x.dim(1).unwrap();
        let norm = candle_nn::GroupNorm::new(gain, bias, channels, groups, 1e-5).unwrap();
        norm.forward(x).unwrap()
    }

    /// Convolution, pool, normalisation, activation.
    fn halve(&mut self, x: &Tensor, padding: usize, groups: usize) -> Tensor {
        let x = self.conv(x, padding).max_pool2d(2).unwrap();
        self.norm(&x, groups).relu().unwrap()
    }

    fn lenet(&mut self, x: &Tensor) -> Tensor {
        let x = self.halve(x, 0, 5);
        self.halve(&x, 0, 7).flatten_from(1).unwrap()
    }

    fn resnet(&mut self, x: &Tensor) -> Tensor {
        let mut x = x.clone();
        for groups in [8, 6] {
            x = self.halve(&x, 1, groups);
            let residual = self.conv(&x, 1);
            let residual = self.norm(&residual, groups).relu().unwrap();
            let residual = self.conv(&residual, 1);
            let residual = self.norm(&residual, groups);
            x = (x + residual).unwrap().relu().unwrap();
        }
        x.mean((2, 3)).unwrap()
    }

    fn conv4(&mut self, x: &Tensor) -> Tensor {
        let groups = [8, 6, 5].into_iter();
        let x = groups.fold(x.clone(), |x, groups| self.halve(&x, 1, groups));
        x.flatten_from(1).unwrap()
    }

    /// The fully connected layers that are left.
    fn head(self, mut x: Tensor) -> Tensor {
        let mut layers = self.0.peekable();
        while let Some(layer) = layers.next() {
            let sums = x.matmul(&layer[0].var.t().unwrap()).unwrap();
            x = sums.broadcast_add(&layer[1].var).unwrap();
            if layers.peek().is_some() {
                x = x.relu().unwrap();
            }
        }
        x
    }
}

#[test]
fn normalised_networks_are_those_of_candles_layers() {
    type Forward = fn(&mut Stock, &Tensor) -> Tensor;
    let forwards: [Forward; 3] = [|s, x| s.lenet(x), |s, x| s.resnet(x), |s, x| s.conv4(x)];
    for (config, forward) in normed().into_iter().zip(forwards) {
        let net = with_random_biases(config.clone());
        let images = digits(3, DType::F64);
        let mut stock = Stock(net.parameters().chunks_exact(2));
        let features = forward(&mut stock, &images);
        let expected = stock.head(features);
        let difference = (net.forward(&images).unwrap() - &expected).unwrap();
        let worst = difference.abs().unwrap().max_all().unwrap();
        let worst = worst.to_scalar::<f64>().unwrap();
        assert!(worst < 1e-12, "{config:?}: {worst:e}");
    }
}

#[test]
fn a_norm_is_called_after_its_convolution_and_begins_as_the_identity() {
    let [lenet, resnet, conv4] = normed();
    for (config, expected) in [
        (lenet, "conv1 conv1_norm conv2 conv2_norm ip1 ip2 feat"),
        (
            resnet,
            "stage1.conv stage1.conv_norm stage1.residual1 stage1.residual1_norm \
             stage1.residual2 stage1.residual2_norm stage2.conv stage2.conv_norm \
             stage2.residual1 stage2.residual1_norm stage2.residual2 stage2.residual2_norm \
             ip1 feat",
        ),
        (
            conv4,
            "conv1 conv1_norm conv2 conv2_norm conv3 conv3_norm feat",
        ),
    ] {
        let net = Network::new(config, DType::F32, CPU, &mut rng()).unwrap();
        let names: Vec<&str> = net.parameters().iter().map(|p| p.name.as_str()).collect();
        let layers = expected.split_whitespace();
        let expected: Vec<String> = layers
            .flat_map(|layer| [format!("{layer}.weight"), format!("{layer}.bias")])
            .collect();
        assert_eq!(names, expected);
        for p in net.parameters() {
            let values = p.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let all = |value: f32| values.iter().all(|&v| v == value);
            match p.role {
                // A residual block ends with 0.
                Role::Gain if p.name.contains("residual2") => assert!(all(0.0), "{}", p.name),
                Role::Gain => assert!(all(1.0), "{}", p.name),
                Role::Bias | Role::Shift => assert!(all(0.0), "{}", p.name),
                Role::Weight => assert!(values.iter().all(|&v| v != 0.0), "{}", p.name),
            }
        }
    }
}

/// And so does not depend on what else is in the batch, but for rounding.
#[test]
fn a_residual_network_begins_as_its_stages_without_their_blocks() {
    let net = Network::new(NetworkConfig::small_resnet(2), DType::F32, CPU, &mut rng()).unwrap();
    let count: usize = net.parameters().iter().map(|p| p.var.elem_count()).sum();
    assert_eq!(count, 496_962);
    for p in net.parameters() {
        let all_zero = p.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let all_zero = all_zero.iter().all(|value| *value == 0.0);
        let expected = p.role == Role::Bias || p.name.ends_with("residual2.weight");
        assert_eq!(all_zero, expected, "{}", p.name);
    }
    let images = digits(5, DType::F32);
    let all = net.forward(&images).unwrap().to_vec2::<f32>().unwrap();
    for (i, embedding) in all.iter().enumerate() {
        let alone = net.forward(&images.narrow(0, i, 1).unwrap()).unwrap();
        // A product of other sizes may be cut otherwise.
        for (alone, together) in alone.to_vec2::<f32>().unwrap()[0].iter().zip(embedding) {
            assert!((alone - together).abs() <= 1e-6, "{alone} {together}");
        }
    }
}

#[test]
fn caffes_network_has_its_names_shapes_and_431_102_parameters() {
    let net = Network::new(NetworkConfig::caffe(2), DType::F32, CPU, &mut rng()).unwrap();
    let found: Vec<(&str, &[usize])> = net
        .parameters()
        .iter()
        .map(|p| (p.name.as_str(), p.var.dims()))
        .collect();
    let expected: [(&str, &[usize]); 10] = [
        ("conv1.weight", &[20, 1, 5, 5]),
        ("conv1.bias", &[20]),
        ("conv2.weight", &[50, 20, 5, 5]),
        ("conv2.bias", &[50]),
        ("ip1.weight", &[500, 800]),
        ("ip1.bias", &[500]),
        ("ip2.weight", &[10, 500]),
        ("ip2.bias", &[10]),
        ("feat.weight", &[2, 10]),
        ("feat.bias", &[2]),
    ];
    assert_eq!(found, expected);
    let count: usize = net.parameters().iter().map(|p| p.var.elem_count()).sum();
    assert_eq!(count, 431_102);
}

#[test]
fn weights_fill_caffes_xavier_range_and_biases_are_zero() {
    for config in lenets() {
        let net = Network::new(config, DType::F64, CPU, &mut rng()).unwrap();
        for p in net.parameters() {
            let values: Vec<f64> = p.var.flatten_all().unwrap().to_vec1().unwrap();
            if p.role == Role::Bias {
                assert!(values.iter().all(|&v| v == 0.0), "{}", p.name);
                continue;
            }
            let fan_in: usize = p.var.dims()[1..].iter().product();
            let bound = (3.0 / fan_in as f64).sqrt();
            assert!(values.iter().all(|v| v.abs() <= bound), "{}", p.name);
            // A uniform variable's variance is bound²/3; 4 standard errors of its estimate.
            let n = values.len() as f64;
            let variance = values.iter().map(|v| v * v).sum::<f64>() / n;
            let error = 4.0 * (0.8 / n).sqrt();
            let ratio = variance / (bound * bound / 3.0);
            assert!((ratio - 1.0).abs() < error, "{}: {ratio}", p.name);
        }
    }
}

#[test]
fn one_seed_gives_one_network_in_f32_and_f64() {
    for config in configs() {
        let net = |dtype| Network::new(config.clone(), dtype, CPU, &mut rng()).unwrap();
        let (single, double, again) = (net(DType::F32), net(DType::F64), net(DType::F32));
        let values = |net: &Network, i: usize| -> Vec<f32> {
            let var = net.parameters()[i].var.to_dtype(DType::F32).unwrap();
            var.flatten_all().unwrap().to_vec1().unwrap()
        };
        for i in 0..single.parameters().len() {
            assert_eq!(values(&single, i), values(&double, i));
            assert_eq!(values(&single, i), values(&again, i));
        }
        let embed = |net: &Network, dtype| net.forward(&digits(5, dtype)).unwrap();
        let difference = (embed(&single, DType::F32).to_dtype(DType::F64).unwrap()
            - embed(&double, DType::F64))
        .unwrap();
        let worst = difference.abs().unwrap().max_all().unwrap();
        assert!(worst.to_scalar::<f64>().unwrap() < 1e-5);
    }
    let mut other = ChaCha8Rng::seed_from_u64(rng().next_u64());
    let other = Network::new(NetworkConfig::caffe(2), DType::F32, CPU, &mut other).unwrap();
    let same = Network::new(NetworkConfig::caffe(2), DType::F32, CPU, &mut rng()).unwrap();
    let first = |net: &Network| {
        net.parameters()[0]
            .var
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
    };
    assert_ne!(first(&other).unwrap(), first(&same).unwrap());
}

#[test]
fn a_pair_is_embedded_as_each_image_alone() {
    let net = Network::new(NetworkConfig::relu(3), DType::F32, CPU, &mut rng()).unwrap();
    let images = digits(6, DType::F32);
    let (a, b) = net.forward_pair(&images).unwrap();
    assert_eq!((a.dims(), b.dims()), (&[3, 3][..], &[3, 3][..]));
    for i in 0..6 {
        let alone = net.forward(&images.narrow(0, i, 1).unwrap()).unwrap();
        let side = if i < 3 { &a } else { &b };
        let paired = side.narrow(0, i % 3, 1).unwrap();
        let difference = (alone - paired).unwrap().abs().unwrap().max_all().unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-6, "image {i}");
    }
}

#[test]
fn other_image_sizes_and_no_hidden_layer_work() {
    let config = NetworkConfig {
        input: [3, 16, 21],
        hidden: vec![],
        ..NetworkConfig::relu(4)
    };
    let net = Network::new(config, DType::F32, CPU, &mut rng()).unwrap();
    let images = Tensor::ones((2, 3, 16, 21), DType::F32, CPU).unwrap();
    assert_eq!(net.forward(&images).unwrap().dims(), [2, 4]);
}

#[test]
fn images_of_another_shape_are_refused() {
    let net = Network::new(NetworkConfig::caffe(2), DType::F32, CPU, &mut rng()).unwrap();
    for shape in [
        &[2, 1, 28, 27][..],
        &[2, 3, 28, 28],
        &[0, 1, 28, 28],
        &[28, 28],
        &[],
    ] {
        let images = Tensor::zeros(shape, DType::F32, CPU).unwrap();
        let error = net.forward(&images).unwrap_err().to_string();
        let expected = format!("images must be (N, 1, 28, 28) with N ≥ 1, found shape {shape:?}");
        assert_eq!(error, expected);
        assert!(net.forward_pair(&images).is_err());
    }
    let odd = digits(3, DType::F32);
    let error = net.forward_pair(&odd).unwrap_err().to_string();
    assert!(error.contains("(2B, C, H, W)"), "{error}");
    let error = net.forward(&digits(2, DType::F64)).unwrap_err().to_string();
    assert!(error.contains("found F32"), "{error}");
    let half = Network::new(NetworkConfig::caffe(2), DType::F16, CPU, &mut rng());
    assert!(half.unwrap_err().to_string().contains("f32 or f64"));
}

#[test]
fn a_configuration_that_is_no_network_is_refused_by_field() {
    let relu = || NetworkConfig::relu(2);
    let conv4 = || NetworkConfig::conv4(2);
    let hidden = |units| Hidden {
        units,
        activation: Activation::Relu,
    };
    #[rustfmt::skip]
    let cases = [
        (NetworkConfig { input: [0, 28, 28], ..relu() }, "input is [0, 28, 28]"),
        (NetworkConfig { input: [1, 28, 15], ..relu() }, "input is 28×15: two 5×5"),
        (NetworkConfig { input: [1, 3, 28], ..relu() }, "need at least 16×16"),
        (NetworkConfig { channels: vec![32, 0], ..relu() }, "channels is [32, 0]"),
        (NetworkConfig { hidden: vec![hidden(8), hidden(0)], ..relu() }, "hidden[1].units is [0]"),
        (NetworkConfig { embedding: 0, ..relu() }, "embedding is [0]"),
        (NetworkConfig { embedding: usize::MAX, ..relu() }, "every size must be from 1 to 65536"),
        (NetworkConfig { channels: vec![1, usize::MAX], ..relu() }, "channels is [1, 18446744073709551615]"),
        (NetworkConfig { norm: Norm::Group, channels: vec![32, 6], input: [1, 16, 16], ..relu() }, "norm is group: 6 channels"),
        (NetworkConfig { input: [1, 15, 28], ..conv4() }, "input is 15×28: 4 blocks, each with a 2×2 pool, need at least 16×16"),
        (NetworkConfig { grid: 2, ..conv4() }, "grid is 2: only the maps of a small-resnet"),
        (NetworkConfig { every_stage: true, ..conv4() }, "every_stage is true: only a small-resnet"),
        (NetworkConfig { grid: 4, ..resnet() }, "grid is 4; the last maps of 28×28 allow 1 to 3"),
        (NetworkConfig { channels: vec![64; 9], ..conv4() }, "channels has 9 blocks; conv4 has 1 to 8"),
        (NetworkConfig { channels: vec![], ..conv4() }, "channels has 0 blocks; conv4 has 1 to 8"),
        (NetworkConfig { channels: vec![64, 64, 64, 8], ..conv4() }, "norm is group: 8 channels on a single pixel"),
        (NetworkConfig { hidden: vec![hidden(1 << 16); 2], ..relu() }, "ip2 would have [65536, 65536] weights"),
    ];
    for (config, message) in cases {
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(message), "{error} / {message}");
        let new = Network::new(config, DType::F32, CPU, &mut rng());
        assert_eq!(new.unwrap_err().to_string(), error);
    }
    for config in configs() {
        config.validate().unwrap();
    }
}

#[test]
fn a_configuration_with_an_unknown_field_is_refused() {
    let text = serde_json::to_string(&NetworkConfig::caffe(2)).unwrap();
    let back: NetworkConfig = serde_json::from_str(&text).unwrap();
    assert_eq!(back, NetworkConfig::caffe(2));
    let text = text.replacen('{', r#"{"dropout":0.5,"#, 1);
    let error = serde_json::from_str::<NetworkConfig>(&text).unwrap_err();
    assert!(error.to_string().contains("dropout"), "{error}");
}

#[test]
fn another_last_layer_makes_other_embeddings_of_the_same_features() {
    for config in configs() {
        let net = with_random_biases(config.clone());
        let images = digits(3, DType::F64);
        let features = net.features(&images).unwrap();
        let (weight, bias) = net.last_layer();
        let embedded = |weight: &Tensor, bias: &Tensor| {
            let sum = features.matmul(&weight.t()?)?;
            sum.broadcast_add(bias)
        };
        assert_close(
            &net.forward(&images).unwrap(),
            &embedded(weight, bias).unwrap(),
        );

        // W·(x − µ), three numbers of each embedding's two.
        let w = Tensor::new(&[[0.5, -2.0], [1.5, 0.25], [-1.0, 3.0]], CPU).unwrap();
        let mean = Tensor::new(&[[0.1], [-0.3]], CPU).unwrap();
        let centred = bias.reshape((2, 1)).unwrap().sub(&mean).unwrap();
        let folded_bias = w.matmul(&centred).unwrap().flatten_all().unwrap();
        let folded = w.matmul(weight).unwrap();
        let folded = net.with_last_layer(&folded, &folded_bias, true).unwrap();
        assert_eq!(
            (folded.config().embedding, folded.config().normalised),
            (3, true)
        );
        let centred = net
            .forward(&images)
            .unwrap()
            .broadcast_sub(&mean.t().unwrap());
        let by_hand = centred.unwrap().matmul(&w.t().unwrap()).unwrap();
        let length = by_hand
            .sqr()
            .unwrap()
            .sum_keepdim(1)
            .unwrap()
            .sqrt()
            .unwrap();
        let by_hand = by_hand.broadcast_div(&length).unwrap();
        assert_close(&folded.forward(&images).unwrap(), &by_hand);

        // A last layer of its own: the other's values stay as they are.
        let own = net.with_last_layer(weight, bias, false).unwrap();
        own.last_layer().1.set(&bias.zeros_like().unwrap()).unwrap();
        let first = bias.get(0).unwrap().to_scalar::<f64>().unwrap();
        assert!(first != 0.0);
    }
}

fn assert_close(found: &Tensor, expected: &Tensor) {
    let difference = (found - expected).unwrap().abs().unwrap();
    let worst = difference.max_all().unwrap().to_scalar::<f64>().unwrap();
    assert!(worst < 1e-12, "{worst:e}");
}

#[test]
fn a_last_layer_of_another_shape_is_refused() {
    let net = with_random_biases(NetworkConfig::relu(2));
    let of = |rows: usize, columns: usize, biases: usize| {
        let weight = Tensor::zeros((rows, columns), DType::F64, CPU).unwrap();
        let bias = Tensor::zeros(biases, DType::F64, CPU).unwrap();
        net.with_last_layer(&weight, &bias, true).is_ok()
    };
    assert_eq!(
        [of(3, 256, 3), of(3, 255, 3), of(3, 256, 2), of(0, 256, 0)],
        [true, false, false, false]
    );
}

#[test]
fn a_frozen_trunk_takes_no_gradient_and_leaves_that_of_the_head() {
    for config in configs() {
        let net = with_random_biases(config.clone());
        let frozen = net.with_frozen_trunk().unwrap();
        let images = digits(4, DType::F64);
        let gradients = |net: &Network| {
            let loss = contrastive(net, &images).unwrap().sum_all().unwrap();
            loss.backward().unwrap()
        };
        let (all, of_head) = (gradients(&net), gradients(&frozen));
        let trained = frozen.trained_parameters();
        let head = |name: &str| name.starts_with("ip") || name.starts_with("feat");
        let names: Vec<&str> = trained.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names.len(), 2 * (config.hidden.len() + 1));
        assert!(names.iter().all(|name| head(name)), "{names:?}");
        for parameter in frozen.parameters() {
            let (expected, found) = (all.get(&parameter.var), of_head.get(&parameter.var));
            match head(&parameter.name) {
                true => assert_close(found.unwrap(), expected.unwrap()),
                false => assert!(found.is_none() && expected.is_some(), "{}", parameter.name),
            }
        }
        // The values are shared.
        let first = &net.parameters()[1].var;
        first.set(&(first.as_tensor() + 0.5).unwrap()).unwrap();
        assert_close(
            &frozen.forward(&images).unwrap(),
            &net.forward(&images).unwrap(),
        );
        assert_eq!(net.trained_parameters().len(), net.parameters().len());
    }
}

#[test]
fn a_grid_whose_cells_are_alike_changes_no_embedding() {
    let config = NetworkConfig {
        input: [1, 16, 16],
        channels: vec![16, 12],
        hidden: Vec::new(),
        norm: Norm::Group,
        ..resnet()
    };
    let net = with_random_biases(config.clone());
    let images: Vec<f64> = {
        let mut rng = rng();
        let values = (0..2 * 16 * 16).map(|_| rng.random_range(-1.0..1.0));
        values.collect()
    };
    let images = Tensor::from_vec(images, (2, 1, 16, 16), CPU).unwrap();
    for grid in [1, 2, 4] {
        let wide = net.on_grid(grid, false).unwrap().unwrap();
        assert_eq!(
            wide.features(&images).unwrap().dims(),
            [2, 12 * grid * grid]
        );
        let embeddings = |net: &Network| net.forward(&images).unwrap();
        let difference = (embeddings(&net) - embeddings(&wide)).unwrap();
        let worst = difference.abs().unwrap().max_all().unwrap();
        assert!(worst.to_scalar::<f64>().unwrap() < 1e-12, "{grid}");
    }
    // A cell of its own for each place: the features differ, as the places do.
    let wide = net.on_grid(4, false).unwrap().unwrap();
    let features = wide.features(&images).unwrap().to_vec2::<f64>().unwrap();
    let mut maps = features[0].chunks_exact(4 * 4);
    assert!(maps.any(|cells| cells[0] != cells[1]));

    assert!(net.on_grid(3, false).unwrap().is_none(), "4 places a side");
    assert!(net.on_grid(0, false).unwrap().is_none());
    let hidden = with_random_biases(NetworkConfig {
        hidden: resnet().hidden,
        ..config
    });
    assert!(hidden.on_grid(2, false).unwrap().is_none());
}
