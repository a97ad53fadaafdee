//! Which configurations make sense.

use anyhow::Result;
use model::Trunk;
use toml::{Table, Value};

use super::RunConfig;
use super::changes::leaves;
use super::declare::{Declared, Flag, Setting};
use crate::terminal::usage;

/// A table of all settings, each of the right type, as a configuration.
pub fn typed(table: Table) -> Result<RunConfig> {
    let values = leaves(&table);
    for setting in RunConfig::settings() {
        let number = match values.get(&setting.key) {
            Some(Value::Integer(value)) => *value as f64,
            Some(Value::Float(value)) => *value,
            _ => continue,
        };
        if let Some(range) = setting.range.filter(|range| !(range.holds)(number)) {
            let (key, expected) = (setting.key, range.expected);
            return Err(usage(format!("{key} is {number}; it must be {expected}")));
        }
    }
    let config: RunConfig = table
        .try_into()
        // It names the key on a line of its own.
        .map_err(|error: toml::de::Error| usage(error.to_string().trim_end().replace('\n', " ")))?;
    fits_together(&config)?;
    Ok(config)
}

/// What no single setting can say.
fn fits_together(config: &RunConfig) -> Result<()> {
    // Half of the pairs are dissimilar.
    let (at, pairs) = (config.calibration.at, config.data.evaluation_pairs);
    let needed = at.dissimilar_pairs().saturating_mul(2);
    if pairs < needed {
        return Err(usage(format!(
            "calibration.at is {at}, which needs at least {needed} evaluation pairs (ten dissimilar \
             pairs for each false accept it allows); data.evaluation_pairs is {pairs}"
        )));
    }
    let ([_, height, width], turns) = (config.net.input, config.data.turns);
    if turns.needs_square() && height != width {
        return Err(usage(format!(
            "data.turns turns images by 90 degrees, and those of {width}x{height} (net.input) are not \
             square; with `mirror` they need not be"
        )));
    }
    config
        .net
        .validate()
        .map_err(|error| usage(format!("net: {error}")))
}

/// Why the setting at `key` has no effect on a network of this trunk, if it has none.
fn unused_by_trunk(trunk: Trunk, key: &str) -> Option<String> {
    const OWN: [&str; 7] = [
        "data.turns",
        "net.channels",
        "net.conv_activation",
        "net.every_stage",
        "net.grid",
        "net.input",
        "net.norm",
    ];
    let pretrained = key.starts_with("pretrained.");
    let own = key.starts_with("transform.") || OWN.contains(&key);
    match trunk {
        Trunk::Onnx if own => Some(format!(
            "{key} has no effect with --trunk onnx:FILE: the features of a picture are computed once, after \
             the encoder's own preprocessing (see [pretrained])"
        )),
        Trunk::Lenet | Trunk::SmallResnet | Trunk::Conv4 if pretrained => {
            Some(format!("{key} applies to --trunk onnx:FILE only"))
        }
        _ => None,
    }
}

/// Why the setting at `key` has no effect, if it has none.
pub fn unused(config: &RunConfig, key: &str) -> Option<String> {
    if let Some(reason) = unused_by_trunk(config.net.trunk, key) {
        return Some(reason);
    }
    let settings = RunConfig::settings();
    let setting = settings.iter().find(|setting| setting.key == key)?;
    let (used_by, loss) = (setting.used_by?, config.loss.kind);
    if used_by == loss {
        return None;
    }
    let flags = |settings: &mut dyn Iterator<Item = &Setting>| {
        let flags = settings.flat_map(|setting| &setting.flags);
        flags.map(Flag::name).collect::<Vec<_>>().join(", ")
    };
    let of_loss = flags(&mut settings.iter().filter(|s| s.used_by == Some(loss)));
    let own = flags(&mut [setting].into_iter());
    let own = match own.is_empty() {
        true => own,
        false => format!(" ({own})"),
    };
    Some(format!(
        "{key}{own} applies to --loss {used_by} only: add --loss {used_by}, or use {of_loss} with \
         --loss {loss}"
    ))
}
