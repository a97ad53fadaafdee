//! A user's picture: what is read has the network's shape. `scripts/fuzz.sh` limits the memory.
#![no_main]

use std::path::Path;

use data::{Framing, ImageShape, picture_from_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for channels in [1, 3] {
        let shape = ImageShape {
            channels,
            height: 28,
            width: 28,
        };
        for framing in [Framing::Letterbox, Framing::Ink(20)] {
            if let Ok(picture) = picture_from_bytes(bytes, Path::new("fuzzed"), shape, framing) {
                assert_eq!(picture.pixels.len(), shape.values());
            }
        }
    }
});
