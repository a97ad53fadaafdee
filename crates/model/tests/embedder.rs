//! What an [`Embedder`] makes of an image is the image's alone, and what the network makes of it.

use candle_core::{DType, Device, Tensor};
use model::{Activation, Embedder, Hidden, Network, NetworkConfig, Norm};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CPU: &Device = &Device::Cpu;

/// Of each trunk, with and without what may follow its convolutions, several heads, and sizes that leave
/// rests: filters that fill no vector, maps of odd sides, few channels and many.
fn configs() -> Vec<NetworkConfig> {
    let hidden = |units| Hidden {
        units,
        activation: Activation::Relu,
    };
    let [lenet, resnet, conv4] = [
        NetworkConfig::relu(2),
        NetworkConfig::small_resnet(64),
        NetworkConfig::conv4(64),
    ];
    vec![
        lenet.clone(),
        NetworkConfig::caffe(10),
        NetworkConfig {
            input: [3, 31, 22],
            norm: Norm::Group,
            normalised: true,
            hidden: vec![],
            ..lenet.clone()
        },
        NetworkConfig {
            channels: vec![3, 7],
            hidden: vec![hidden(9), hidden(70)],
            ..lenet
        },
        NetworkConfig {
            norm: Norm::Group,
            grid: 2,
            every_stage: true,
            normalised: true,
            ..resnet.clone()
        },
        NetworkConfig {
            input: [3, 25, 18],
            channels: vec![5, 33],
            ..resnet.clone()
        },
        resnet,
        NetworkConfig {
            norm: Norm::None,
            channels: vec![20, 9, 64],
            ..conv4.clone()
        },
        conv4,
    ]
}

/// Random weights, those that begin at 0 included.
fn network(config: NetworkConfig, dtype: DType) -> Network {
    let rng = &mut ChaCha8Rng::seed_from_u64(7);
    let net = Network::new(config, dtype, CPU, rng).unwrap();
    for parameter in net.parameters() {
        let var = &parameter.var;
        let noise = (0..var.elem_count()).map(|_| rng.random_range(-0.05..0.05f64));
        let noise = Tensor::from_iter(noise, CPU)
            .unwrap()
            .to_dtype(dtype)
            .unwrap();
        let noise = noise.reshape(var.shape()).unwrap();
        var.set(&(var.as_tensor() + noise).unwrap()).unwrap();
    }
    net
}

fn images(count: usize, [c, h, w]: [usize; 3], dtype: DType) -> Tensor {
    let rng = &mut ChaCha8Rng::seed_from_u64(8);
    // A third of the numbers are 0, as blank backgrounds are.
    let values = (0..count * c * h * w).map(|_| rng.random_range(-0.5..1f64).max(0.0));
    let values = Tensor::from_iter(values, CPU)
        .unwrap()
        .to_dtype(dtype)
        .unwrap();
    values.reshape((count, c, h, w)).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<Vec<u64>> {
    let rows = tensor
        .to_dtype(DType::F64)
        .unwrap()
        .to_vec2::<f64>()
        .unwrap();
    let bits = |row: Vec<f64>| row.into_iter().map(f64::to_bits).collect();
    rows.into_iter().map(bits).collect()
}

fn with_threads<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(run)
}

/// Holds every image of `images` to what it is alone: at its place and at others, in batches of all sizes.
fn check_company(
    config: &NetworkConfig,
    pass: impl Fn(&Tensor) -> Tensor + Send + Sync,
    images: &Tensor,
    batches: &[usize],
) {
    let count = images.dim(0).unwrap();
    let alone: Vec<_> = (0..count)
        .map(|i| bits(&pass(&images.narrow(0, i, 1).unwrap())).remove(0))
        .collect();
    for threads in [1, 2, 3] {
        for &batch in batches {
            for first in [0, 1, count / 2] {
                // Round the end and on from the start.
                let places: Vec<u32> = (first..first + batch).map(|i| (i % count) as u32).collect();
                let places = Tensor::new(places, CPU).unwrap();
                let batch = images.index_select(&places, 0).unwrap();
                let found = with_threads(threads, || bits(&pass(&batch)));
                for (place, found) in found.iter().enumerate() {
                    assert!(
                        *found == alone[(first + place) % count],
                        "{config:?}: {threads} threads, place {place} of {}",
                        batch.dim(0).unwrap()
                    );
                }
            }
        }
    }
}

#[test]
fn an_embedding_has_the_same_bits_in_any_company() {
    for config in configs() {
        for dtype in [DType::F32, DType::F64] {
            let embedder = network(config.clone(), dtype).embedder().unwrap();
            let images = images(9, config.input, dtype);
            let batches = [2, 3, 7, 64];
            check_company(&config, |x| embedder.forward(x).unwrap(), &images, &batches);
            check_company(&config, |x| embedder.features(x).unwrap(), &images, &[2, 7]);
        }
    }
}

#[test]
fn an_embedding_has_the_same_bits_among_thousands() {
    let config = NetworkConfig::relu(2);
    let embedder = network(config.clone(), DType::F32).embedder().unwrap();
    let images = images(5, config.input, DType::F32);
    check_company(&config, |x| embedder.forward(x).unwrap(), &images, &[2048]);
}

