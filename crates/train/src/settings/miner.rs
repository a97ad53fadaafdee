use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

use loss_kernel::{Margin, Miner};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A miner as it is written: `all`, `hard`, `semi-hard:WIDTH` or `hardest:N`.
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
                "`{text}` is not a miner; use `all`, `hard`, `semi-hard:WIDTH` (a distance above 0, \
                 such as semi-hard:0.5) or `hardest:N` (dissimilar pairs per anchor, 1 to 255)"
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
