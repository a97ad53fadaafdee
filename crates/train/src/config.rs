//! All that is needed to repeat a run, as `config.toml` has it.
//!
//! A configuration is a preset, with a file's keys laid over it, with the command line's laid over
//! that. Every key of every table is always written out, so what a preset writes is also the list
//! of keys there are.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};
use data::{DataError, Pairing, Source, Store, TransformConfig};
use loss_kernel::{ContrastiveLoss, InBatchContrastiveLoss, InBatchReduction, Margin, Variant};
use metrics::OperatingPoint;
use model::{NetworkConfig, Trunk};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::in_batch::{InBatchConfig, MinerChoice};
use crate::optimiser::{OptimiserConfig, Rule};
use crate::schedule::{Policy, Schedule};
use crate::trainer::Objective;
use crate::usage::usage;
use crate::watch::OnNan;

/// They are held in memory at once: a few hundred MB for this many.
const MOST_EVALUATION_PAIRS: usize = 10_000_000;

/// Of a file of configuration, in bytes; all settings take about one KiB.
const LONGEST_FILE: u64 = 1 << 20;

/// Of a key with dots.
const MOST_LEVELS: usize = 8;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How long, and what is written down on the way.
    pub training: TrainingConfig,
    /// Which images and which pairs of them.
    pub data: DataConfig,
    /// What becomes of an image's bytes.
    pub transform: TransformConfig,
    /// What is minimised.
    pub loss: LossConfig,
    /// What a batch is and which of its pairs count, where `loss.kind` is `in-batch`.
    pub in_batch: InBatchConfig,
    /// How.
    pub optimiser: OptimiserConfig,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// What is trained.
    pub net: NetworkConfig,
    /// How the threshold is chosen.
    pub calibration: CalibrationConfig,
}

/// How the threshold is chosen on validation pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationConfig {
    /// `accuracy`, `eer` or `far=RATE`.
    pub at: OperatingPoint,
}

/// How long a run is, and what is written down on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// `"40 epochs"` or `"5000 steps"`.
    pub length: Length,
    /// Pairs in a step, where `loss.kind` is `pairs`; the network sees twice as many images.
    pub pairs_per_batch: usize,
    /// Steps between two lines of `metrics.jsonl`.
    pub log_every: u64,
    /// Seconds between two checkpoints; 0 for one after every step.
    pub checkpoint_seconds: u64,
    /// How many of the newest checkpoints are kept.
    pub keep_checkpoints: usize,
    /// What to do where a loss or a gradient is not finite: `stop` or `rollback`.
    pub on_nan: OnNan,
}

/// Which images and which pairs of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// `digits`, `mnist:DIR` or `folder:DIR`.
    pub source: Source,
    /// Fraction of each class's pictures that are tested on, where a folder has no split of its own.
    pub test: f64,
    /// Whether a folder's pictures that cannot be read are left out.
    pub skip_corrupt: bool,
    /// Where the pixels of a folder's pictures are kept.
    pub store: Store,
    /// How training pairs are drawn, where `loss.kind` is `pairs`.
    pub pairing: Pairing,
    /// Names of classes that are kept out of training and validation, to test on them alone.
    pub hold_out_classes: Vec<String>,
    /// Fraction of each class's training images held out to choose the threshold on.
    pub validation: f64,
    /// Pairs of test images, and as many of validation images, that figures are reported on: half
    /// of them similar, fixed by the seed.
    pub evaluation_pairs: usize,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Of which pairs.
    pub kind: LossKind,
    /// The formula.
    pub variant: Variant,
    /// How far apart dissimilar pairs are pushed.
    pub margin: Margin,
}

/// Of which pairs a loss is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// Of pairs that are drawn beforehand.
    #[default]
    Pairs,
    /// Of all pairs of the images of a batch.
    InBatch,
}

impl LossConfig {
    /// The mean over given pairs; what a network is judged by in either case.
    pub fn of_pairs(self) -> ContrastiveLoss {
        ContrastiveLoss::new(self.margin).variant(self.variant)
    }
}

/// How long a run is. An epoch is as many steps as it takes to see as many images as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// In steps.
    Steps(u64),
    /// In epochs.
    Epochs(u64),
}

impl Length {
    /// Steps in an epoch over `images` images.
    pub fn epoch(images: usize, images_per_batch: usize) -> u64 {
        (images / images_per_batch).max(1) as u64
    }

