//! Settings laid over each other: a preset, a file's, the command line's.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use data::Source;
use model::Trunk;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::changes::leaves;
use super::declare::{Base, Declared, value};
use super::{RunConfig, validate};
use crate::terminal::usage;

/// Bytes in a file of settings at most; all settings take about one KiB.
const LONGEST_FILE: u64 = 1 << 20;

/// Parts of a dotted key at most.
const MOST_LEVELS: usize = 8;

/// Classes of the built-in digits and of MNIST.
const DIGITS: usize = 10;

/// Dimensions of an embedding of a pretrained trunk's features, by default: on emoji 128 had fewer errors
/// than 64.
const PRETRAINED_EMBEDDING: usize = 128;

/// Settings to start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// Trains best: ReLU after the convolutions, normalised input, AdamW, cosine schedule
    #[default]
    Default,
    /// Caffe's examples/siamese exactly: its network, solver, input scale and uniform pairs, 50,000
    /// steps of 64 pairs
    Caffe,
    /// The fewest wrong verdicts on MNIST: a residual network with 64 dimensions, trained on all pairs of a
    /// batch for 6,000 steps
    Accurate,
}

/// A configuration in the making: what the user asks for, in layers, the last on top.
pub struct Layers {
    preset: Preset,
    /// Whether it begins as the whole configuration of a run, which has no new defaults.
    is_run: bool,
    layers: Vec<Layer>,
}

struct Layer {
    table: Table,
    /// The file it comes from; `None` for the command line, where a setting without effect is refused.
    file: Option<String>,
}

impl Layers {
    /// Nothing but a preset.
    pub fn new(preset: Preset) -> Self {
        Self {
            preset,
            is_run: false,
            layers: Vec::new(),
        }
    }

    /// A whole configuration, to be changed.
    ///
    /// # Errors
    /// Where it cannot be written as TOML.
    pub fn of(config: &RunConfig) -> Result<Self> {
        let table = Table::try_from(config).context("a configuration as TOML")?;
        let mut layers = Self::new(Preset::Default);
        layers.layers.push(Layer {
            table,
            file: Some("config.toml".into()),
        });
        Ok(layers)
    }

    /// Adds a run's whole configuration, as [`text`](Self::text) does: settings that its version did not
    /// have are as they were before.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn run(mut self, path: &Path, text: &str) -> Result<Self> {
        self.is_run = true;
        self.text(path, text)
    }

    /// Adds a file's settings, `text`; errors call the file `path`.
    ///
    /// # Errors
    /// For what is not TOML.
    pub fn text(mut self, path: &Path, text: &str) -> Result<Self> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
            let (path, problem) = (path.display(), error.message());
            usage(format!("{path} is not TOML: line {line}: {problem}"))
        })?;
        let file = Some(path.display().to_string());
        self.layers.push(Layer { table, file });
        Ok(self)
    }

    /// Adds a setting of the command line, by its key, such as `optimiser.learning_rate`.
    ///
    /// # Errors
    /// For a key of too many parts.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Result<Self> {
        // Each part becomes a table in a table, and dropping many of them overflows the stack.
        if key.split('.').count() > MOST_LEVELS {
            let start: String = key.chars().take(40).collect();
            return Err(usage(format!("there is no key `{start}…`")));
        }
        let mut table = Table::new();
        let (mut inner, mut parts) = (&mut table, key.split('.').peekable());
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                inner.insert(part.into(), value.into());
                break;
            }
            let next = inner.entry(part).or_insert_with(|| Table::new().into());
            inner = next.as_table_mut().context("a new table")?;
        }
        self.layers.push(Layer { table, file: None });
        Ok(self)
    }

    /// Adds a `key=value` of the command line; what is not a TOML value is a string.
    ///
    /// # Errors
    /// As [`set`](Self::set), and for what is no assignment.
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

    /// Whether the user asks for a value of this setting.
    pub fn ask_for(&self, table: &str, key: &str) -> bool {
        self.asked::<Value>(table, key).is_some()
    }

    /// The whole configuration, checked.
    ///
    /// # Errors
    /// For the first setting that does not exist, is of the wrong type, is out of range, or has no
    /// effect though the command line asks for it.
    pub fn finish(mut self) -> Result<RunConfig> {
        self.layers
            .iter_mut()
            .for_each(|layer| split_trunk(&mut layer.table));
        let mut table = self.base();
        let mut asked = Vec::new();
        for Layer { table: over, file } in self.layers {
            if file.is_none() {
                asked.extend(leaves(&over).into_keys());
            }
            lay(&mut table, over, "").map_err(|error| match file {
                None => usage(error),
                Some(file) => usage(format!("{file}: {error}")),
            })?;
        }
        let config = validate::typed(table)?;
        match asked.iter().find_map(|key| validate::unused(&config, key)) {
            Some(reason) => Err(usage(reason)),
            None => Ok(config),
        }
    }

    /// The defaults of what the run starts from.
    fn base(&self) -> Table {
        let mut bases = Vec::new();
        match self.preset {
            Preset::Default => {}
            Preset::Caffe => bases.push(Base::Caffe),
            Preset::Accurate => bases.push(Base::Accurate),
        }
        let source = self.asked::<Source>("data", "source").unwrap_or_default();
        if source.takes_shape() {
            bases.push(Base::Folder);
            if self.preset == Preset::Default && !self.is_run {
                bases.push(Base::Pictures);
            }
        }
        let mut table = RunConfig::defaults(&bases);
        let before = table.get("net").and_then(|net| net.get("trunk")).cloned();
        let mut set = |name: &str, key: &str, value: Value| {
            if let Some(Value::Table(inner)) = table.get_mut(name) {
                inner.insert(key.into(), value);
            }
        };
        let other = |trunk: &Trunk| Some(&value(*trunk)) != before.as_ref();
        if let Some(trunk) = self.asked::<Trunk>("net", "trunk").filter(other) {
            set("net", "channels", value(trunk.default_channels()));
            set("net", "norm", value(trunk.default_norm()));
            set("net", "hidden", value(trunk.default_hidden()));
            if trunk == Trunk::Onnx && bases.contains(&Base::Pictures) {
                set("net", "embedding", value(PRETRAINED_EMBEDDING));
            }
        }
        let held_out: Vec<String> = self.asked("data", "hold_out_classes").unwrap_or_default();
        if !source.takes_shape() && !held_out.is_empty() {
            // A batch cannot have more classes than there are to train on.
            let left = DIGITS.saturating_sub(held_out.len()).max(2);
            set("in_batch", "classes_per_batch", value(left));
        }
        table
    }

    /// The value of a setting that the user asks for, if it is one.
    fn asked<T: DeserializeOwned>(&self, table: &str, key: &str) -> Option<T> {
        let mut layers = self.layers.iter().rev();
        let value = layers.find_map(|layer| layer.table.get(table)?.get(key))?;
        value.clone().try_into().ok()
    }
}

