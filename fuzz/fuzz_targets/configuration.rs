//! Settings, as a file and on the command line: what is taken is written, and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    // The lines after one of three dashes are assignments.
    let (text, assignments) = input.split_once("\n---\n").unwrap_or((input, ""));
    if let Ok(written) = train::fuzzing::configuration(text, assignments.lines()) {
        let again = train::fuzzing::configuration(&written, []).expect("what was written is read");
        assert_eq!(written, again);
    }
});