    /// In steps.
    pub fn steps(self, epoch: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Epochs(epochs) => epochs.saturating_mul(epoch),
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(n) => write!(f, "{n} steps"),
            Self::Epochs(n) => write!(f, "{n} epochs"),
        }
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As steps of a millisecond, 50 days; as epochs, no number of steps that overflows.
        const MOST: u64 = u32::MAX as u64;
        let parsed = text.split_once(' ').and_then(|(count, unit)| {
            let count = count
                .parse()
                .ok()
                .filter(|count| (1..=MOST).contains(count))?;
            match unit {
                "steps" => Some(Self::Steps(count)),
                "epochs" => Some(Self::Epochs(count)),
                _ => None,
            }
        });
        parsed.ok_or_else(|| {
            format!(
                "{text:?} is no length: write \"40 epochs\" or \"5000 steps\", with a number from \
                 1 to {MOST}"
            )
        })
    }
}

impl Serialize for Length {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A configuration to start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// What trains best: ReLU after the convolutions, normalised input, AdamW, a cosine schedule.
    #[default]
    Default,
    /// Caffe's examples/siamese to the letter: net, solver, input scale, pairs drawn uniformly,
    /// 50,000 iterations of 64 pairs.
    Caffe,
}

impl Preset {
    /// The configuration.
    pub fn config(self) -> RunConfig {
        match self {
            Self::Default => RunConfig {
                seed: 1,
                training: TrainingConfig {
                    length: Length::Epochs(60),
                    pairs_per_batch: 64,
                    log_every: 10,
                    checkpoint_seconds: 30,
                    keep_checkpoints: 3,
                    on_nan: OnNan::Stop,
                },
                data: DataConfig {
                    source: Source::Digits,
                    test: 0.2,
                    skip_corrupt: false,
                    store: Store::Auto,
                    pairing: Pairing::Balanced,
                    hold_out_classes: Vec::new(),
                    validation: 0.05,
                    evaluation_pairs: 20_000,
                },
                transform: TransformConfig {
                    shift: 2,
                    rotation: 10.0,
                    ..TransformConfig::default()
                },
                loss: LossConfig {
                    kind: LossKind::Pairs,
                    variant: Variant::Hadsell,
                    margin: Margin::default(),
                },
                in_batch: InBatchConfig {
                    classes_per_batch: 10,
                    samples_per_class: 12,
                    miner: MinerChoice::default(),
                    reduction: InBatchReduction::Mean,
                    balanced: true,
                },
                optimiser: OptimiserConfig {
                    rule: Rule::AdamW,
                    learning_rate: 2e-3,
                    weight_decay: 1e-4,
                    bias_rate: 1.0,
                    momentum: 0.9,
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon: 1e-8,
                },
                schedule: Schedule {
                    policy: Policy::Cosine,
                    warm_up: 100,
                    gamma: 0.1,
                    power: 0.75,
                    step_size: 1000,
                    floor: 0.01,
                },
                net: NetworkConfig::relu(2),
                calibration: CalibrationConfig::default(),
            },
            Self::Caffe => {
                let base = Self::Default.config();
                RunConfig {
                    training: TrainingConfig {
                        length: Length::Steps(50_000),
                        log_every: 100,
                        ..base.training
                    },
                    data: DataConfig {
                        pairing: Pairing::Uniform,
                        ..base.data
                    },
                    transform: TransformConfig {
                        scale: 1.0 / 256.0,
                        mean: 0.0,
                        std: 1.0,
                        ..TransformConfig::default()
                    },
                    optimiser: OptimiserConfig::caffe(),
                    schedule: Schedule {
                        policy: Policy::Inv,
                        warm_up: 0,
                        gamma: 1e-4,
                        power: 0.75,
                        ..base.schedule
                    },
                    net: NetworkConfig::caffe(2),
                    ..base
                }
            }
        }
    }
}

impl RunConfig {
    /// Reads a whole configuration, as a run folder has it.
    pub fn read(path: &Path) -> Result<Self> {
        let overlay = Overlay::new(Preset::Default)?.text(path, &read_text(path)?)?;
        overlay.finish().with_context(|| path.display().to_string())
    }

    /// The keys whose values another has changed, each with its value here and there.
    pub fn changes(&self, other: &Self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        compare(
            &Table::try_from(self)?,
            &Table::try_from(other)?,
            "",
            &mut changes,
        );
        Ok(changes)
    }

