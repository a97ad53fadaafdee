//! How a setting is declared: once, with its key, type, default, range, flag and help.

use serde::Serialize;
use toml::{Table, Value};

use super::LossKind;

/// A key of `config.toml`, perhaps with flags of its own.
pub struct Setting {
    /// Its path, such as `training.length`.
    pub key: String,
    /// What it means.
    pub help: String,
    /// Its value where nothing else is said.
    pub default: Value,
    /// Its values in place of the default, see [`Base`].
    pub bases: Vec<(Base, Value)>,
    /// Which values it takes, where its type takes more.
    pub range: Option<Range>,
    /// The only loss that uses it.
    pub used_by: Option<LossKind>,
    /// The flags that set it; at most one may be given.
    pub flags: Vec<Flag>,
}

/// A flag of `train fit` that sets a setting.
pub struct Flag {
    /// `--name VALUE`, or `--name` for what is true or false.
    pub usage: &'static str,
    /// Makes the setting's value of the flag's; without it the flag's value is the setting's.
    pub parse: Option<Parse>,
    /// Its help, where that is not the setting's.
    pub help: Option<&'static str>,
}

/// Makes a setting's value of a flag's, or says what is wrong with it.
pub type Parse = fn(&str) -> Result<Value, String>;

/// Which values a setting takes.
#[derive(Clone, Copy)]
pub struct Range {
    /// `above 0`, as an error ends that says what the value must be.
    pub expected: &'static str,
    /// Whether a number is one of them.
    pub holds: fn(f64) -> bool,
}

/// What a run starts from, and brings defaults of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The preset `caffe`.
    Caffe,
    /// The preset `accurate`.
    Accurate,
    /// A data source whose images take any size.
    Folder,
    /// Such a source with the default preset: what trains best on pictures of any kind.
    Pictures,
}

/// A table of `config.toml` whose settings are declared.
pub trait Declared {
    /// Each setting of the table and of those in it, under its path from here on.
    fn settings() -> Vec<Setting>;

    /// The table with the defaults of `bases`, of which a later one wins.
    fn defaults(bases: &[Base]) -> Table {
        let mut table = Table::new();
        for setting in Self::settings() {
            let of_bases = bases.iter().rev().find_map(|base| {
                let mut values = setting.bases.iter();
                values.find_map(|(of, value)| (of == base).then_some(value))
            });
            let value = of_bases.unwrap_or(&setting.default).clone();
            match setting.key.split_once('.') {
                None => table.insert(setting.key, value),
                Some((name, key)) => {
                    let inner = table.entry(name).or_insert_with(|| Table::new().into());
                    let inner = inner.as_table_mut();
                    inner.and_then(|inner| inner.insert(key.into(), value))
                }
            };
        }
        table
    }
}

/// Declares a table of settings:
///
/// ```text
/// /// Help.
/// key: Type [flags; in RANGE; for Loss] = default, base = its default, …;
/// ```
///
/// A flag is `"--name VALUE"`, then perhaps `=> parser` and a help of its own. `struct Name` makes the
/// struct as well; `for Name` takes one of another crate. Tables in a table come last, behind `tables`.
macro_rules! settings {
    ($(#[$meta:meta])* struct $name:ident { $($fields:tt)* } $(tables { $($tables:tt)* })?) => {
        settings!(@struct [$(#[$meta])*] $name { $($fields)* } $(tables { $($tables)* })?);
        settings!(for $name { $($fields)* } $(tables { $($tables)* })?);
    };
    (@struct [$(#[$meta:meta])*] $name:ident {
        $(
            $(#[doc = $help:literal])+
            $key:ident: $type:ty $([$($clauses:tt)*])? = $default:expr $(, $base:ident = $value:expr)*;
        )*
    } $(tables { $($(#[doc = $about:literal])+ $table:ident: $inner:ty,)* })?) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $help])+ pub $key: $type,)*
            $($($(#[doc = $about])+ pub $table: $inner,)*)?
        }
    };
    (for $name:ident {
        $(
            $(#[doc = $help:literal])+
            $key:ident: $type:ty $([
                $($flag:literal $(=> $parse:ident)? $($flag_help:literal)?;)*
                $(in $range:ident;)?
                $(for $loss:ident;)?
            ])? = $default:expr $(, $base:ident = $value:expr)*;
        )*
    } $(tables { $($(#[doc = $about:literal])+ $table:ident: $inner:ty,)* })?) => {
        impl $crate::settings::declare::Declared for $name {
            fn settings() -> Vec<$crate::settings::declare::Setting> {
                use $crate::settings::declare::{self, Setting, value};
                #[allow(unused_mut, reason = "some tables have no inner ones")]
                let mut settings = vec![$(Setting {
                    key: stringify!($key).into(),
                    help: concat!($($help),+).trim().into(),
                    default: value::<$type>($default),
                    bases: vec![$((declare::Base::$base, value::<$type>($value))),*],
                    range: None$($(.or(Some($range)))?)?,
                    used_by: None$($(.or(Some($crate::settings::LossKind::$loss)))?)?,
                    flags: vec![$($(declare::Flag {
                        usage: $flag,
                        parse: None$(.or(Some($parse as declare::Parse)))?,
                        help: None$(.or(Some($flag_help)))?,
                    }),*)?],
                }),*];
                $($(
                    let inner = <$inner as $crate::settings::declare::Declared>::settings();
                    settings.extend(inner.into_iter().map(|setting| Setting {
                        key: format!("{}.{}", stringify!($table), setting.key),
                        ..setting
                    }));
                )*)?
                settings
            }
        }
    };
}

pub(super) use settings;

/// A declared default as TOML has it.
pub fn value<T: Serialize>(default: T) -> Value {
    Value::try_from(default).expect("a default is a value that TOML can hold")
}

/// Whole numbers from 1 on.
pub const AT_LEAST_1: Range = Range {
    expected: "at least 1",
    holds: |value| value >= 1.0,
};
/// Finite numbers above 0.
pub const ABOVE_0: Range = Range {
    expected: "above 0",
    holds: |value| value > 0.0 && value.is_finite(),
};
/// Finite numbers from 0 on.
pub const AT_LEAST_0: Range = Range {
    expected: "0 or more",
    holds: |value| value >= 0.0 && value.is_finite(),
};
/// Fractions that are neither nothing nor all.
pub const FRACTION: Range = Range {
    expected: "between 0 and 1",
    holds: |value| value > 0.0 && value < 1.0,
};
/// Factors of a decay.
pub const BELOW_1: Range = Range {
    expected: "from 0 to below 1",
    holds: |value| (0.0..1.0).contains(&value),
};
/// Shares of a whole.
pub const SHARE: Range = Range {
    expected: "from 0 to 1",
    holds: |value| (0.0..=1.0).contains(&value),
};
