//! A run's curves as TensorBoard reads them: an event file, made from `metrics.jsonl` as a whole, so
//! that a resumed run has no step twice.
//!
//! The file is a row of records, each a length, its checksum, an `Event` message of TensorFlow's
//! `event.proto`, and its checksum. The crates that write it bring a second `image`, or protobuf's
//! code generator, for the five fields that we use.

use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};

use super::Summary;
use crate::run::{Line, RunFolder, read_metrics};

/// TensorBoard takes any file for one that has `tfevents` in its name.
const FILE: &str = "events.out.tfevents";

/// Writes the event file of a finished run.
pub fn write(run: &RunFolder, summary: &Summary) -> Result<()> {
    let path = run.path("config.toml");
    let start = std::fs::metadata(&path)
        .and_then(|file| file.modified())
        .with_context(|| format!("cannot look at {}", path.display()))?;
    let start = start
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |t| t.as_secs_f64());
    // `metrics.jsonl` has no times: a step is taken to be as long as any other.
    let pace = summary.seconds / summary.steps.max(1) as f64;
    run.write(FILE, &encode(&read_metrics(run)?, start, pace))
}

/// The file's bytes; a run begins `start` seconds after 1970 and does a step in `pace` seconds.
fn encode(lines: &[Line], start: f64, pace: f64) -> Vec<u8> {
    let mut version = double(1, start);
    version.extend(bytes(3, b"brain.Event:2"));
    let mut file = record(&version);
    for line in lines {
        let scalars = match line {
            Line::Step {
                loss,
                learning_rate,
                ..
            } => vec![("loss/train", *loss), ("learning_rate", *learning_rate)],
            Line::Epoch { metrics, .. } => vec![
                ("loss/validation", metrics.validation_loss),
                ("loss/test", metrics.test_loss),
                ("auc/validation", metrics.validation_auc),
                ("accuracy/test", metrics.test_accuracy),
                ("auc/test", metrics.test_auc),
                ("eer/test", metrics.test_eer),
                ("p_at_1/test", metrics.test_p_at_1),
            ],
            // The learning rates after it show it.
            Line::Rollback { .. } => continue,
        };
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut scalar = bytes(1, tag.as_bytes());
            scalar.push(2 << 3 | 5);
            scalar.extend((value as f32).to_le_bytes());
            summary.extend(bytes(1, &scalar));
        }
        let step = line.step();
        let mut event = double(1, start + pace * step as f64);
        event.push(2 << 3);
        event.extend(varint(step));
        event.extend(bytes(5, &summary));
        file.extend(record(&event));
    }
    file
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| {
        let crc = crc32c::crc32c(bytes);
        // Masked, since a checksum over bytes that hold checksums is weak.
        crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
    };
    [&length[..], &checksum(&length), event, &checksum(event)].concat()
}

/// A field of type `double`.
fn double(field: u8, value: f64) -> Vec<u8> {
    let mut message = vec![field << 3 | 1];
    message.extend(value.to_le_bytes());
    message
}

/// A field of type `string`, `bytes` or a message.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut message = vec![field << 3 | 2];
    message.extend(varint(value.len() as u64));
    message.extend(value);
    message
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut message = Vec::new();
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What TensorBoard's own writer makes of these values, recorded by scripts/tensorboard-test.py.
    #[test]
    fn a_record_is_what_tensorboards_own_writer_writes() {
        let line = Line::Step {
            step: 300,
            loss: 0.5,
            learning_rate: 0.25,
        };
        let found: String = encode(&[line], 100.0, 0.5)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            found,
            include_str!("../../tests/fixtures/events.hex").trim()
        );
    }
}