    /// As `config.toml` has it.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("writing the configuration as TOML")
    }

    /// What a step minimises.
    pub fn objective(&self) -> Objective {
        match self.loss.kind {
            LossKind::Pairs => self.loss.of_pairs().into(),
            LossKind::InBatch => {
                let loss = InBatchContrastiveLoss::new(self.loss.margin).variant(self.loss.variant);
                self.in_batch.apply(loss).into()
            }
        }
    }

    /// Images that the network sees in a step.
    pub fn images_per_batch(&self) -> usize {
        match self.loss.kind {
            LossKind::Pairs => self.training.pairs_per_batch.saturating_mul(2),
            LossKind::InBatch => self.in_batch.images_per_batch(),
        }
    }

    /// The same for people, with what makes it up.
    pub fn batch_in_words(&self) -> String {
        match self.loss.kind {
            LossKind::Pairs => format!("{} pairs", self.training.pairs_per_batch),
            LossKind::InBatch => format!(
                "all pairs of {} images ({} classes, {} of each)",
                self.images_per_batch(),
                self.in_batch.classes_per_batch,
                self.in_batch.samples_per_class
            ),
        }
    }

    /// Why this setting of a key has no effect, if it has none.
    fn unused(&self, key: &str) -> Option<String> {
        let of_pairs = matches!(key, "training.pairs_per_batch" | "data.pairing");
        match self.loss.kind {
            LossKind::InBatch if of_pairs => Some(format!(
                "{key} (--batch, --pairing) is of pairs drawn beforehand: add --loss pairs; with \
                 --loss in-batch a batch is --classes-per-batch times --samples-per-class images"
            )),
            LossKind::Pairs if key.starts_with("in_batch.") => Some(format!(
                "{key} is of a loss over all pairs of a batch; add --loss in-batch"
            )),
            _ => None,
        }
    }

    fn validate(&self) -> Result<()> {
        let settings = &self.training;
        let positive = |name: &str, value: u64| match value {
            0 => Err(usage(format!("{name} is 0; it must be at least 1"))),
            _ => Ok(()),
        };
        positive("training.pairs_per_batch", settings.pairs_per_batch as u64)?;
        positive("training.log_every", settings.log_every)?;
        positive(
            "training.keep_checkpoints",
            settings.keep_checkpoints as u64,
        )?;
        positive("schedule.step_size", self.schedule.step_size)?;
        if !(2..=MOST_EVALUATION_PAIRS).contains(&self.data.evaluation_pairs) {
            return Err(usage(format!(
                "data.evaluation_pairs is {}; it must be at least 2, one of each kind, and at most \
                 {MOST_EVALUATION_PAIRS}",
                self.data.evaluation_pairs
            )));
        }
        // Half of the pairs are different.
        let needed = self.calibration.at.dissimilar_pairs().saturating_mul(2);
        if self.data.evaluation_pairs < needed {
            return Err(usage(format!(
                "calibration.at is {}, which takes {needed} evaluation pairs to tell, ten different \
                 ones for each false accept that it allows; data.evaluation_pairs is {}",
                self.calibration.at, self.data.evaluation_pairs
            )));
        }
        if self.seed > i64::MAX as u64 {
            return Err(usage(format!(
                "seed is {}; TOML ends at {}",
                self.seed,
                i64::MAX
            )));
        }
        let optimiser = &self.optimiser;
        for (name, value, fits, expected) in [
            (
                "data.validation",
                self.data.validation,
                (0.0..1.0).contains(&self.data.validation) && self.data.validation > 0.0,
                "between 0 and 1",
            ),
            (
                "data.test",
                self.data.test,
                (0.0..1.0).contains(&self.data.test) && self.data.test > 0.0,
                "between 0 and 1",
            ),
            (
                "optimiser.learning_rate",
                optimiser.learning_rate,
                optimiser.learning_rate > 0.0 && optimiser.learning_rate.is_finite(),
                "above 0",
            ),
            (
                "optimiser.weight_decay",
                optimiser.weight_decay,
                optimiser.weight_decay >= 0.0 && optimiser.weight_decay.is_finite(),
                "0 or more",
            ),
            (
                "optimiser.bias_rate",
                optimiser.bias_rate,
                optimiser.bias_rate >= 0.0 && optimiser.bias_rate.is_finite(),
                "0 or more",
            ),
            (
                "optimiser.momentum",
                optimiser.momentum,
                (0.0..1.0).contains(&optimiser.momentum),
                "from 0 to below 1",
            ),
            (
                "optimiser.beta1",
                optimiser.beta1,
                (0.0..1.0).contains(&optimiser.beta1),
                "from 0 to below 1",
            ),
            (
                "optimiser.beta2",
                optimiser.beta2,
                (0.0..1.0).contains(&optimiser.beta2),
                "from 0 to below 1",
            ),
            (
                "optimiser.epsilon",
                optimiser.epsilon,
                optimiser.epsilon > 0.0 && optimiser.epsilon.is_finite(),
                "above 0",
            ),
            (
                "schedule.gamma",
                self.schedule.gamma,
                self.schedule.gamma >= 0.0 && self.schedule.gamma.is_finite(),
                "0 or more",
            ),
            (
                "schedule.power",
                self.schedule.power,
                self.schedule.power >= 0.0 && self.schedule.power.is_finite(),
                "0 or more",
            ),
            (
                "schedule.floor",
                self.schedule.floor,
                (0.0..=1.0).contains(&self.schedule.floor),
                "from 0 to 1",
            ),
        ] {
            if !fits {
                return Err(usage(format!("{name} is {value}; it must be {expected}")));
            }
        }
        self.transform
            .validate()
            .map_err(|error: DataError| usage(format!("transform: {error}")))?;
        self.net
            .validate()
            .map_err(|error| usage(format!("net: {error}")))
    }
}

