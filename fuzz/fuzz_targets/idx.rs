//! The reader of IDX files, gzip'd or not: what it takes has the size that the header announces.
#![no_main]

use std::path::Path;

use data::idx::{Contents, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (images, bytes) = input;
    let (contents, item) = match images {
        true => (Contents::Images([2, 3]), 6),
        false => (Contents::Labels, 1),
    };
    let Ok(reader) = Reader::open(Path::new("fuzzed"), bytes, contents) else {
        return;
    };
    let whole = item * reader.count() as usize;
    let mut unpacked = Vec::new();
    if reader.unpack(&mut unpacked).is_ok() {
        assert_eq!(unpacked.len(), whole);
    }
});
