//! Checkpoints: restored or refused.
#![no_main]

use candle_core::{DType, Device};
use data::{Purpose, stream};
use libfuzzer_sys::fuzz_target;
use loss_kernel::{ContrastiveLoss, Margin};
use model::{Network, NetworkConfig};
use train::{OptimiserConfig, Rule, Snapshot, Trainer};

/// Puts the checksum in, which no fuzzer would guess, where the header has a place for it.
fn seal(bytes: &mut [u8]) {
    let place = b"\"crc32c\":\"00000000\"";
    let found = bytes.windows(place.len()).position(|window| window == place);
    if let Some(found) = found {
        let checksum = format!("{:08x}", crc32c::crc32c(bytes));
        let start = found + place.len() - 1 - checksum.len();
        bytes[start..][..checksum.len()].copy_from_slice(checksum.as_bytes());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    seal(&mut bytes);
    let Ok(snapshot) = Snapshot::read(bytes) else {
        return;
    };
    let config = NetworkConfig {
        channels: vec![1, 1],
        hidden: Vec::new(),
        ..NetworkConfig::relu(1)
    };
    let mut rng = stream(1, Purpose::Initialisation, 0);
    let net = Network::new(config, DType::F32, &Device::Cpu, &mut rng).expect("a small network");
    let loss = ContrastiveLoss::new(Margin::default());
    let optimiser = OptimiserConfig {
        rule: Rule::AdamW,
        ..OptimiserConfig::caffe()
    };
    let mut trainer = Trainer::new(net, loss, optimiser).expect("a trainer");
    let _ = trainer.restore(&snapshot, 1);
});