/// A setting that is another than before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Its name, such as `optimiser.learning_rate`.
    pub key: String,
    /// What it was.
    pub from: Value,
    /// What it is.
    pub to: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.key, self.from, self.to)
    }
}

fn compare(from: &Table, to: &Table, path: &str, changes: &mut Vec<Change>) {
    for (key, from) in from {
        let key_path = format!("{path}{key}");
        match (from, to.get(key)) {
            (Value::Table(from), Some(Value::Table(to))) => {
                compare(from, to, &format!("{key_path}."), changes);
            }
            (from, Some(to)) if from != to => changes.push(Change {
                key: key_path,
                from: from.clone(),
                to: to.clone(),
            }),
            _ => {}
        }
    }
}

/// A configuration in the making.
pub struct Overlay {
    table: Table,
    /// Keys that the command line has given.
    given: Vec<String>,
}

impl Overlay {
    /// A configuration as it is.
    pub fn of(config: &RunConfig) -> Result<Self> {
        let table = Table::try_from(config).context("a configuration as TOML")?;
        Ok(Self {
            table,
            given: Vec::new(),
        })
    }

    /// A preset as it is.
    pub fn new(preset: Preset) -> Result<Self> {
        Ok(Self {
            table: Table::try_from(preset.config()).context("a preset as TOML")?,
            given: Vec::new(),
        })
    }

    /// With what suits pictures better than drawings.
    pub fn for_pictures(self) -> Result<Self> {
        let input: Vec<Value> = [3, 64, 64].map(Value::Integer).to_vec();
        self.set("net.input", input)?
            // Classes are small: a pair of the same class needs two of one.
            .set("data.validation", 0.1)?
            .set("transform.mean", 0.5)?
            .set("transform.std", 0.25)?
            .set("transform.edge", "repeat")
    }

    /// What has been set so far counts as no wish of the user's.
    pub fn into_start(self) -> Self {
        Self {
            given: Vec::new(),
            ..self
        }
    }

    /// With the classes in a batch that are left of ten, which digits have, when so many are held out.
    pub fn for_held_out(self, classes: usize) -> Result<Self> {
        let left = 10usize.saturating_sub(classes).max(2);
        self.set("in_batch.classes_per_batch", left as i64)
    }

