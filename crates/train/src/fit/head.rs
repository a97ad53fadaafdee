//! The last layer, fitted in closed form once the network is trained.
//!
//! An embedding is linear in the features before the last layer, and so is what a head makes of either.
//! So a head is another last layer, and whoever reads the model need not know of it.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use data::{LabelledImages, Purpose, stream};
use metrics::{Embeddings, MetricsError, Whitening, principal_components};
use model::Network;
use rand::seq::SliceRandom;
use verifier::image_features;

use super::Fit;
use crate::judging::{Candidate, Head, Heads};
use crate::settings::HeadChoice;

/// Training images that a head is fitted on at most.
const MOST_IMAGES: usize = 20_000;
/// Numbers in their features, where these are so many that fewer images have to do: the time to fit
/// grows with the square of the one and with the other.
const MOST_VALUES: usize = 1 << 24;
/// Images at least, however many features.
const LEAST_IMAGES: usize = 2_000;
/// Principal components of the features that are analysed at most.
const COMPONENTS: usize = 2048;
/// Weight of the mean variance in the covariance within classes of a discriminant analysis. Least errors on
/// classes never seen, of 0.03, 0.1, 0.3 and 0.6, on characters, emoji and faces; that of Ledoit and Wolf,
/// 0.01 to 0.07 there, is too small.
const SHRINKAGE: f64 = 0.3;
/// Cells a side of the grid over which a head may see the maps of a residual network.
const GRID: usize = 4;

impl Fit {
    /// The network that is kept: as trained, or with the head that the settings or the validation images
    /// choose. `None` where no head is asked for.
    pub(super) fn with_head(&mut self) -> Result<(Network, Option<Heads>)> {
        let trained = self.trainer.net().clone();
        let choice = self.config.training.head;
        let tried = match choice {
            HeadChoice::Auto if self.dataset.new_validation_classes => {
                // One, so that chance has nothing to choose from: the others lose to it.
                match trained.on_grid(GRID, true)? {
                    Some(_) => vec![Head::StageLda],
                    None => vec![Head::Lda],
                }
            }
            HeadChoice::Auto | HeadChoice::None => return Ok((trained, None)),
            HeadChoice::Whitening => vec![Head::Whitening],
            HeadChoice::WhitenedFeatures => vec![Head::WhitenedFeatures],
            HeadChoice::Lda => vec![Head::Lda],
            HeadChoice::GridLda => vec![Head::GridLda],
            HeadChoice::StageLda => vec![Head::StageLda],
        };
        let judged = |head, net: &Network| {
            Candidate::new(head, net, &self.config, &self.dataset, &self.pairs)
        };
        let mut validation = vec![judged(Head::None, &trained)?];
        let mut networks = vec![(Head::None, trained)];
        let mut note = None;
        for head in tried {
            match self.fitted(head) {
                Ok(net) => {
                    validation.push(judged(head, &net)?);
                    networks.push((head, net));
                }
                Err(error) if !error.is::<MetricsError>() => return Err(error),
                Err(error) if choice != HeadChoice::Auto => {
                    let head = head.name();
                    note = Some(format!("no head (training.head = \"{head}\"): {error}"));
                }
                // One that cannot be fitted is not the best.
                Err(_) => {}
            }
        }
        let mut heads = Heads::choose(validation, self.dataset.validation.len());
        if let (true, Some((asked, _))) = (choice != HeadChoice::Auto, networks.last()) {
            heads.chosen = *asked;
        }
        self.progress.notes.extend(note);
        let chosen = networks.into_iter().find(|(head, _)| *head == heads.chosen);
        let (_, net) = chosen.context("the chosen head has no network")?;
        Ok((net, Some(heads)))
    }

