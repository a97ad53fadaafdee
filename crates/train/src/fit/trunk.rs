//! The pretrained trunk of a run: opened, its settings settled, the features of its images computed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use data::{Dataset, LabelledImages};
use model::{Network, NetworkConfig, Pretrained, Trunk};
use pretrained::{Cache, ColourOrder, Encoder, Known};
use serde::de::DeserializeOwned;
use toml::Value;
use verifier::embed_input;

use crate::settings::{PretrainedConfig, RunConfig};
use crate::terminal::{Voice, picture_bar, usage};

/// Opens the pretrained trunk that the settings ask for, if they do, and writes into them what the file
/// beside it says, so that they are all that is needed to repeat the run.
///
/// # Errors
/// For a trunk that cannot be used or is not the one that the settings name, a preprocessing that is not
/// known, and images that have a size of their own.
pub fn open_trunk(config: &mut RunConfig) -> Result<Option<Encoder>> {
    if config.net.trunk != Trunk::Onnx {
        return Ok(None);
    }
    if !config.data.source.takes_shape() {
        return Err(usage(
            "a pretrained trunk takes pictures: train on a folder of them, with --data folder:DIR",
        ));
    }
    let settings = &mut config.pretrained;
    let file = Path::new(&settings.file);
    if settings.file.is_empty() {
        return Err(usage(
            "which encoder is the trunk? Name its file with --trunk onnx:FILE",
        ));
    }
    if !file.is_file() {
        return Err(usage(format!(
            "the pretrained trunk {} is missing: there is no such file",
            file.display()
        )));
    }
    let mut known = known(settings)?;
    let mut place = "[pretrained]".to_string();
    if !known.is_complete()
        && let Some((beside, path)) = Known::beside(file)?
    {
        known = known.or(beside);
        place = path.display().to_string();
    }
    let encoder = Encoder::open(file, known.complete(&place)?, &settings.output)?;
    let sha256 = encoder.sha256();
    if !settings.sha256.is_empty() && settings.sha256 != sha256 {
        return Err(usage(format!(
            "{} is another file than the one that is meant: its SHA-256 is {sha256}, and \
             pretrained.sha256 is {}",
            file.display(),
            settings.sha256
        )));
    }
    settle(settings, &encoder)?;
    config.net.input = encoder.shape().into();
    Ok(Some(encoder))
}

/// What the settings themselves say of the preprocessing.
fn known(settings: &PretrainedConfig) -> Result<Known> {
    let size = match settings.size[..] {
        [side] => vec![side; 2],
        _ => settings.size.clone(),
    };
    Ok(Known {
        size: given("size", &size, size.is_empty())?,
        resize: given("resize", &settings.resize, settings.resize.is_empty())?,
        interpolation: name("interpolation", &settings.interpolation)?,
        scale: (settings.scale > 0.0).then_some(settings.scale),
        mean: given("mean", &settings.mean, settings.mean.is_empty())?,
        std: given("std", &settings.std, settings.std.is_empty())?,
        colours: name::<ColourOrder>("colours", &settings.colours)?,
    })
}

fn name<T: DeserializeOwned>(key: &str, name: &str) -> Result<Option<T>> {
    given(key, &name, name.is_empty())
}

/// The value of a setting as a `T`, unless it is empty.
fn given<T: DeserializeOwned>(
    key: &str,
    value: &impl serde::Serialize,
    empty: bool,
) -> Result<Option<T>> {
    if empty {
        return Ok(None);
    }
    let value = Value::try_from(value)?;
    let parsed = value.clone().try_into();
    parsed.map(Some).map_err(|error: toml::de::Error| {
        let problem = error.message();
        usage(format!("pretrained.{key} is {value}: {problem}"))
    })
}

/// Writes down what is used.
fn settle(settings: &mut PretrainedConfig, encoder: &Encoder) -> Result<()> {
    let used = encoder.preprocessing();
    let name = |value: Value| value.as_str().map(String::from).unwrap_or_default();
    settings.sha256 = encoder.sha256().into();
    settings.size = used.size.to_vec();
    settings.resize = used.resize.into();
    settings.interpolation = name(Value::try_from(used.interpolation)?);
    settings.colours = name(Value::try_from(used.colours)?);
    settings.scale = used.scale;
    settings.mean = used.mean.to_vec();
    settings.std = used.std.to_vec();
    Ok(())
}

/// The network that is trained on the images: where they have features, one that takes these.
pub fn network_for(config: &RunConfig, images: &LabelledImages) -> NetworkConfig {
    let net = config.net.clone();
    match images.feature_dimension() {
        Some(features) => NetworkConfig {
            input: [features, 1, 1],
            ..net
        },
        None => net,
    }
}

/// Gives every image of a data set the features that `encoder` makes of it, those that were computed before
/// taken from a file.
///
/// # Errors
/// Where the trunk fails.
pub fn encode(
    dataset: &mut Dataset,
    encoder: &Encoder,
    settings: &PretrainedConfig,
    voice: Voice,
) -> Result<()> {
    let folder = cache_folder(settings);
    let mut cache = Cache::open(folder.as_deref(), encoder);
    let bar = picture_bar(voice, "put through the trunk")?;
    if bar.is_hidden() {
        voice.say(&format!("putting the pictures through {}", settings.file));
    }
    let mut encode = |images: &LabelledImages| {
        encoder.encode(images, &mut cache, &|done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        })
    };
    dataset.train = Arc::new(encode(&dataset.train)?);
    dataset.validation = encode(&dataset.validation)?;
    dataset.test = encode(&dataset.test)?;
    dataset.closed_test = dataset.closed_test.as_ref().map(encode).transpose()?;
    bar.finish_and_clear();
    voice.say(&format!(
        "{} features of each picture by {}, {}",
        encoder.dimension(),
        settings.file,
        match (cache.computed(), cache.path()) {
            (0, Some(path)) => format!("all taken from {}", path.display()),
            (new, Some(path)) => format!("{new} computed and kept in {}", path.display()),
            (new, None) => format!("{new} computed"),
        }
    ));
    if let Some(problem) = cache.problem() {
        voice.say(&format!("note: {:#}", anyhow::anyhow!("{problem}")));
    }
    Ok(())
}

/// Where features are kept: beside the trunk, unless the settings say.
fn cache_folder(settings: &PretrainedConfig) -> Option<PathBuf> {
    if !settings.cache.is_empty() {
        return Some(PathBuf::from(&settings.cache));
    }
    // A model file may have its trunk in itself, and then there may be no such folder.
    let file = Path::new(&settings.file);
    file.is_file().then(|| file.with_extension("features"))
}

/// What the model file of a run is to say of its trunk, if that is a pretrained one.
///
/// # Errors
/// Where the trunk cannot be read any more, or is another by now.
pub fn record(config: &RunConfig, net: &Network) -> Result<Option<Pretrained>> {
    let Some(encoder) = open_trunk(&mut config.clone())? else {
        return Ok(None);
    };
    let embedding = embed_input(net, &encoder.features(&encoder.probe())?)?;
    let file = Path::new(&config.pretrained.file);
    let record = encoder.record(file, embedding.row(0).to_vec());
    let whole = match config.pretrained.embed {
        true => Some(std::fs::read(file).with_context(|| file.display().to_string())?),
        false => None,
    };
    Ok(Some(Pretrained {
        record: serde_json::to_value(record)?,
        file: whole.map(Arc::from),
    }))
}
