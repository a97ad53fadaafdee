use std::fmt::Display;
use std::io::Write;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

/// Flags that every command has.
#[derive(Clone, Copy, Debug, Args)]
pub struct VoiceArgs {
    /// Print nothing but errors
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
    /// Print JSON, one object per line, on standard output
    #[arg(long)]
    json: bool,
}

impl VoiceArgs {
    /// What the flags ask for.
    pub fn voice(self) -> Voice {
        match (self.quiet, self.json) {
            (_, true) => Voice::Json,
            (true, false) => Voice::Quiet,
            (false, false) => Voice::People,
        }
    }
}

/// To whom the program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// For people, on standard error; results on standard output.
    People,
    /// One JSON object a line, on standard output.
    Json,
    /// Nothing.
    Quiet,
}

impl Voice {
    /// Says a line to people.
    pub fn say(self, line: &str) {
        if self == Self::People {
            tell(line);
        }
    }

    /// Gives people a result, with its line ends.
    pub fn give(self, result: impl Display) -> Result<()> {
        if self == Self::People {
            print(result)?;
        }
        Ok(())
    }

    /// Gives programs an object.
    pub fn emit(self, value: &impl Serialize) -> Result<()> {
        if self == Self::Json {
            print(format!("{}\n", serde_json::to_string(value)?))?;
        }
        Ok(())
    }
}

/// Writes to standard output. Not `print!`, which panics once a reader such as `head` has gone.
pub fn print(text: impl Display) -> Result<()> {
    write!(std::io::stdout().lock(), "{text}").context("cannot write to standard output")
}

/// Writes a line to standard error. Not `eprintln!`, which would end a run that nobody listens to.
pub fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
