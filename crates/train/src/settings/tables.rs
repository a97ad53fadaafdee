//! Every setting there is: the tables of `config.toml`, key by key.
//!
//! A new setting is an entry here, and its use.

use data::{Edge, Pairing, Source, SplitBy, Store, TransformConfig, Turns};
use loss_kernel::{InBatchReduction, Margin, Variant};
use metrics::OperatingPoint;
use model::{Activation, Hidden, NetworkConfig, Norm, Trunk};
use toml::Value;

use super::declare::{
    ABOVE_0, AT_LEAST_0, AT_LEAST_1, BELOW_1, FRACTION, Range, SHARE, settings, value,
};
use super::{
    Freeze, Groups, HeadChoice, Length, LossKind, MinerChoice, OnNan, Policy, Rule, Weights,
};

settings! {
    /// Everything needed to repeat a run, as `config.toml` has it.
    struct RunConfig {
        /// Seed of all random choices
        seed: u64 ["--seed N";] = 1;
    }
    tables {
        /// How long to train, and what to record.
        training: TrainingConfig,
        /// The images, and how they are split and paired.
        data: DataConfig,
        /// How images become network input, and how training images are augmented.
        transform: TransformConfig,
        /// The contrastive loss.
        loss: LossConfig,
        /// What a batch is, and which of its pairs count, with `loss.kind = "in-batch"`.
        in_batch: InBatchConfig,
        /// The optimiser.
        optimiser: OptimiserConfig,
        /// How the learning rate changes over a run.
        schedule: Schedule,
        /// The network: a trunk, then fully connected layers.
        net: NetworkConfig,
        /// The encoder that is the network's trunk with `net.trunk = "onnx"`; what is left empty is taken
        /// from a `preprocessor_config.json` (Hugging Face) or `config.json` (timm) beside its file.
        pretrained: PretrainedConfig,
        /// How the threshold is chosen.
        calibration: CalibrationConfig,
    }
}

settings! {
    /// How long to train, and what to record.
    struct TrainingConfig {
        /// Length of the run: `"40 epochs"`, `"5000 steps"` or `"100 epochs, at most 8000 steps"`
        length: Length [
            "--epochs N" => epochs "Train for N epochs";
            "--steps N" => steps "Train for N steps";
        ] = Length::Epochs(60), Caffe = Length::Steps(50_000),
            Accurate = Length::Steps(6000),
            Pictures = Length::AtMost { epochs: 200, steps: 5000 };
        /// Pairs per batch; the network sees twice as many images
        pairs_per_batch: usize ["--batch N"; in AT_LEAST_1; for Pairs;] = 64;
        /// Steps between two lines of metrics.jsonl
        log_every: u64 [in AT_LEAST_1;] = 10, Caffe = 100;
        /// Run folder or model file to take the first weights from, where shapes agree
        init: String ["--init RUN";] = String::new();
        /// Part of the network that is not trained: `none`, or `trunk`, of which the weights stay those
        /// of --init
        freeze: Freeze ["--freeze PART";] = Freeze::None;
        /// Steps between two evaluations; 0 for every epoch, or less often where evaluations would take
        /// more than a small share of the time
        evaluate_every: u64 = 0;
        /// Weights to keep: `last`, `best` (of the evaluation with the largest validation AUC), or
        /// `auto` (last, unless the best are better by more than chance on validation classes that are new
        /// to the network)
        weights: Weights = Weights::Auto;
        /// Unless the last weights are asked for, end training after this many evaluations without
        /// improvement on new validation classes; 0 for never
        patience: u64 = 0, Folder = 20, Pictures = 50;
        /// Last layer of the network, fitted to the training images once training is over: `none` (as
        /// trained), `whitening` (of the embeddings), `whitened-features` (of what the last layer
        /// sees), `lda` (linear discriminant analysis of that), `grid-lda` (the same of the last maps of
        /// a residual network, cell by cell of a grid), `stage-lda` (the embedding as trained, joined by
        /// the same of the maps of every stage), or `auto` (the best on the validation images where
        /// their classes are new to the network, otherwise none)
        head: HeadChoice ["--head KIND";] = HeadChoice::None, Pictures = HeadChoice::Auto;
        /// Train a second time, from the start and for as many steps as were best, on the validation images
        /// too, once these have chosen steps, head and threshold; where their classes are new to the
        /// network
        refit: bool = false, Pictures = true;
        /// Seconds between two checkpoints; 0 writes one after every step
        checkpoint_seconds: u64 = 30;
        /// Number of checkpoints to keep
        keep_checkpoints: usize [in AT_LEAST_1;] = 3;
        /// What to do when a loss or gradient is not finite: `stop`, or `rollback` (return to the
        /// end of the last epoch and continue at half the learning rate)
        on_nan: OnNan ["--on-nan ACTION";] = OnNan::Stop;
    }
}

