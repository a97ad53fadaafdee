//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use metrics::OperatingPoint;

use crate::config::Preset;
use crate::device::DeviceChoice;
use crate::watch::OnNan;

/// Trains a Siamese network, judges it and uses it: a model that tells whether two images show the
/// same thing.
#[derive(Debug, Parser)]
#[command(name = "train", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `fit` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `fit`.
    #[command(flatten)]
    pub fit: FitArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a network and write a run folder
    Fit(Box<FitArgs>),
    /// Judge a trained network on a data set's test images
    Evaluate(EvaluateArgs),
    /// Tell whether two pictures show the same thing
    Verify(VerifyArgs),
    /// Find the nearest pictures of a folder
    Search(SearchArgs),
    /// Write embeddings of pictures, or of the test images
    Embed(EmbedArgs),
    /// Answer over HTTP, with a page to draw or choose two pictures on
    Serve(ServeArgs),
    /// Make a run's report.html again
    Report(ReportArgs),
}

/// Flags of `train fit`.
#[derive(Debug, Args)]
pub struct FitArgs {
    /// Images: `digits` (10,000 digits the program carries), `mnist:DIR` (a folder in MNIST's
    /// format) or `folder:DIR` (pictures, one sub-folder a class) [default: digits]
    #[arg(long, value_name = "SOURCE")]
    pub data: Option<String>,
    /// What pictures of a folder become: channels (1 or 3), height and width, such as 1x28x28
    /// [default: 3x64x64]
    #[arg(long, value_name = "CxHxW", value_parser = input_shape)]
    pub input: Option<[u32; 3]>,
    /// Leave out pictures of a folder that cannot be read
    #[arg(long)]
    pub skip_corrupt: bool,
    /// Settings to start from
    #[arg(long, value_enum, default_value_t)]
    pub preset: Preset,
    /// Settings from a TOML file, laid over the preset's; a run's config.toml repeats it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Epochs to train for
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    pub epochs: Option<u64>,
    /// Steps to train for
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Pairs in a step
    #[arg(long, value_name = "N")]
    pub batch: Option<u32>,
    /// What comes before the fully connected layers: `lenet`, or `small-resnet`, deeper, for pictures
    /// that are more than strokes [default: lenet]
    #[arg(long, value_name = "NAME")]
    pub trunk: Option<String>,
    /// Dimensions of the embedding [default: 2]
    #[arg(long, value_name = "D")]
    pub embedding: Option<u32>,
    /// Of which pairs the loss is: `pairs`, drawn beforehand, or `in-batch`, all pairs of a batch
    /// [default: pairs]
    #[arg(long, value_name = "KIND")]
    pub loss: Option<String>,
    /// With --loss in-batch: which pairs count: all, hard, semi-hard:WIDTH, hardest:NEGATIVES
    /// [default: all]
    #[arg(long, value_name = "NAME")]
    pub miner: Option<String>,
    /// With --loss in-batch: classes in a batch [default: 10]
    #[arg(long, value_name = "N")]
    pub classes_per_batch: Option<u32>,
    /// With --loss in-batch: images of each class in a batch [default: 12]
    #[arg(long, value_name = "N")]
    pub samples_per_class: Option<u32>,
    /// Classes by name, such as 7,8,9: train on the others, test on these
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub hold_out_classes: Vec<String>,
    /// Margin of the loss [default: 1]
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    pub margin: Option<f64>,
    /// The loss's formula: hadsell, legacy, squared, exponential-l1, exponential-l2
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
    /// How pairs are drawn: balanced, uniform, adjacent
    #[arg(long, value_name = "NAME")]
    pub pairing: Option<String>,
    /// Learning rate that the schedule starts from
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// Where all randomness comes from [default: 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
    /// What the threshold is chosen for on validation pairs: accuracy, eer or far=RATE, such as
    /// far=0.001, a false accept rate of at most 0.1% [default: accuracy]
    #[arg(long, value_name = "POINT")]
    pub at: Option<OperatingPoint>,
    /// Any setting, by its name in config.toml, such as transform.shift=3; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The run folder to make [default: the next free runs/DATA-NUMBER]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with a run that was stopped
    #[arg(
        long,
        value_name = "RUN",
        conflicts_with_all = [
            "data", "input", "skip_corrupt", "preset", "config", "epochs", "steps", "batch",
            "trunk", "embedding", "margin", "loss", "miner", "classes_per_batch", "samples_per_class",
            "hold_out_classes", "variant", "pairing", "learning_rate", "seed", "at", "out",
            "print_config", "on_nan",
        ]
    )]
    pub resume: Option<PathBuf>,
    /// With --resume: let --set change settings of the run, and record it in its changes.jsonl
    #[arg(long, requires = "resume")]
    pub allow_changes: bool,
    /// What to do where a loss or a gradient is not finite [default: stop]
    #[arg(long, value_enum)]
    pub on_nan: Option<OnNan>,
    /// Print the configuration that the other flags make, and train nothing
    #[arg(long)]
    pub print_config: bool,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How to speak.
    #[command(flatten)]
    pub voice: VoiceArgs,
}

