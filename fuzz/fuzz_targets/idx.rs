//! The reader of IDX files, gzip'd or not: what it takes has the size it was asked for.
#![no_main]

use std::path::Path;

use data::idx::{Contents, Expected, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (images, count, bytes) = input;
    let (contents, item) = match images {
        true => (Contents::Images([2, 3]), 6),
        false => (Contents::Labels(10), 1),
    };
    let count = u32::from(count);
    let expected = Expected { contents, count };
    let mut unpacked = Vec::new();
    if unpack(Path::new("fuzzed"), bytes, expected, &mut unpacked).is_ok() {
        let whole = expected.header_bytes() + item * count as usize;
        assert_eq!(unpacked.len(), whole);
    }
});