impl RunConfig {
    /// Reads a whole configuration, as a run folder has it.
    ///
    /// # Errors
    /// Where the file cannot be read, or as [`Layers::finish`].
    pub fn read(path: &Path) -> Result<Self> {
        let layers = Layers::new(Preset::Default).run(path, &read_text(path)?)?;
        layers.finish().with_context(|| path.display().to_string())
    }
}

/// Reads a file of settings, for [`Layers::text`].
///
/// # Errors
/// Where it cannot be read, or is too long to be one.
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

/// Makes `net.trunk = "onnx:FILE"` two settings: which kind of trunk, and its file.
fn split_trunk(table: &mut Table) {
    let Some(Value::Table(net)) = table.get_mut("net") else {
        return;
    };
    let file = match net.get("trunk") {
        Some(Value::String(trunk)) => trunk.strip_prefix("onnx:").map(Value::from),
        _ => None,
    };
    if let Some(file) = file {
        net.insert("trunk".into(), "onnx".into());
        let pretrained = table
            .entry("pretrained")
            .or_insert_with(|| Table::new().into());
        if let Value::Table(pretrained) = pretrained {
            pretrained.insert("file".into(), file);
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
    use crate::settings::{Length, RunConfig};
    use data::Source;

    fn layers() -> Layers {
        Layers::new(Preset::Default)
    }

    fn start_of(preset: Preset) -> RunConfig {
        Layers::new(preset).finish().unwrap()
    }

    fn refusal(assignment: &str) -> String {
        match layers().assignment(assignment).and_then(Layers::finish) {
            Ok(_) => panic!("{assignment} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_folder_s_embedding_has_more_dimensions_with_a_pretrained_trunk() {
        let embedding = |settings: &[&str]| {
            let folder = layers().assignment("data.source=folder:pictures").unwrap();
            let all = settings.iter();
            let all = all.fold(folder, |layers, text| layers.assignment(text).unwrap());
            all.finish().unwrap().net.embedding
        };
        assert_eq!(embedding(&[]), 64);
        assert_eq!(embedding(&["net.trunk=conv4"]), 64);
        assert_eq!(embedding(&["net.trunk=onnx:encoder.onnx"]), 128);
        let own = ["net.trunk=onnx:encoder.onnx", "net.embedding=32"];
        assert_eq!(embedding(&own), 32);
    }

    #[test]
    fn presets_survive_being_written_and_read() {
        for preset in [Preset::Default, Preset::Caffe, Preset::Accurate] {
            let config = start_of(preset);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.toml");
            std::fs::write(&path, config.to_toml().unwrap()).unwrap();
            assert_eq!(RunConfig::read(&path).unwrap(), config);
        }
    }

    #[test]
    fn the_preset_for_few_errors_is_a_residual_network_trained_on_all_pairs() {
        let config = start_of(Preset::Accurate);
        assert_eq!(config.loss.kind, crate::settings::LossKind::InBatch);
        assert_eq!(config.images_per_batch(), 120);
        let net = model::NetworkConfig {
            norm: model::Norm::Group,
            hidden: Vec::new(),
            ..model::NetworkConfig::small_resnet(64)
        };
        assert_eq!(config.net, net);
    }

    #[test]
    fn a_configuration_that_is_written_has_every_setting_and_no_other() {
        for preset in [Preset::Default, Preset::Caffe, Preset::Accurate] {
            let written = start_of(preset).to_toml().unwrap();
            let written = leaves(&written.parse().unwrap()).into_keys();
            let declared = RunConfig::settings().into_iter().map(|setting| setting.key);
            let mut declared: Vec<String> = declared.collect();
            declared.sort();
            assert_eq!(Vec::from_iter(written), declared);
        }
    }

    #[test]
    fn settings_are_laid_over_the_preset() {
        let config = layers()
            .assignment("optimiser.learning_rate=2e-3")
            .and_then(|o| o.assignment("loss.margin = 2"))
            .and_then(|o| o.assignment("training.length=5 epochs"))
            .and_then(|o| o.assignment("data.source=mnist:a b"))
            .and_then(Layers::finish)
            .unwrap();
        assert_eq!(config.optimiser.learning_rate, 2e-3);
        assert_eq!(config.loss.margin.get(), 2.0);
        assert_eq!(config.training.length, Length::Epochs(5));
        assert_eq!(config.data.source, Source::Mnist("a b".into()));
        let untouched = RunConfig {
            optimiser: start_of(Preset::Default).optimiser,
            loss: start_of(Preset::Default).loss,
            training: start_of(Preset::Default).training,
            data: start_of(Preset::Default).data,
            ..config
        };
        assert_eq!(untouched, start_of(Preset::Default));
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
            ("data.test=1", "data.test"),
            ("data.store=tape", "store"),
            ("transform.edge=mirror", "edge"),
            ("net.embedding=0", "embedding"),
            ("transform.std=0", "std"),
            ("transform.std=inf", "transform.std"),
            ("transform.std=1e300", "transform.std"),
            ("transform.scale=0", "transform.scale"),
            ("transform.mean=nan", "transform.mean"),
            ("transform.rotation=-1", "transform.rotation"),
            ("transform.rotation=nan", "transform.rotation"),
            ("transform.brightness=1.5", "transform.brightness"),
            ("transform.zoom=5", "transform.zoom"),
            ("transform.shear=60", "transform.shear"),
            ("transform.crop=1", "transform.crop"),
            ("transform.hue=0.6", "transform.hue"),
            ("transform.erase=-0.1", "transform.erase"),
            ("data.turns=eighth", "data.turns"),
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
                .try_fold(layers(), |o, a| o.assignment(a));
            let error = given.and_then(Layers::finish).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let used = layers()
            .assignment("in_batch.miner=hardest:2")
            .and_then(|o| o.assignment("loss.kind=in-batch"))
            .and_then(Layers::finish)
            .unwrap();
        assert_eq!(used.images_per_batch(), 120);
    }

    #[test]
    fn an_epoch_sees_as_many_images_as_there_are() {
        assert_eq!(Length::epoch(7600, 256), 29);
        assert_eq!(Length::epoch(10, 256), 1);
        assert_eq!(Length::Epochs(3).steps(29), 87);
        assert_eq!(Length::Steps(5).steps(29), 5);
        let length: Length = "3 epochs, at most 80 steps".parse().unwrap();
        assert_eq!(length.to_string(), "3 epochs, at most 80 steps");
        assert_eq!([length.steps(26), length.steps(27)], [78, 80]);
        for wrong in [
            "3 epochs, at most 80",
            "3 steps, at most 80 steps",
            "0 epochs, at most 8 steps",
        ] {
            assert!(wrong.parse::<Length>().is_err(), "{wrong}");
        }
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
        keys(&RunConfig::defaults(&[]), "", &mut known);
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
    fn assert_accepted_or_refused(layers: Result<Layers>) -> Result<(), TestCaseError> {
        match layers.and_then(Layers::finish) {
            Err(error) => prop_assert!(error.is::<crate::terminal::UsageError>(), "{:?}", error),
            Ok(config) => {
                let written = config.to_toml().unwrap();
                let again = layers_of(&written).and_then(Layers::finish).unwrap();
                prop_assert_eq!(config, again);
            }
        }
        Ok(())
    }

    fn layers_of(text: &str) -> Result<Layers> {
        layers().text(Path::new("hostile.toml"), text)
    }

    proptest! {
        #[test]
        fn any_assignments_are_accepted_or_refused(
            assignments in vec((key(), value()), 0..4),
        ) {
            let mut assignments = assignments.iter();
            assert_accepted_or_refused(assignments.try_fold(layers(), |layers, (key, value)| {
                layers.assignment(&format!("{key}={value}"))
            }))?;
        }

        #[test]
        fn any_file_is_accepted_or_refused(
            lines in vec((key(), value()), 0..4),
            changes in vec(any::<(Index, char)>(), 0..3),
            whole: bool,
        ) {
            let mut text: String = match whole {
                true => start_of(Preset::Caffe).to_toml().unwrap(),
                false => lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect(),
            };
            for (at, by) in changes {
                if let Some((at, old)) = text.char_indices().nth(at.index(text.len().max(1))) {
                    text.replace_range(at..at + old.len_utf8(), by.encode_utf8(&mut [0; 4]));
                }
            }
            assert_accepted_or_refused(layers_of(&text))?;
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
