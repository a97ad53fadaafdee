//! The reader of IDX files, gzip'd or not: what it takes has the size it was asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (images, count, bytes) = input;
    if let Ok(unpacked) = data::fuzzing::idx(bytes, images, count.into()) {
        let (header, item) = if images { (16, 6) } else { (8, 1) };
        assert_eq!(unpacked.len(), header + item * usize::from(count));
    }
});
