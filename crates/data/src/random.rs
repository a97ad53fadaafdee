//! One seed, one independent stream of random numbers per purpose.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a stream of random numbers is for; two purposes never share numbers.
///
/// The discriminants are part of every recorded run: a new purpose takes a new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// The network's first weights.
    Initialisation = 0,
    /// Which training images are held out for validation.
    Split = 1,
    /// Which images make up a batch of training pairs; indexed by step or epoch.
    Sampling = 2,
    /// Random transforms of the training images; indexed by step.
    Augmentation = 3,
    /// The fixed pairs a model is tested on.
    TestPairs = 4,
    /// The fixed pairs its threshold is chosen on.
    ValidationPairs = 5,
    /// Which classes and images make up a batch whose pairs are all used; indexed by step.
    ClassBatches = 6,
    // 7 was the test pictures of a folder, which a hash decides by now.
    /// How the images of a batch are turned; indexed by step.
    Turns = 8,
    /// Which training images a preview shows.
    Preview = 9,
    /// Which training images a head is fitted on.
    HeadImages = 10,
}

/// The generator for `purpose`, the `index`-th of its streams (a step, an epoch).
///
/// The ChaCha8 key is the seed in bytes 0..8 (little-endian) and the purpose in byte 8; `index` is
/// ChaCha's stream number. A step's stream is reached without drawing those before it, so a resumed
/// run needs only the step number.
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = purpose as u8;
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore;

    const PURPOSES: [Purpose; 10] = [
        Purpose::Initialisation,
        Purpose::Split,
        Purpose::Sampling,
        Purpose::Augmentation,
        Purpose::TestPairs,
        Purpose::ValidationPairs,
        Purpose::ClassBatches,
        Purpose::Turns,
        Purpose::Preview,
        Purpose::HeadImages,
    ];

    #[test]
    fn streams_are_the_ones_recorded_runs_were_made_with() {
        let firsts = PURPOSES.map(|purpose| stream(1, purpose, 2).next_u64());
        assert_eq!(
            firsts,
            [
                6_938_885_953_644_749_562,
                7_534_945_636_092_859_176,
                15_669_314_919_712_945_880,
                17_501_414_899_949_580_053,
                12_782_580_064_229_984_407,
                13_002_587_072_520_787_082,
                9_554_753_001_108_874_863,
                7_066_352_423_084_509_838,
                17_874_796_306_026_652_638,
                2_829_166_587_447_111_309,
            ]
        );
    }

    #[test]
    fn seed_purpose_and_index_each_change_the_stream() {
        let mut seen = std::collections::HashSet::new();
        for seed in [0, 1, u64::MAX] {
            for purpose in PURPOSES {
                for index in [0, 1, u64::MAX] {
                    assert!(seen.insert(stream(seed, purpose, index).next_u64()));
                }
            }
        }
    }
}
