//! The flags of `train fit` that set a setting, made from the declarations.

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, Error};
use toml::Value;

use super::RunConfig;
use super::declare::{Declared, Flag, Setting};

/// What the flags on the command line set: a key and a value each.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags(pub Vec<(String, Value)>);

impl SettingFlags {
    /// The group of all these flags, for flags that exclude them.
    pub const GROUP: &str = "settings";
}

impl Flag {
    /// As it is typed, such as `--batch`.
    pub fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or_default()
    }

    /// `batch`.
    fn id(&self) -> &'static str {
        self.name().trim_start_matches('-')
    }
}

impl Setting {
    /// The value that the text behind `flag` stands for.
    fn value_of(&self, flag: &Flag, text: &str) -> Result<Value, String> {
        if let Some(parse) = flag.parse {
            return parse(text);
        }
        match self.default {
            Value::Integer(_) => text.parse().map(Value::Integer).map_err(|e| e.to_string()),
            Value::Float(_) => text.parse().map(Value::Float).map_err(|e| e.to_string()),
            _ => Ok(Value::from(text)),
        }
    }

    fn argument(&self, flag: &Flag) -> Arg {
        let rivals = self.flags.iter().map(Flag::id);
        let rivals = rivals.filter(|rival| *rival != flag.id());
        let help = flag.help.unwrap_or(&self.help);
        let arg = Arg::new(flag.id())
            .long(flag.id())
            .help_heading("Settings")
            .group(SettingFlags::GROUP)
            .conflicts_with_all(Vec::from_iter(rivals));
        let Some((_, value_name)) = flag.usage.split_once(' ') else {
            return arg.help(help.to_owned()).action(ArgAction::SetTrue);
        };
        let arg = match &self.default {
            // Another flag may be the default's, and an empty list or text is none.
            Value::Array(default) if default.is_empty() => arg.help(help.to_owned()),
            Value::String(default) if default.is_empty() => arg.help(help.to_owned()),
            _ if flag.help.is_some() => arg.help(help.to_owned()),
            Value::String(default) => arg.help(format!("{help} [default: {default}]")),
            Value::Array(default) => {
                let default: Vec<String> = default.iter().map(Value::to_string).collect();
                arg.help(format!("{help} [default: {}]", default.join("x")))
            }
            default => arg.help(format!("{help} [default: {default}]")),
        };
        arg.value_name(value_name)
            .allow_negative_numbers(true)
            .action(match self.default {
                Value::Array(_) => ArgAction::Append,
                _ => ArgAction::Set,
            })
    }
}

impl clap::Args for SettingFlags {
    fn augment_args(mut command: Command) -> Command {
        for setting in RunConfig::settings() {
            for flag in &setting.flags {
                command = command.arg(setting.argument(flag));
            }
        }
        command.group(ArgGroup::new(Self::GROUP).multiple(true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = Vec::new();
        for setting in RunConfig::settings() {
            for flag in &setting.flags {
                if !flag.usage.contains(' ') {
                    if matches.get_flag(flag.id()) {
                        given.push((setting.key.clone(), true.into()));
                    }
                    continue;
                }
                let Some(texts) = matches.get_many::<String>(flag.id()) else {
                    continue;
                };
                let text = texts.cloned().collect::<Vec<_>>().join(",");
                let value = setting.value_of(flag, &text).map_err(|problem| {
                    let usage = flag.usage;
                    let message = format!("invalid value '{text}' for '{usage}': {problem}\n");
                    Error::raw(clap::error::ErrorKind::ValueValidation, message)
                })?;
                given.push((setting.key.clone(), value));
            }
        }
        Ok(Self(given))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