    /// The network with `head`, fitted to the images that it was trained on; [`MetricsError`] where they, or
    /// the network, have none.
    pub(super) fn fitted(&self, head: Head) -> Result<Network> {
        let trained = self.trainer.net().clone();
        let seen = match head {
            Head::None => return Ok(trained),
            Head::GridLda => trained.on_grid(GRID, false)?,
            Head::StageLda => trained.on_grid(GRID, true)?,
            Head::Whitening | Head::WhitenedFeatures | Head::Lda => Some(trained),
        };
        let seen = seen.ok_or_else(|| {
            MetricsError::Embeddings(
                "only a small-resnet without hidden layers, whose last maps a grid of 4×4 divides, has \
                 features for it"
                    .into(),
            )
        })?;
        Features::new(seen, self)?.fit(head)
    }
}

/// What the last layer of a network sees of training images.
struct Features {
    net: Network,
    /// (N, F).
    values: Embeddings,
    /// (N,).
    labels: Vec<u32>,
}

impl Features {
    fn new(net: Network, fit: &Fit) -> Result<Self> {
        let width = net.last_layer().0.dims()[1];
        let most = (MOST_VALUES / width).clamp(LEAST_IMAGES, MOST_IMAGES);
        let turns = fit.config.data.turns;
        let chosen = evenly(&fit.images, turns.classes(), most, fit.config.seed);
        let images = turns.turned(&fit.images, &chosen)?;
        Ok(Self {
            values: image_features(&net, &images, &fit.config.transform.evaluation())?,
            net,
            labels: images.labels().to_vec(),
        })
    }

    /// The network with a head; [`MetricsError`] where these features have none.
    fn fit(&self, head: Head) -> Result<Network> {
        let dimensions = self.net.config().embedding;
        let map = match head {
            Head::None => return Ok(self.net.clone()),
            Head::Whitening => Whitening::fit(&self.embeddings()?, &self.labels, dimensions)?,
            Head::WhitenedFeatures => Whitening::fit(&self.values, &self.labels, dimensions)?,
            Head::Lda | Head::GridLda => self.discriminant()?,
            Head::StageLda => return self.joined(&self.discriminant()?),
        };
        self.folded(head, &map)
    }

    fn discriminant(&self) -> Result<Whitening> {
        let (values, labels) = (&self.values, &self.labels);
        let whitening = Whitening::with_shrinkage(values, labels, COMPONENTS, SHRINKAGE)?;
        Ok(whitening.discriminant(values, labels, self.net.config().embedding)?)
    }

    /// The network with its own embedding and that of `map` side by side, scaled to vary alike, and of both
    /// together the principal components, as many as the embedding has dimensions: distances are the root
    /// of the sum of squares of both.
    fn joined(&self, map: &Whitening) -> Result<Network> {
        let values = self.wide_values()?;
        let (mut weights, mut biases, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for (weight, bias) in [self.last_layer()?, self.layer(Head::StageLda, map)?] {
            let output = outputs_of(&values, &weight, &bias)?;
            let mean = output.mean_keepdim(0)?;
            let centred = output.broadcast_sub(&mean)?;
            let squares = centred.sqr()?.sum(1)?;
            let spread = squares.mean_all()?.to_scalar::<f64>()?.sqrt();
            if spread == 0.0 {
                let problem = "all embeddings of the training images are equal";
                return Err(MetricsError::Embeddings(problem.into()).into());
            }
            weights.push((weight / spread)?);
            biases.push(((bias - mean.flatten_all()?)? / spread)?);
            outputs.push((centred / spread)?);
        }
        let (weight, bias) = (Tensor::cat(&weights, 0)?, Tensor::cat(&biases, 0)?);
        let outputs = rows(&Tensor::cat(&outputs, 1)?)?;
        let axes = principal_components(&outputs, self.net.config().embedding)?;
        let both = outputs.dimension();
        let axes = Tensor::from_slice(&axes, (axes.len() / both, both), &Device::Cpu)?;
        let axes = axes.to_dtype(DType::F64)?;
        let bias = axes.matmul(&bias.unsqueeze(1)?)?.flatten_all()?;
        Ok(self
            .net
            .with_last_layer(&axes.matmul(&weight)?, &bias, false)?)
    }

    /// The last layer of the network, in f64 on the CPU.
    fn last_layer(&self) -> Result<(Tensor, Tensor)> {
        let wide = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64);
        let (weight, bias) = self.net.last_layer();
        Ok((wide(weight)?, wide(bias)?))
    }

