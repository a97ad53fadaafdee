//! Whatever bytes a model file holds, it is read as it says or refused with a typed error.

use candle_core::{DType, Device};
use model::{Activation, ModelFile, Network, NetworkConfig, Norm, Preprocessing, Trunk, weights};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The smallest network there is: most of its file is header.
fn stored() -> Vec<u8> {
    let config = NetworkConfig {
        trunk: Trunk::Lenet,
        input: [1, 16, 16],
        channels: vec![1, 1],
        conv_activation: Activation::Relu,
        norm: Norm::None,
        grid: 1,
        every_stage: false,
        hidden: Vec::new(),
        embedding: 1,
        normalised: false,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let net = Network::new(config.clone(), DType::F32, &Device::Cpu, &mut rng).unwrap();
    let file = ModelFile {
        config,
        preprocessing: Preprocessing {
            scale: 1.0,
            mean: 0.0,
            std: 1.0,
            ink_side: Some(20),
        },
        threshold: Some(0.5),
        calibration: None,
        head: None,
        classes: vec!["only".into()],
        version: "0.1.0".into(),
        pretrained: None,
    };
    weights::to_bytes(&net, &file).unwrap()
}

/// What is read is written, and read again the same.
fn assert_read_or_refused(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok((net, file)) = weights::from_bytes(bytes, &Device::Cpu) {
        let written = weights::to_bytes(&net, &file).unwrap();
        let (net, again) = weights::from_bytes(&written, &Device::Cpu).unwrap();
        prop_assert_eq!(&file, &again);
        prop_assert_eq!(written, weights::to_bytes(&net, &file).unwrap());
    }
    Ok(())
}

/// The header with some of its text replaced, and its length put right.
fn with_header(replace: &str, by: &str) -> Vec<u8> {
    let bytes = stored();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = std::str::from_utf8(header).unwrap();
    assert!(header.contains(replace), "{header}");
    let header = header.replace(replace, by);
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), data].concat()
}

proptest! {
    #[test]
    fn a_damaged_file_is_read_or_refused(
        changes in vec(any::<(Index, u8)>(), 0..6),
        end: Option<Index>,
    ) {
        let mut bytes = stored();
        prop_assert!(weights::from_bytes(&bytes, &Device::Cpu).is_ok());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
            prop_assert!(weights::from_bytes(&bytes, &Device::Cpu).is_err());
        }
        assert_read_or_refused(&bytes)?;
    }

    #[test]
    fn a_header_may_claim_any_number_in_any_place(
        number in prop_oneof![
            Just(u64::MAX.to_string()),
            Just("-1".into()),
            Just("1e400".into()),
            Just("0.5".into()),
            any::<u64>().prop_map(|n| n.to_string()),
        ],
        place in select(vec![
            r#""shape":[1]"#,
            r#""data_offsets":[0,"#,
            r#"\"input\":[1"#,
            r#"\"channels\":[1"#,
            r#"\"embedding\":1"#,
            r#"\"ink_side\":20"#,
            r#"\"scale\":1"#,
            r#""threshold":"0"#,
        ]),
    ) {
        let start = place.trim_end_matches(|c: char| c.is_ascii_digit() || c == ']');
        let close = if place.ends_with(']') { "]" } else { "" };
        let place_by = format!("{start}{number}{close}");
        assert_read_or_refused(&with_header(place, &place_by))?;
    }

    #[test]
    fn the_length_of_the_header_may_lie(length: u64, near in -20..20i64) {
        let mut bytes = stored();
        let (claimed, _) = bytes.split_first_chunk_mut::<8>().unwrap();
        let true_length = u64::from_le_bytes(*claimed);
        for length in [length, true_length.wrapping_add_signed(near)] {
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            let result = weights::from_bytes(&bytes, &Device::Cpu);
            prop_assert!(result.is_ok() == (length == true_length), "{}", length);
        }
    }

    #[test]
    fn bytes_that_are_no_model_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(weights::from_bytes(&bytes, &Device::Cpu).is_err());
    }
}