    /// How many classes are held out.
    pub fn held_out(&self) -> usize {
        let names = self.value("data", "hold_out_classes");
        names.and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// With the layers that a residual trunk has if nothing else is said.
    pub fn for_residual_trunk(self) -> Result<Self> {
        let NetworkConfig {
            channels, hidden, ..
        } = NetworkConfig::small_resnet(2);
        self.set("net.channels", Value::try_from(channels)?)?
            .set("net.hidden", Value::try_from(hidden)?)
    }

    /// Whether the trunk is a residual network.
    pub fn is_residual(&self) -> bool {
        let trunk = self.value("net", "trunk").cloned();
        trunk.and_then(|trunk| trunk.try_into().ok()) == Some(Trunk::SmallResnet)
    }

    /// Whether the images are a folder of pictures.
    pub fn has_pictures(&self) -> bool {
        self.value("data", "source")
            .and_then(Value::as_str)
            .is_some_and(|source| source.starts_with("folder:"))
    }

    fn value(&self, table: &str, key: &str) -> Option<&Value> {
        self.table.get(table)?.get(key)
    }

    /// With the keys of a TOML text, which errors call `path`.
    pub fn text(mut self, path: &Path, text: &str) -> Result<Self> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
            let (path, problem) = (path.display(), error.message());
            usage(format!("{path} is not TOML: line {line}: {problem}"))
        })?;
        lay(&mut self.table, table, "")
            .map_err(|error| usage(format!("{}: {error}", path.display())))?;
        Ok(self)
    }

    /// With `value` at `key`, a path such as `optimiser.learning_rate`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Result<Self> {
        // Each level would be a table in a table, and to drop ever so many overflows the stack.
        if key.split('.').count() > MOST_LEVELS {
            let start: String = key.chars().take(40).collect();
            return Err(usage(format!("there is no key `{start}…`")));
        }
        let mut value = value.into();
        for part in key.rsplit('.') {
            value = Value::Table(Table::from_iter([(part.to_string(), value)]));
        }
        let Value::Table(table) = value else {
            return Err(usage("a setting needs a key"));
        };
        name_leaves(&table, "", &mut self.given);
        lay(&mut self.table, table, "").map_err(usage)?;
        Ok(self)
    }

    /// With a `key=value` of the command line; what is not a TOML value is taken as a string.
    pub fn assignment(self, text: &str) -> Result<Self> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(usage(format!(
                "`{text}` sets nothing: write KEY=VALUE, such as transform.shift=3"
            )));
        };
        let (key, value) = (key.trim(), value.trim());
        let parsed = format!("value = {value}").parse::<Table>().ok();
        let parsed = parsed.and_then(|mut table| table.remove("value"));
        self.set(key, parsed.unwrap_or_else(|| Value::from(value)))
    }

    /// The configuration, checked.
    pub fn finish(self) -> Result<RunConfig> {
        let config: RunConfig = self
            .table
            .try_into()
            // It names the key on a line of its own.
            .map_err(|error: toml::de::Error| {
                usage(error.to_string().trim_end().replace('\n', " "))
            })?;
        config.validate()?;
        match self.given.iter().find_map(|key| config.unused(key)) {
            Some(reason) => Err(usage(reason)),
            None => Ok(config),
        }
    }
}

/// The text of a file of settings, for [`Overlay::text`].
pub fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_FILE + 1).read_to_string(&mut text))
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(usage(format!(
            "{} is no configuration: it is longer than {LONGEST_FILE} bytes",
            path.display()
        )));
    }
    Ok(text)
}

/// The paths of all values in `table`.
fn name_leaves(table: &Table, path: &str, names: &mut Vec<String>) {
    for (key, value) in table {
        let here = format!("{path}{key}");
        match value {
            Value::Table(table) => name_leaves(table, &format!("{here}."), names),
            _ => names.push(here),
        }
    }
}