    /// The embeddings of the images before they are normalised, (N, D).
    fn embeddings(&self) -> Result<Embeddings> {
        let (weight, bias) = self.last_layer()?;
        rows(&outputs_of(&self.wide_values()?, &weight, &bias)?)
    }

    /// The features in f64, (N, F).
    fn wide_values(&self) -> Result<Tensor> {
        let shape = (self.values.len(), self.values.dimension());
        let values = Tensor::from_slice(self.values.values(), shape, &Device::Cpu)?;
        Ok(values.to_dtype(DType::F64)?)
    }

    /// The network with `map` in its last layer, and embeddings of unit length.
    fn folded(&self, head: Head, map: &Whitening) -> Result<Network> {
        let (weight, bias) = self.layer(head, map)?;
        Ok(self.net.with_last_layer(&weight, &bias, true)?)
    }

    /// The last layer that `map` makes, of embeddings or of features: of weight L and bias b become W·L and
    /// W·(b − mean), or of features, for which L is the identity, W and −W·mean.
    fn layer(&self, head: Head, map: &Whitening) -> Result<(Tensor, Tensor)> {
        let shape = (map.components(), map.mean().len());
        let matrix = Tensor::from_slice(map.matrix(), shape, &Device::Cpu)?;
        let mean = Tensor::from_slice(map.mean(), (shape.1, 1), &Device::Cpu)?;
        let (matrix, mean) = (matrix.to_dtype(DType::F64)?, mean.to_dtype(DType::F64)?);
        let (weight, centred) = match head {
            Head::WhitenedFeatures | Head::Lda | Head::GridLda | Head::StageLda => {
                (matrix.clone(), mean.neg()?)
            }
            Head::None | Head::Whitening => {
                let (weight, bias) = self.last_layer()?;
                (matrix.matmul(&weight)?, (bias.unsqueeze(1)? - mean)?)
            }
        };
        Ok((weight, matrix.matmul(&centred)?.flatten_all()?))
    }
}

/// What a layer of `weight` (D, F) and `bias` (D,) makes of `values` (N, F).
fn outputs_of(values: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    Ok(values.matmul(&weight.t()?)?.broadcast_add(bias)?)
}

/// The rows of `values` (N, D).
fn rows(values: &Tensor) -> Result<Embeddings> {
    let dimensions = values.dim(1)?;
    let values = values.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    Ok(Embeddings::new(values, dimensions)?)
}