settings! {
    /// The images, and how they are split and paired.
    struct DataConfig {
        /// Images to train on: `digits` (10,000 built-in handwritten digits), `mnist:DIR` (files in
        /// MNIST's format) or `folder:DIR` (pictures, one sub-folder per class, with defaults of their own
        /// that --print-config shows)
        source: Source ["--data SOURCE";] = Source::Digits;
        /// What is held out of a folder without a split of its own: `classes` (whole ones, new to the
        /// network), `images` (some of each class), or `auto` (classes, from a dozen on)
        split: SplitBy ["--split KIND";] = SplitBy::Auto;
        /// Fraction of the classes, or of each class, to test on, for folders without a split of their
        /// own; 0 to train on all that is not validated on
        test: f64 [in BELOW_1;] = 0.2;
        /// Skip pictures that cannot be read instead of stopping
        skip_corrupt: bool ["--skip-corrupt";] = false;
        /// Where to keep the pixels of a folder's pictures: `memory`, `disk`, or `auto` (memory up
        /// to 1 GiB)
        store: Store = Store::Auto;
        /// Swap rows and columns of images in MNIST's format, as EMNIST needs
        transposed: bool = false;
        /// How training pairs are drawn: `balanced` (half similar), `uniform` (at random) or
        /// `adjacent` (neighbours in a shuffled order)
        pairing: Pairing ["--pairing NAME"; for Pairs;] = Pairing::Balanced, Caffe = Pairing::Uniform;
        /// Make classes of turned training images: `none`, `quarter` (turned by 90, 180 and 270 degrees,
        /// four times the classes), `mirror` (mirrored left to right, twice), `both` (eight times) or
        /// `auto` (both for drawings, such as characters, where whole classes are held out)
        turns: Turns ["--turns KIND";] = Turns::None, Pictures = Turns::Auto;
        /// Train without these classes and test on them alone; names or patterns, such as 7,8,9 or
        /// 'Greek/*'
        hold_out_classes: Vec<String> ["--hold-out-classes NAMES" => names;] = Vec::new();
        /// Fraction of the remaining classes, or of each class's training images, held out to choose
        /// the threshold on
        // Classes of a folder are small, and a similar pair needs two images of one.
        validation: f64 [in FRACTION;] = 0.05, Folder = 0.1;
        /// Number of test pairs, and of validation pairs; half of them similar, fixed by the seed, or
        /// all there are of a kind
        evaluation_pairs: usize [in EVALUATION_PAIRS;] = 20_000;
    }
}

