//! Settings, as a file and on the command line: what is accepted is written, and read again the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use train::settings::{Layers, Preset};

/// The whole configuration that a file's `text` and `assignments` on top of it make, as TOML.
fn configuration(text: &str, mut assignments: std::str::Lines) -> anyhow::Result<String> {
    let layers = Layers::new(Preset::Default).text(Path::new("fuzzed"), text)?;
    assignments
        .try_fold(layers, Layers::assignment)?
        .finish()?
        .to_toml()
}

fuzz_target!(|input: &str| {
    // The lines after one of three dashes are assignments.
    let (text, assignments) = input.split_once("\n---\n").unwrap_or((input, ""));
    if let Ok(written) = configuration(text, assignments.lines()) {
        let again = configuration(&written, "".lines()).expect("what was written is read");
        assert_eq!(written, again);
    }
});