/// To the largest number of each: sums are in another order, and of other terms where Winograd's method
/// takes the products.
#[test]
fn embeddings_and_features_are_those_of_the_network() {
    for config in configs() {
        for (dtype, tolerance) in [(DType::F32, 5e-6), (DType::F64, 1e-14)] {
            let net = network(config.clone(), dtype);
            let embedder = net.embedder().unwrap();
            let images = images(5, config.input, dtype);
            for (found, expected) in [
                (embedder.forward(&images), net.forward(&images)),
                (embedder.features(&images), net.features(&images)),
            ] {
                let (found, expected) = (found.unwrap(), expected.unwrap());
                assert_eq!(found.dims(), expected.dims());
                let most = |t: Tensor| {
                    let most = t.abs().unwrap().max_all().unwrap();
                    most.to_dtype(DType::F64)
                        .unwrap()
                        .to_scalar::<f64>()
                        .unwrap()
                };
                let (worst, largest) = (most((found - &expected).unwrap()), most(expected));
                assert!(largest > 0.01, "{config:?}: {largest}");
                assert!(
                    worst <= tolerance * largest,
                    "{config:?}, {dtype:?}: {worst:e} of {largest}"
                );
            }
        }
    }
}

/// A 5×5 filter with a single 1, of each place, by Winograd's method: the pool of the image, shifted.
#[test]
fn a_filter_of_a_single_one_shifts_the_image() {
    let config = NetworkConfig {
        channels: vec![8, 25],
        conv_activation: Activation::Linear,
        hidden: vec![],
        input: [1, 16, 16],
        ..NetworkConfig::relu(25)
    };
    let net = network(config, DType::F64);
    for parameter in net.parameters() {
        let var = &parameter.var;
        let dims = var.dims().to_vec();
        let one = |index: usize| -> f64 {
            let place = |stride: usize, size: usize| index / stride % size;
            f64::from(match parameter.name.as_str() {
                // The image's pixel in the middle of the kernel, to each channel.
                "conv1.weight" => place(1, 25) == 12,
                // Filter o takes channel o mod 8 at place o.
                "conv2.weight" => {
                    let o = place(200, 25);
                    place(25, 8) == o % 8 && place(1, 25) == o
                }
                "feat.weight" => place(25, 25) == place(1, 25),
                _ => false,
            })
        };
        let values = Tensor::from_iter((0..var.elem_count()).map(one), CPU).unwrap();
        var.set(&values.reshape(dims).unwrap()).unwrap();
    }
    // Pixel (y, x) has 16y + x, so the largest of a window is its last.
    let image = Tensor::arange(0f64, 256.0, CPU).unwrap();
    let image = image.reshape((1, 1, 16, 16)).unwrap();
    let found = net.embedder().unwrap().forward(&image).unwrap();
    let found = found.to_vec2::<f64>().unwrap().remove(0);
    // conv1 and its pool: (i, j) is pixel (2i + 3, 2j + 3). conv2's one window ends at 1 and a shift.
    let expected = (0..25).map(|o| {
        let (i, j) = (1 + o / 5, 1 + o % 5);
        (16 * (2 * i + 3) + 2 * j + 3) as f64
    });
    for (o, expected) in expected.enumerate() {
        assert!(
            (found[o] - expected).abs() < 1e-10,
            "{o}: {} {expected}",
            found[o]
        );
    }
}

#[test]
fn later_steps_do_not_change_it_and_nothing_is_tracked() {
    let net = network(NetworkConfig::conv4(3), DType::F32);
    let embedder: Embedder = net.embedder().unwrap();
    let images = images(2, [1, 28, 28], DType::F32);
    let before = embedder.forward(&images).unwrap();
    assert!(!before.track_op());
    for parameter in net.parameters() {
        parameter
            .var
            .set(&parameter.var.zeros_like().unwrap())
            .unwrap();
    }
    assert_eq!(bits(&embedder.forward(&images).unwrap()), bits(&before));
}

#[test]
fn a_nan_shows_in_its_own_embedding_alone() {
    for config in configs() {
        let embedder = network(config.clone(), DType::F32).embedder().unwrap();
        let clean = images(3, config.input, DType::F32);
        let mut values = clean.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let middle = values.len() / 2;
        values[middle] = f32::NAN;
        let broken = Tensor::from_vec(values, clean.shape(), CPU).unwrap();
        let [clean, broken] = [clean, broken].map(|x| embedder.forward(&x).unwrap());
        let broken = broken.to_vec2::<f32>().unwrap();
        assert!(broken[1].iter().any(|value| value.is_nan()), "{config:?}");
        let clean = clean.to_vec2::<f32>().unwrap();
        assert_eq!(
            [&broken[0], &broken[2]],
            [&clean[0], &clean[2]],
            "{config:?}"
        );
    }
}

#[test]
fn images_of_another_shape_are_refused() {
    let embedder = network(NetworkConfig::relu(2), DType::F32)
        .embedder()
        .unwrap();
    for shape in [vec![2, 1, 28, 27], vec![1, 28, 28], vec![0, 1, 28, 28]] {
        let images = Tensor::zeros(shape, DType::F32, CPU).unwrap();
        let error = embedder.forward(&images).unwrap_err().to_string();
        assert!(error.contains("(N, 1, 28, 28)"), "{error}");
    }
    let wide = images(2, [1, 28, 28], DType::F64);
    assert!(embedder.forward(&wide).is_err());
}
