//! Checkpoints: restored or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = train::fuzzing::checkpoint(bytes);
});