settings! {
    for TransformConfig {
        /// Factor applied to the raw pixels, 0 to 255
        scale: f32 [in SCALE;] = TransformConfig::default().scale, Caffe = 1.0 / 256.0;
        /// Mean subtracted after scaling
        mean: f32 [in FINITE;] = TransformConfig::default().mean, Caffe = 0.0, Folder = 0.5;
        /// Standard deviation divided by after that
        std: f32 [in SCALE;] = TransformConfig::default().std, Caffe = 1.0, Folder = 0.25;
        /// Largest random shift of a training image, in pixels; 0 for none
        shift: u32 = 2, Caffe = 0;
        /// Largest random rotation of a training image, in degrees; 0 for none
        rotation: f32 [in DEGREES;] = 10.0, Caffe = 0.0;
        /// Largest random change in size of a training image, as a fraction: 0.2 makes it up to 1.2
        /// times as large or as small; 0 for none
        zoom: f32 [in ZOOM;] = 0.0, Accurate = 0.1, Pictures = 0.15;
        /// Largest random shear of a training image, in degrees by which upright lines are slanted; 0
        /// for none
        shear: f32 [in SHEAR;] = 0.0;
        /// Largest share of a training image's area that a random crop cuts away before the rest is
        /// scaled back to the full size; 0 for none
        crop: f32 [in BELOW_1;] = 0.0;
        /// What fills the gap where an image is moved: `zero`, or `repeat` (the nearest pixel)
        edge: Edge = Edge::Zero, Folder = Edge::Repeat;
        /// Mirror half of the training images left to right
        flip: bool = false;
        /// Mirror half of the training images top to bottom
        flip_vertical: bool = false;
        /// Largest random change in brightness of a training image, as a fraction; 0 for none
        brightness: f32 [in SHARE;] = 0.0, Pictures = 0.3;
        /// Largest random change in contrast of a training image, as a fraction; 0 for none
        contrast: f32 [in SHARE;] = 0.0, Pictures = 0.3;
        /// Largest random change in saturation of a training image, as a fraction; 0 for none
        saturation: f32 [in SHARE;] = 0.0, Pictures = 0.5;
        /// Largest random turn of a training image's hues, as a fraction of the colour wheel; 0 for none
        hue: f32 [in HALF;] = 0.0, Pictures = 0.1;
        /// Largest share of a training image's area to erase, in half of the images: a rectangle is
        /// filled with the image's mean; 0 for none
        erase: f32 [in SHARE;] = 0.0;
    }
}

settings! {
    /// The contrastive loss.
    #[derive(Copy)]
    struct LossConfig {
        /// Pairs to compute the loss over: `pairs` (drawn in advance) or `in-batch` (all pairs of a
        /// batch)
        kind: LossKind ["--loss KIND";] = LossKind::Pairs, Accurate = LossKind::InBatch,
            Pictures = LossKind::InBatch;
        /// Formula of the loss: `hadsell`, `legacy`, `squared`, `exponential-l1` or
        /// `exponential-l2`
        variant: Variant ["--variant NAME";] = Variant::Hadsell;
        /// Margin: dissimilar pairs are pushed apart up to this distance
        margin: Margin ["--margin M";] = Margin::default();
    }
}

settings! {
    /// What a batch is, and which of its pairs count, with `loss.kind = "in-batch"`.
    #[derive(Copy)]
    struct InBatchConfig {
        /// With --loss in-batch, classes per batch; 0 for as many as make 120 images
        classes_per_batch: usize ["--classes-per-batch N"; for InBatch;] = 10, Pictures = 0;
        /// With --loss in-batch, images of each class per batch; 0 for as many as nine tenths of the
        /// classes have, at most 6
        samples_per_class: usize ["--samples-per-class N"; for InBatch;] = 12, Pictures = 0;
        /// Where the classes of a batch come from, if they are in groups (folders of class folders, such
        /// as alphabets): `mixed` (from all), or `together` (from one group, as far as it has enough)
        groups: Groups [for InBatch;] = Groups::Mixed;
        /// With --loss in-batch, the pairs that count: `all`, `hard`, `semi-hard:WIDTH` or
        /// `hardest:N` (dissimilar pairs per anchor)
        miner: MinerChoice ["--miner NAME"; for InBatch;] = MinerChoice::default();
        /// How the losses of the pairs are combined: `mean`, `mean-non-zero` or `sum`
        reduction: InBatchReduction [for InBatch;] = InBatchReduction::Mean,
            Accurate = InBatchReduction::MeanNonZero, Pictures = InBatchReduction::MeanNonZero;
        /// Weigh similar and dissimilar pairs equally, however many there are of each
        balanced: bool [for InBatch;] = true;
        /// Embeddings of earlier batches to compare each batch with as well (cross-batch memory); 0 for
        /// none
        memory: usize [for InBatch;] = 0;
        /// Steps before the memory begins to fill: embeddings of a network that still changes fast are
        /// soon out of date
        memory_after: u64 [for InBatch;] = 1000;
    }
}

