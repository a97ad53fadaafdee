use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// As steps of a millisecond, 50 days; as epochs, no number of steps that overflows.
const MOST: u64 = u32::MAX as u64;

/// What stands between epochs and the steps that end them.
const AT_MOST: &str = ", at most ";

/// Length of a run: `5000 steps`, `40 epochs`, or `100 epochs, at most 8000 steps`. An epoch is as many steps as it takes to see as many
/// images as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// In steps.
    Steps(u64),
    /// In epochs.
    Epochs(u64),
    /// In epochs, but for more images than so many steps see.
    AtMost {
        /// In epochs.
        epochs: u64,
        /// In steps.
        steps: u64,
    },
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
            Self::AtMost { epochs, steps } => epochs.saturating_mul(epoch).min(steps),
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(n) => write!(f, "{n} steps"),
            Self::Epochs(n) => write!(f, "{n} epochs"),
            Self::AtMost { epochs, steps } => write!(f, "{epochs} epochs{AT_MOST}{steps} steps"),
        }
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str, unit| {
            let (count, found) = text.split_once(' ')?;
            let count = count.parse().ok()?;
            (found == unit && (1..=MOST).contains(&count)).then_some(count)
        };
        let steps = |text| number(text, "steps");
        let epochs = |text| number(text, "epochs");
        let parsed = match text.split_once(AT_MOST) {
            Some((before, most)) => epochs(before)
                .zip(steps(most))
                .map(|(epochs, steps)| Self::AtMost { epochs, steps }),
            None => (steps(text).map(Self::Steps)).or_else(|| epochs(text).map(Self::Epochs)),
        };
        parsed.ok_or_else(|| {
            format!(
                "{text:?} is not a length: write \"40 epochs\", \"5000 steps\" or \"100 epochs, at most \
                 8000 steps\", with numbers from 1 to {MOST}"
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
