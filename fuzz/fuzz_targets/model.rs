//! Model files: what is read can be written, and read again the same.
#![no_main]

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use model::weights;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((net, file)) = weights::from_bytes(bytes, &Device::Cpu) {
        let written = weights::to_bytes(&net, &file).expect("what was read is written");
        let (net, again) = weights::from_bytes(&written, &Device::Cpu).expect("and read again");
        assert_eq!(file, again);
        assert_eq!(written, weights::to_bytes(&net, &file).unwrap());
    }
});