fn input_shape(text: &str) -> Result<[u32; 3], String> {
    let sides: Option<Vec<u32>> = text.split('x').map(|side| side.parse().ok()).collect();
    let shape = sides.and_then(|sides| <[u32; 3]>::try_from(sides).ok());
    shape.ok_or_else(|| "give channels, height and width, such as 3x64x64".into())
}

/// Where to compute.
#[derive(Clone, Copy, Debug, Args)]
pub struct DeviceArgs {
    /// Where to compute: `cpu`, `cuda`, `cuda:N` for the GPU number N, or `auto`, the first GPU if
    /// there is one and the program was built for GPUs
    #[arg(long = "device", value_name = "DEVICE", default_value = "auto")]
    pub choice: DeviceChoice,
}

/// How to speak.
#[derive(Clone, Copy, Debug, Args)]
pub struct VoiceArgs {
    /// Say nothing but errors
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Speak JSON, one object a line, on standard output
    #[arg(long)]
    pub json: bool,
}

/// Flags of `train evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// A run folder
    pub run: PathBuf,
    /// Other images than the run's own: `digits`, `mnist:DIR` or `folder:DIR`
    #[arg(long, value_name = "SOURCE")]
    pub data: Option<String>,
    /// Another operating point than the run's, on its validation pairs: accuracy, eer or far=RATE
    #[arg(long, value_name = "POINT")]
    pub at: Option<OperatingPoint>,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How to speak.
    #[command(flatten)]
    pub voice: VoiceArgs,
}

/// Flags of `train verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A run folder, or a model.safetensors
    pub run: PathBuf,
    /// One picture
    #[arg(required_unless_present = "pairs")]
    pub first: Option<PathBuf>,
    /// The other
    #[arg(required_unless_present = "pairs")]
    pub second: Option<PathBuf>,
    /// Judge the pairs of a CSV file instead: columns a and b, and same (1 or 0) if the truth is known
    #[arg(long, value_name = "FILE", conflicts_with_all = ["first", "second", "exit_code"])]
    pub pairs: Option<PathBuf>,
    /// The folder that the list's paths start from [default: the list's own]
    #[arg(long, value_name = "DIR", requires = "pairs")]
    pub root: Option<PathBuf>,
    /// The CSV file to write the list's results to [default: standard output]
    #[arg(long, value_name = "FILE", requires = "pairs")]
    pub out: Option<PathBuf>,
    /// The distance up to which two pictures show the same thing [default: the model's own]
    #[arg(
        long,
        value_name = "D",
        allow_negative_numbers = true,
        conflicts_with = "at"
    )]
    pub threshold: Option<f64>,
    /// Take the threshold of another operating point on the model's validation pairs: accuracy, eer or
    /// far=RATE
    #[arg(long, value_name = "POINT")]
    pub at: Option<OperatingPoint>,
    /// End with status 3 if the pictures show different things
    #[arg(long)]
    pub exit_code: bool,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How to speak.
    #[command(flatten)]
    pub voice: VoiceArgs,
}

/// Flags of `train search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// A run folder, or a model.safetensors
    pub run: PathBuf,
    /// Pictures to find the nearest of
    #[arg(required = true)]
    pub queries: Vec<PathBuf>,
    /// The folder to search, with its sub-folders
    #[arg(long, value_name = "DIR")]
    pub gallery: PathBuf,
    /// Where to keep the folder's embeddings: a next search embeds only what is new or changed
    #[arg(long, value_name = "FILE")]
    pub index: Option<PathBuf>,
    /// How many to find for each picture
    #[arg(short, value_name = "N", default_value = "5")]
    pub k: NonZeroUsize,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How to speak.
    #[command(flatten)]
    pub voice: VoiceArgs,
}

/// Flags of `train embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// A run folder, or a model.safetensors if pictures are given
    pub run: PathBuf,
    /// Pictures; the run's test images if none are given
    pub pictures: Vec<PathBuf>,
    /// The safetensors file to write: `embeddings` (N, D), and `images` (N, C, H, W) as the network
    /// saw them
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How to speak.
    #[command(flatten)]
    pub voice: VoiceArgs,
}

/// Flags of `train serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A run folder, or a model.safetensors
    pub run: PathBuf,
    /// The port to listen on; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 8787)]
    pub port: u16,
    /// The address to listen on. Any but a loopback address lets whoever reaches this machine over
    /// the network use the service: it has neither passwords nor encryption
    #[arg(long, value_name = "ADDRESS", default_value_t = std::net::Ipv4Addr::LOCALHOST.into())]
    pub listen: std::net::IpAddr,
    /// A folder of pictures, its sub-folders' too, that POST /search looks through
    #[arg(long, value_name = "DIR")]
    pub gallery: Option<PathBuf>,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How to speak.
    #[command(flatten)]
    pub voice: VoiceArgs,
}

/// Flags of `train report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run folder
    pub run: PathBuf,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How to speak.
    #[command(flatten)]
    pub voice: VoiceArgs,
}
