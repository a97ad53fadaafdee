use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Length of a run: `5000 steps` or `40 epochs`. An epoch is as many steps as it takes to see as many
/// images as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// In steps.
    Steps(u64),
    /// In epochs.
    Epochs(u64),
}

impl Length {
    /// Steps in an epoch over `images` images.
    pub fn epoch(images: usize, images_per_batch: usize) -> u64 {
        (images / images_per_batch).max(1) as u64
    }

    /// In steps.
    pub fn steps(self, epoch: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Epochs(epochs) => epochs.saturating_mul(epoch),
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(n) => write!(f, "{n} steps"),
            Self::Epochs(n) => write!(f, "{n} epochs"),
        }
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As steps of a millisecond, 50 days; as epochs, no number of steps that overflows.
        const MOST: u64 = u32::MAX as u64;
        let parsed = text.split_once(' ').and_then(|(count, unit)| {
            let count = count
                .parse()
                .ok()
                .filter(|count| (1..=MOST).contains(count))?;
            match unit {
                "steps" => Some(Self::Steps(count)),
                "epochs" => Some(Self::Epochs(count)),
                _ => None,
            }
        });
        parsed.ok_or_else(|| {
            format!(
                "{text:?} is not a length: write \"40 epochs\" or \"5000 steps\", with a number from \
                 1 to {MOST}"
            )
        })
    }
}

impl Serialize for Length {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
