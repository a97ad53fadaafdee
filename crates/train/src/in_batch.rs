//! The settings of a loss over all pairs of a batch.

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

use loss_kernel::{InBatchContrastiveLoss, InBatchReduction, Margin, Miner};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a batch holds, and which of its pairs count how much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InBatchConfig {
    /// Classes in a batch, drawn anew for each.
    pub classes_per_batch: usize,
    /// Images of each.
    pub samples_per_class: usize,
    /// Which pairs count.
    pub miner: MinerChoice,
    /// What their losses become.
    pub reduction: InBatchReduction,
    /// Whether similar and dissimilar pairs weigh the same, however many there are of each.
    pub balanced: bool,
}

impl InBatchConfig {
    /// Images in a batch.
    pub fn images_per_batch(&self) -> usize {
        self.classes_per_batch
            .saturating_mul(self.samples_per_class)
    }

    /// With these settings.
    pub fn apply(self, loss: InBatchContrastiveLoss) -> InBatchContrastiveLoss {
        loss.miner(self.miner.0)
            .reduction(self.reduction)
            .balanced(self.balanced)
    }
}

/// A miner as it is written: `all`, `hard`, `semi-hard:WIDTH` or `hardest:NEGATIVES`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MinerChoice(pub Miner);

impl fmt::Display for MinerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Miner::All => f.write_str("all"),
            Miner::Hard => f.write_str("hard"),
            Miner::SemiHard { width } => write!(f, "semi-hard:{}", width.get()),
            Miner::Hardest { negatives } => write!(f, "hardest:{negatives}"),
        }
    }
}

impl FromStr for MinerChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let width = |width: &str| Margin::new(width.parse().ok()?).ok();
        let negatives = |count: &str| count.parse::<NonZeroU8>().ok();
        let miner = match text.split_once(':') {
            None if text == "all" => Some(Miner::All),
            None if text == "hard" => Some(Miner::Hard),
            Some(("semi-hard", text)) => width(text).map(|width| Miner::SemiHard { width }),
            Some(("hardest", text)) => {
                negatives(text).map(|negatives| Miner::Hardest { negatives })
            }
            _ => None,
        };
        miner.map(Self).ok_or_else(|| {
            format!(
                "`{text}` is no miner; give `all`, `hard`, `semi-hard:WIDTH` (a distance above 0, \
                 such as semi-hard:0.5) or `hardest:N` (negatives of each image, 1 to 255)"
            )
        })
    }
}

impl Serialize for MinerChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MinerChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn miners_are_read_as_they_are_written() {
        for (text, miner) in [
            ("all", Miner::All),
            ("hard", Miner::Hard),
            (
                "semi-hard:0.5",
                Miner::SemiHard {
                    width: Margin::new(0.5).unwrap(),
                },
            ),
            (
                "hardest:3",
                Miner::Hardest {
                    negatives: NonZeroU8::new(3).unwrap(),
                },
            ),
        ] {
            assert_eq!(text.parse(), Ok(MinerChoice(miner)));
            assert_eq!(MinerChoice(miner).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_miner_is_answered_with_the_forms() {
        for text in [
            "",
            "some",
            "semi-hard",
            "semi-hard:0",
            "semi-hard:x",
            "hardest:0",
            "hardest:256",
            "all:1",
        ] {
            let error = text.parse::<MinerChoice>().unwrap_err();
            assert!(
                error.contains("`hardest:N`") && error.contains(text),
                "{error}"
            );
        }
    }
}