settings! {
    /// The optimiser; keys that its rule does not use are ignored.
    #[derive(Copy)]
    struct OptimiserConfig {
        /// Update rule: `sgd` (with momentum, as in Caffe) or `adam-w`
        rule: Rule = Rule::AdamW, Caffe = Rule::Sgd;
        /// Learning rate before the schedule scales it
        learning_rate: f64 ["--learning-rate RATE"; in ABOVE_0;] = 2e-3, Caffe = 0.01;
        /// Weight decay
        weight_decay: f64 [in AT_LEAST_0;] = 1e-4, Caffe = 0.0;
        /// Factor on the learning rate of biases; Caffe's LeNet uses 2
        bias_rate: f64 [in AT_LEAST_0;] = 1.0, Caffe = 2.0;
        /// `sgd`: momentum
        momentum: f64 [in BELOW_1;] = 0.9;
        /// `adam-w`: decay rate of the first moment
        beta1: f64 [in BELOW_1;] = 0.9;
        /// `adam-w`: decay rate of the second moment
        beta2: f64 [in BELOW_1;] = 0.999;
        /// `adam-w`: added to the denominator
        epsilon: f64 [in ABOVE_0;] = 1e-8;
    }
}

settings! {
    /// How the learning rate changes over a run; keys that its policy does not use are ignored.
    #[derive(Copy)]
    struct Schedule {
        /// Shape: `constant`, `inv`, `step` or `cosine`
        policy: Policy = Policy::Cosine, Caffe = Policy::Inv;
        /// Steps of linear warm-up; 0 for none
        warm_up: u64 = 100, Caffe = 0;
        /// `inv`, `step`: gamma
        gamma: f64 [in AT_LEAST_0;] = 0.1, Caffe = 1e-4;
        /// `inv`: power
        power: f64 [in AT_LEAST_0;] = 0.75;
        /// `step`: steps between two drops
        step_size: u64 [in AT_LEAST_1;] = 1000;
        /// `cosine`: fraction of the learning rate left at the end
        floor: f64 [in SHARE;] = 0.01;
    }
}

settings! {
    for NetworkConfig {
        /// Convolutional layers of the network: `lenet`; `small-resnet`, which is deeper, for
        /// photographs and other pictures with more to them than strokes; `conv4`, four small convolutions,
        /// for many classes of few images each; or `onnx:FILE`, an image encoder that was trained before,
        /// which stays as it is
        trunk: Trunk ["--trunk NAME";] = Trunk::Lenet, Accurate = Trunk::SmallResnet,
            Pictures = Trunk::SmallResnet;
        /// Size of an input image: channels (1 or 3), height and width, such as 1x28x28; the
        /// pictures of a folder are scaled to it, and taken as grey (1x32x32) where all of them are grey and
        /// nothing is asked for
        input: [usize; 3] ["--input CxHxW" => input;] = NetworkConfig::relu(2).input, Folder = [3, 64, 64],
            Pictures = [3, 32, 32];
        /// Filters of the trunk's convolutions: both of LeNet's, or one number per stage of a
        /// residual network or per block of `conv4`
        channels: Vec<usize> = NetworkConfig::relu(2).channels,
            Caffe = NetworkConfig::caffe(2).channels,
            Accurate = NetworkConfig::small_resnet(2).channels, Pictures = NetworkConfig::small_resnet(2).channels;
        /// Activation after each convolution: `relu` or `linear`
        conv_activation: Activation = NetworkConfig::relu(2).conv_activation,
            Caffe = NetworkConfig::caffe(2).conv_activation;
        /// Normalise what each convolution gives, before the activation: `none`, or `group` (over
        /// groups of channels, each image by itself; the default of `conv4`)
        norm: Norm ["--norm NAME";] = Norm::None, Accurate = Norm::Group,
            Pictures = Norm::Group;
        /// `small-resnet`: the last maps are averaged over each cell of a grid of so many cells a side; 1
        /// for the mean over all places
        grid: usize [in AT_LEAST_1;] = 1;
        /// `small-resnet`: embed the maps of every stage, each averaged over the grid, and not those of
        /// the last stage alone
        every_stage: bool = false;
        /// Fully connected layers between the trunk and the embedding
        hidden: Vec<Hidden> = NetworkConfig::relu(2).hidden,
            Caffe = NetworkConfig::caffe(2).hidden, Accurate = Vec::<Hidden>::new(),
            Pictures = Vec::<Hidden>::new();
        /// Dimensions of the embedding
        embedding: usize ["--embedding D";] = 2, Accurate = 64, Pictures = 64;
        /// Divide every embedding by its Euclidean length, so that distances are at most 2
        normalised: bool ["--normalised";] = false;
    }
}