/// `most` of the images at most, each in as many `turns` as make classes of their own, as [`Turns::turned`]
/// numbers them; as many of each class as can be: two more of each at a time, since one alone says nothing
/// of what varies within a class.
fn evenly(images: &LabelledImages, turns: usize, most: usize, seed: u64) -> Vec<usize> {
    let labels = images.labels();
    let mut order: Vec<usize> = (0..images.len() * turns).collect();
    order.shuffle(&mut stream(seed, Purpose::HeadImages, 0));
    let mut drawn = vec![0; images.classes().len() * turns];
    let mut rounds: Vec<(usize, usize, usize)> = order
        .into_iter()
        .map(|one| {
            let class = labels[one / turns] as usize * turns + one % turns;
            let before = &mut drawn[class];
            *before += 1;
            ((*before - 1) / 2, class, one)
        })
        .collect();
    rounds.sort_unstable();
    let chosen = rounds.iter().take(most).map(|(_, _, one)| *one);
    let mut chosen: Vec<usize> = chosen.collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use data::ImageShape;
    use model::{Activation, Hidden, NetworkConfig};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn labelled(labels: &[u32], classes: usize) -> LabelledImages {
        let shape = ImageShape {
            channels: 1,
            height: 1,
            width: 1,
        };
        let pixels = (0..labels.len()).map(|image| image as u8).collect();
        let names = (0..classes).map(|class| class.to_string()).collect();
        LabelledImages::new(shape, pixels, labels.to_vec(), names).unwrap()
    }

    #[test]
    fn images_are_drawn_evenly_over_the_classes() {
        // 60, 30, 6, 1 and no images.
        let labels: Vec<u32> = (0..97)
            .map(|i| match i {
                0..60 => 0,
                60..90 => 1,
                90..96 => 2,
                _ => 3,
            })
            .collect();
        let images = labelled(&labels, 5);
        let drawn = |most, seed| images.select(&evenly(&images, 1, most, seed));
        let counts = |most| drawn(most, 1).class_counts();
        assert_eq!(counts(97), [60, 30, 6, 1, 0]);
        assert_eq!(counts(27), [10, 10, 6, 1, 0]);
        // Two at a time, since one says nothing of its class.
        assert_eq!(counts(4), [2, 2, 0, 0, 0]);
        // Each turn of an image is another of as many classes.
        let turned = evenly(&images, 4, 7 * 4, 1);
        let drawn_of = |turn| turned.iter().filter(|one| *one % 4 == turn).count();
        assert_eq!([0, 1, 2, 3].map(drawn_of), [7, 7, 7, 7]);
        let pixels = |seed| drawn(27, seed).pixels().to_vec();
        assert_eq!(pixels(1), pixels(1));
        assert_ne!(pixels(1), pixels(2));
        assert!(pixels(1).is_sorted(), "they stay in their order");
    }

    fn random(rng: &mut ChaCha8Rng, shape: (usize, usize, usize, usize)) -> Tensor {
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let values: Vec<f64> = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// What a network of four dimensions sees of 40 images of 5 classes, whose means lie apart.
    fn features(rng: &mut ChaCha8Rng, normalised: bool) -> Features {
        let config = NetworkConfig {
            input: [1, 16, 16],
            channels: vec![2, 16],
            hidden: vec![Hidden {
                units: 12,
                activation: Activation::Linear,
            }],
            normalised,
            ..NetworkConfig::relu(4)
        };
        let net = Network::new(config, DType::F64, &Device::Cpu, rng).unwrap();
        let (_, bias) = net.last_layer();
        bias.set(&Tensor::new(&[0.3, -0.2, 0.1, 0.5], &Device::Cpu).unwrap())
            .unwrap();
        let labels: Vec<u32> = (0..40).map(|image| image / 8).collect();
        let centres = random(rng, (5, 1, 16, 16));
        let which = Tensor::new(&labels[..], &Device::Cpu).unwrap();
        let images = centres.index_select(&which, 0).unwrap();
        let images = (images + random(rng, (40, 1, 16, 16))).unwrap();
        let values = net.features(&images).unwrap().to_dtype(DType::F32).unwrap();
        let width = values.dim(1).unwrap();
        let values = values.flatten_all().unwrap().to_vec1().unwrap();
        Features {
            net,
            values: Embeddings::new(values, width).unwrap(),
            labels,
        }
    }

    /// `map` of each row of `vectors`, brought to unit length.
    fn by_hand(map: &Whitening, vectors: &Tensor) -> Vec<Vec<f64>> {
        let row = |vector: Vec<f64>| {
            let component = |weights: &[f32]| -> f64 {
                let centred = vector
                    .iter()
                    .zip(map.mean())
                    .map(|(x, m)| x - f64::from(*m));
                let terms = centred.zip(weights).map(|(x, w)| x * f64::from(*w));
                terms.sum()
            };
            let image: Vec<f64> = map
                .matrix()
                .chunks_exact(vector.len())
                .map(component)
                .collect();
            let length = image.iter().map(|x| x * x).sum::<f64>().sqrt();
            image.iter().map(|x| x / length).collect()
        };
        let vectors = vectors.to_vec2::<f64>().unwrap();
        vectors.into_iter().map(row).collect()
    }

    #[test]
    fn a_network_with_a_head_gives_what_the_head_makes_of_the_network() {
        for normalised in [false, true] {
            let rng = &mut ChaCha8Rng::seed_from_u64(7);
            let seen = features(rng, normalised);
            let images = random(rng, (9, 1, 16, 16));
            let whitening = Whitening::fit(&seen.embeddings().unwrap(), &seen.labels, 4).unwrap();
            let features_alone = Whitening::fit(&seen.values, &seen.labels, 4).unwrap();
            let lda = Whitening::with_shrinkage(&seen.values, &seen.labels, COMPONENTS, SHRINKAGE);
            let lda = lda.unwrap();
            let lda = lda.discriminant(&seen.values, &seen.labels, 4).unwrap();
            let raw = seen.net.forward_raw(&images).unwrap();
            let inner = seen.net.features(&images).unwrap();
            for (head, map, vectors) in [
                (Head::Whitening, whitening, raw),
                (Head::WhitenedFeatures, features_alone, inner.clone()),
                (Head::Lda, lda, inner),
            ] {
                let net = seen.fit(head).unwrap();
                assert!(net.config().normalised && net.config().embedding == 4);
                let found = net.forward(&images).unwrap().to_vec2::<f64>().unwrap();
                let expected = by_hand(&map, &vectors);
                let pairs = found.iter().flatten().zip(expected.iter().flatten());
                let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(worst < 1e-12, "{head:?}: {worst:e}");
            }
        }
    }

    #[test]
    fn joined_embeddings_add_up_to_the_squares_of_both_distances() {
        let rng = &mut ChaCha8Rng::seed_from_u64(7);
        let mut seen = features(rng, false);
        // Four more dimensions that say nothing, to hold those of the discriminant analysis of five classes.
        let (weight, bias) = seen.last_layer().unwrap();
        let weight = weight.pad_with_zeros(0, 0, 4).unwrap();
        let bias = bias.pad_with_zeros(0, 0, 4).unwrap();
        seen.net = seen.net.with_last_layer(&weight, &bias, false).unwrap();
        let map = seen.discriminant().unwrap();
        assert_eq!(map.components(), 4);

        let own = seen.embeddings().unwrap();
        let other = map.apply(&seen.values).unwrap();
        let net = seen.joined(&map).unwrap();
        assert!(!net.config().normalised && net.config().embedding == 8);
        seen.net = net;
        let joined = seen.embeddings().unwrap();
        let square = |of: &Embeddings, a: usize, b: usize| -> f64 {
            let pairs = of.row(a).iter().zip(of.row(b));
            pairs.map(|(x, y)| f64::from(x - y).powi(2)).sum()
        };
        // The mean square distance from the mean is half that of two images, one drawn after the other.
        let images = own.len();
        let spread = |of: &Embeddings| {
            let all = (0..images * images).map(|pair| square(of, pair / images, pair % images));
            all.sum::<f64>() / (2 * images * images) as f64
        };
        let (of_own, of_other) = (spread(&own), spread(&other));
        for (a, b) in [(0, 1), (0, 9), (17, 39), (20, 21)] {
            let expected = square(&own, a, b) / of_own + square(&other, a, b) / of_other;
            let found = square(&joined, a, b);
            assert!(
                (found - expected).abs() < 1e-4 * expected,
                "{found}, {expected}"
            );
        }
    }

    #[test]
    fn a_head_has_no_more_dimensions_than_there_is_to_tell() {
        let rng = &mut ChaCha8Rng::seed_from_u64(7);
        let mut seen = features(rng, false);
        seen.labels = (0..40).map(|image| image / 20).collect();
        assert_eq!(seen.fit(Head::Lda).unwrap().config().embedding, 1);
        seen.labels = (0..40).collect();
        for head in [Head::Whitening, Head::WhitenedFeatures, Head::Lda] {
            let error = seen.fit(head).unwrap_err();
            assert!(error.is::<MetricsError>(), "{error}");
        }
    }
}