/// Lays `over` on `base`, whose keys are all there are.
fn lay(base: &mut Table, over: Table, path: &str) -> Result<(), String> {
    for (key, value) in over {
        let here = format!("{path}{key}");
        let Some(slot) = base.get_mut(&key) else {
            let near = base
                .keys()
                .map(|known| (strsim::damerau_levenshtein(known, &key), known))
                .min()
                .filter(|(distance, known)| *distance <= known.len().max(4) / 2);
            return Err(match near {
                Some((_, known)) => {
                    format!("there is no key `{here}`; did you mean `{path}{known}`?")
                }
                None => {
                    let known: Vec<&str> = base.keys().map(String::as_str).collect();
                    format!("there is no key `{here}`; there are {}", known.join(", "))
                }
            });
        };
        match (slot, value) {
            (Value::Table(base), Value::Table(over)) => lay(base, over, &format!("{here}."))?,
            (Value::Table(_), _) => return Err(format!("`{here}` is a table, not a value")),
            // `margin = 1` means 1.0.
            (slot @ Value::Float(_), Value::Integer(whole)) => *slot = Value::Float(whole as f64),
            (slot, value) => {
                if slot.type_str() != value.type_str() {
                    return Err(format!(
                        "`{here}` is {} ({value}); it must be {}, such as {slot}",
                        value.type_str(),
                        slot.type_str()
                    ));
                }
                *slot = value;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    fn overlay() -> Overlay {
        Overlay::new(Preset::Default).unwrap()
    }

    fn refusal(assignment: &str) -> String {
        match overlay().assignment(assignment).and_then(Overlay::finish) {
            Ok(_) => panic!("{assignment} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn presets_survive_being_written_and_read() {
        for preset in [Preset::Default, Preset::Caffe] {
            let config = preset.config();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.toml");
            std::fs::write(&path, config.to_toml().unwrap()).unwrap();
            assert_eq!(RunConfig::read(&path).unwrap(), config);
        }
    }

    #[test]
    fn settings_are_laid_over_the_preset() {
        let config = overlay()
            .assignment("optimiser.learning_rate=2e-3")
            .and_then(|o| o.assignment("loss.margin = 2"))
            .and_then(|o| o.assignment("training.length=5 epochs"))
            .and_then(|o| o.assignment("data.source=mnist:a b"))
            .and_then(Overlay::finish)
            .unwrap();
        assert_eq!(config.optimiser.learning_rate, 2e-3);
        assert_eq!(config.loss.margin.get(), 2.0);
        assert_eq!(config.training.length, Length::Epochs(5));
        assert_eq!(config.data.source, Source::Mnist("a b".into()));
        let untouched = RunConfig {
            optimiser: Preset::Default.config().optimiser,
            loss: Preset::Default.config().loss,
            training: Preset::Default.config().training,
            data: Preset::Default.config().data,
            ..config
        };
        assert_eq!(untouched, Preset::Default.config());
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest() {
        let error = refusal("optimiser.learning_rat=1");
        assert!(error.contains("`optimiser.learning_rate`"), "{error}");
        let error = refusal("optimizer.learning_rate=1");
        assert!(error.contains("`optimiser`"), "{error}");
        let error = refusal("colour=1");
        assert!(
            error.contains("training") && error.contains("seed"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        for (assignment, words) in [
            ("loss.margin=-1", "margin"),
            ("loss.margin=wide", "`loss.margin`"),
            ("loss.variant=hadsel", "hadsell"),
            ("training.length=5", "training.length"),
            ("training.length=5 minutes", "40 epochs"),
            ("training.pairs_per_batch=0", "training.pairs_per_batch"),
            ("optimiser.learning_rate=0", "optimiser.learning_rate"),
            ("data.validation=1.5", "data.validation"),
            ("data.test=0", "data.test"),
            ("data.store=tape", "store"),
            ("transform.edge=mirror", "edge"),
            ("net.embedding=0", "embedding"),
            ("transform.std=0", "std"),
            ("schedule=fast", "`schedule`"),
            ("data.source=cifar", "mnist:DIR"),
            ("loss.kind=triplets", "in-batch"),
            ("in_batch.miner=some", "hardest:N"),
            ("data.hold_out_classes=7", "`data.hold_out_classes`"),
            ("calibration.at=best", "far=0.001"),
            ("calibration.at=far=1e-4", "200000 evaluation pairs"),
            ("seed", "KEY=VALUE"),
        ] {
            let error = refusal(assignment);
            assert!(error.contains(words), "{assignment}: {error}");
        }
    }

    #[test]
    fn a_setting_that_the_loss_does_not_use_is_refused() {
        for (assignments, words) in [
            (
                &["in_batch.miner=hard", "loss.kind=pairs"][..],
                "--loss in-batch",
            ),
            (
                &["loss.kind=pairs", "in_batch={balanced=false}"],
                "in_batch.balanced",
            ),
            (
                &["loss.kind=in-batch", "training.pairs_per_batch=32"],
                "--loss pairs",
            ),
            (
                &["data.pairing=uniform", "loss.kind=in-batch"],
                "data.pairing",
            ),
        ] {
            let given = assignments
                .iter()
                .try_fold(overlay(), |o, a| o.assignment(a));
            let error = given.and_then(Overlay::finish).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let used = overlay()
            .assignment("in_batch.miner=hardest:2")
            .and_then(|o| o.assignment("loss.kind=in-batch"))
            .and_then(Overlay::finish)
            .unwrap();
        assert_eq!(used.images_per_batch(), 120);
    }

    #[test]
    fn an_epoch_sees_as_many_images_as_there_are() {
        assert_eq!(Length::epoch(7600, 256), 29);
        assert_eq!(Length::epoch(10, 256), 1);
        assert_eq!(Length::Epochs(3).steps(29), 87);
        assert_eq!(Length::Steps(5).steps(29), 5);
    }

    #[test]
    fn a_key_of_many_levels_is_refused_before_it_becomes_as_many_tables() {
        let error = refusal(&format!("{}a=1", "a.".repeat(100_000)));
        assert!(error.contains("there is no key `a.a.a."), "{error}");
        assert!(error.len() < 100, "{error}");
    }

    #[test]
    fn a_file_without_end_is_no_configuration() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LONGEST_FILE + 1).unwrap();
        let error = RunConfig::read(file.path()).unwrap_err().to_string();
        assert!(error.contains("longer than 1048576 bytes"), "{error}");
    }

    /// A key that there is or might be.
    fn key() -> impl Strategy<Value = String> {
        fn keys(table: &Table, path: &str, found: &mut Vec<String>) {
            for (key, value) in table {
                found.push(format!("{path}{key}"));
                if let Value::Table(table) = value {
                    keys(table, &format!("{path}{key}."), found);
                }
            }
        }
        let mut known = Vec::new();
        keys(&overlay().table, "", &mut known);
        prop_oneof![8 => select(known), 1 => "[a-z.]{0,20}", 1 => any::<String>()]
    }

    /// A value of any type, likely ones among them.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|value| value.to_string()),
            (0..100u8).prop_map(|value| value.to_string()),
            any::<f64>().prop_map(|value| format!("{value:?}")),
            select(vec![
                "0.5",
                "nan",
                "-inf",
                "true",
                "[]",
                "{}",
                "[1, 28, 28]",
                "[[[[",
                "1979-05-27"
            ])
            .prop_map(String::from),
            select(vec![
                "\"40 epochs\"",
                "\"0 steps\"",
                "\"digits\"",
                "\"mnist:../\\u0000\"",
                "\"adjacent\""
            ])
            .prop_map(String::from),
            any::<String>(),
        ]
    }

    /// What is accepted is written, and read again the same.
    fn assert_accepted_or_refused(overlay: Result<Overlay>) -> Result<(), TestCaseError> {
        match overlay.and_then(Overlay::finish) {
            Err(error) => prop_assert!(error.is::<crate::usage::UsageError>(), "{:?}", error),
            Ok(config) => {
                let written = config.to_toml().unwrap();
                let again = overlay_of(&written).and_then(Overlay::finish).unwrap();
                prop_assert_eq!(config, again);
            }
        }
        Ok(())
    }

    fn overlay_of(text: &str) -> Result<Overlay> {
        overlay().text(Path::new("hostile.toml"), text)
    }

    proptest! {
        #[test]
        fn any_assignments_are_accepted_or_refused(
            assignments in vec((key(), value()), 0..4),
        ) {
            let mut assignments = assignments.iter();
            assert_accepted_or_refused(assignments.try_fold(overlay(), |overlay, (key, value)| {
                overlay.assignment(&format!("{key}={value}"))
            }))?;
        }

        #[test]
        fn any_file_is_accepted_or_refused(
            lines in vec((key(), value()), 0..4),
            changes in vec(any::<(Index, char)>(), 0..3),
            whole: bool,
        ) {
            let mut text: String = match whole {
                true => Preset::Caffe.config().to_toml().unwrap(),
                false => lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect(),
            };
            for (at, by) in changes {
                if let Some((at, old)) = text.char_indices().nth(at.index(text.len().max(1))) {
                    text.replace_range(at..at + old.len_utf8(), by.encode_utf8(&mut [0; 4]));
                }
            }
            assert_accepted_or_refused(overlay_of(&text))?;
        }

        #[test]
        fn a_length_is_a_number_and_a_unit(text in "[0-9]{0,12} ?(steps|epochs|step|)|.{0,12}") {
            if let Ok(length) = text.parse::<Length>() {
                prop_assert_eq!(length.to_string().parse(), Ok(length));
                prop_assert!((1..=u64::from(u32::MAX)).contains(&length.steps(1)));
                length.steps(u64::MAX);
            }
        }
    }
}