settings! {
    /// The encoder that is the network's trunk with `net.trunk = "onnx"`; what is left empty is taken from
    /// a `preprocessor_config.json` (Hugging Face) or `config.json` (timm) beside its file.
    struct PretrainedConfig {
        /// ONNX file of the encoder, as `--trunk onnx:FILE` names it
        file: String = String::new();
        /// SHA-256 that the file has to have, in hexadecimal; a run fills it in
        sha256: String = String::new();
        /// Which of several outputs of the encoder are the features
        output: String = String::new();
        /// Height and width of the encoder's input, cut from the middle of the scaled picture
        size: Vec<usize> = Vec::new();
        /// What pictures are scaled to first: the shorter side, or height and width
        resize: Vec<usize> = Vec::new();
        /// How they are scaled: `nearest`, `bilinear`, `bicubic` or `lanczos`
        interpolation: String = String::new();
        /// Order in which the encoder takes colours: `rgb` or `bgr`
        colours: String = String::new();
        /// Factor applied to the raw pixels, 0 to 255; 0 for what the file beside the encoder says, or
        /// 1/255
        scale: f64 [in AT_LEAST_0;] = 0.0;
        /// Mean subtracted after scaling, for each colour
        mean: Vec<f64> = Vec::new();
        /// Standard deviation divided by after that, for each colour
        std: Vec<f64> = Vec::new();
        /// With --trunk onnx:FILE, folder to keep the pictures' features in [default: beside FILE, ending in
        /// .features]
        cache: String ["--cache DIR";] = String::new();
        /// With --trunk onnx:FILE, put the encoder into the model file, which then needs no other
        embed: bool ["--embed-trunk";] = false;
    }
}

settings! {
    /// How the threshold is chosen.
    #[derive(Copy)]
    struct CalibrationConfig {
        /// Operating point to choose the threshold for, on validation pairs: `accuracy`, `eer`, or
        /// `far=RATE`, such as far=0.001 for a false accept rate of at most 0.1%
        at: OperatingPoint ["--at POINT";] = OperatingPoint::Accuracy;
    }
}

/// Pixels are computed with in f32.
const SCALE: Range = Range {
    expected: "finite and above 0",
    holds: |value| value as f32 > 0.0 && (value as f32).is_finite(),
};
const FINITE: Range = Range {
    expected: "finite",
    holds: |value| (value as f32).is_finite(),
};
const DEGREES: Range = Range {
    expected: "from 0 to 180 degrees",
    holds: |value| (0.0..=180.0).contains(&value),
};
const ZOOM: Range = Range {
    expected: "from 0 to 4 (a fifth of the size to five times the size)",
    holds: |value| (0.0..=4.0).contains(&value),
};
const SHEAR: Range = Range {
    expected: "from 0 to 45 degrees",
    holds: |value| (0.0..=45.0).contains(&value),
};
const HALF: Range = Range {
    expected: "from 0 to 0.5",
    holds: |value| (0.0..=0.5).contains(&value),
};

/// Pairs are held in memory at once: a few hundred MB for the most.
const EVALUATION_PAIRS: Range = Range {
    expected: "from 2 (one pair of each kind) to 10000000",
    holds: |value| (2.0..=1e7).contains(&value),
};

fn epochs(count: &str) -> Result<Value, String> {
    length(count, Length::Epochs)
}

fn steps(count: &str) -> Result<Value, String> {
    length(count, Length::Steps)
}

fn length(count: &str, of: fn(u64) -> Length) -> Result<Value, String> {
    let count: u64 = count
        .parse()
        .map_err(|error: std::num::ParseIntError| error.to_string())?;
    Ok(value(of(count)))
}

fn names(list: &str) -> Result<Value, String> {
    Ok(value(Vec::from_iter(list.split(','))))
}

fn input(shape: &str) -> Result<Value, String> {
    let sides: Option<Vec<u32>> = shape.split('x').map(|side| side.parse().ok()).collect();
    let shape = sides.and_then(|sides| <[u32; 3]>::try_from(sides).ok());
    let shape = shape.ok_or("give channels, height and width, such as 3x64x64")?;
    Ok(value(shape))
}
