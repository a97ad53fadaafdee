//! Whatever bytes a file holds, a reader returns what they say or a typed error, and never panics.

use std::io::Write;
use std::path::Path;

use data::idx::{self, Contents, Expected};
use data::{DataError, Framing, ImageShape, Picture, PictureProblem, picture_from_bytes};
use flate2::Compression;
use flate2::write::GzEncoder;
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const PATH: &str = "any bytes";

/// Bytes to overwrite, and where to end, in a file that was sound.
fn damage() -> impl Strategy<Value = (Vec<(Index, u8)>, Option<Index>)> {
    (vec(any::<(Index, u8)>(), 0..6), any::<Option<Index>>())
}

fn damaged(mut bytes: Vec<u8>, (changes, end): (Vec<(Index, u8)>, Option<Index>)) -> Vec<u8> {
    for (at, value) in changes {
        let at = at.index(bytes.len());
        bytes[at] = value;
    }
    if let Some(end) = end {
        bytes.truncate(end.index(bytes.len() + 1));
    }
    bytes
}

fn unpack(bytes: &[u8], expected: Expected) -> (Result<(), DataError>, Vec<u8>) {
    let mut sink = Vec::new();
    let result = idx::unpack(Path::new(PATH), bytes, expected, &mut sink);
    (result, sink)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Another magic number, any dimensions and a body of any length, near the right ones or far off.
fn idx_file() -> impl Strategy<Value = Vec<u8>> {
    let magic = prop_oneof![4 => select(vec![[0, 0, 8, 3], [0, 0, 8, 1]]), 1 => any::<[u8; 4]>()];
    let size = || prop_oneof![3 => 0..4u32, 1 => Just(u32::MAX), 1 => any::<u32>()];
    (magic, vec(size(), 0..5), vec(0..12u8, 0..40)).prop_map(|(magic, sizes, body)| {
        let sizes = sizes.into_iter().flat_map(u32::to_be_bytes);
        magic.into_iter().chain(sizes).chain(body).collect()
    })
}

proptest! {
    #[test]
    fn an_idx_file_is_what_its_header_says_or_refused(
        bytes in idx_file(),
        images: bool,
        count in 0..4u32,
        packed: bool,
    ) {
        let contents = if images { Contents::Images([2, 3]) } else { Contents::Labels(10) };
        let expected = Expected { contents, count };
        let file = if packed { gzip(&bytes) } else { bytes.clone() };
        let (result, unpacked) = unpack(&file, expected);
        let item = if images { 6 } else { 1 };
        let whole = expected.header_bytes() + item * count as usize;
        prop_assert!(unpacked.len() <= whole);
        match result {
            Ok(()) => prop_assert_eq!(&unpacked, &bytes),
            Err(error) => prop_assert!(error.to_string().contains(PATH), "{}", error),
        }
    }

    #[test]
    fn a_sound_idx_file_that_is_damaged_is_read_as_it_is_or_refused(
        labels in vec(0..10u8, 4),
        packed: bool,
        damage in damage(),
    ) {
        let sound = [&[0, 0, 8, 1, 0, 0, 0, 4], &labels[..]].concat();
        let expected = Expected { contents: Contents::Labels(10), count: 4 };
        let (result, unpacked) = unpack(&sound, expected);
        prop_assert!(result.is_ok() && unpacked == sound);
        let file = if packed { gzip(&sound) } else { sound.clone() };
        let (result, unpacked) = unpack(&damaged(file, damage), expected);
        prop_assert!(unpacked.len() <= sound.len());
        if result.is_ok() {
            prop_assert_eq!(&unpacked[..8], &sound[..8]);
            prop_assert!(unpacked.len() == 12 && unpacked[8..].iter().all(|&label| label < 10));
            // gzip's checksum is over all that it unpacks.
            prop_assert!(!packed || unpacked == sound);
        }
    }
}

fn encoded(
    png: bool,
    colour: ExtendedColorType,
    [width, height]: [u32; 2],
    value: &[u8],
) -> Vec<u8> {
    let bytes = (width * height) as usize * usize::from(colour.bits_per_pixel()) / 8;
    let pixels: Vec<u8> = value.iter().copied().cycle().take(bytes).collect();
    let mut file = Vec::new();
    match png {
        true => PngEncoder::new(&mut file).write_image(&pixels, width, height, colour),
        false => JpegEncoder::new(&mut file).write_image(&pixels, width, height, colour),
    }
    .unwrap();
    file
}

fn picture_file() -> impl Strategy<Value = Vec<u8>> {
    use ExtendedColorType::{L8, L16, La8, La16, Rgb8, Rgb16, Rgba8, Rgba16};
    let kind = select(vec![
        (false, L8),
        (false, Rgb8),
        (true, L8),
        (true, L16),
        (true, La8),
        (true, La16),
        (true, Rgb8),
        (true, Rgb16),
        (true, Rgba8),
        (true, Rgba16),
    ]);
    (kind, [1..40u32, 1..40u32], vec(any::<u8>(), 1..60))
        .prop_map(|((png, colour), sides, values)| encoded(png, colour, sides, &values))
}

fn shape() -> impl Strategy<Value = ImageShape> {
    (select(vec![1, 3]), 1..40usize, 1..40usize).prop_map(|(channels, height, width)| ImageShape {
        channels,
        height,
        width,
    })
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::Letterbox),
        prop_oneof![0..60u32, Just(u32::MAX)].prop_map(Framing::Ink),
    ]
}

fn problem(error: &DataError) -> Option<PictureProblem> {
    match error {
        DataError::Picture { problem, .. } => Some(*problem),
        _ => None,
    }
}

fn read(bytes: &[u8], shape: ImageShape, framing: Framing) -> Result<Picture, DataError> {
    picture_from_bytes(bytes, Path::new(PATH), shape, framing)
}

proptest! {
    #[test]
    fn every_whole_picture_is_read_in_the_networks_shape_or_is_blank(
        file in picture_file(),
        shape in shape(),
        framing in framing(),
    ) {
        match read(&file, shape, framing) {
            Ok(picture) => prop_assert_eq!(picture.pixels.len(), shape.values()),
            Err(error) => {
                let blank = matches!(problem(&error), Some(PictureProblem::Blank { .. }));
                prop_assert!(blank, "{}", error);
            }
        }
    }

    #[test]
    fn a_damaged_picture_is_read_or_refused(
        file in picture_file(),
        shape in shape(),
        framing in framing(),
        damage in damage(),
    ) {
        match read(&damaged(file, damage), shape, framing) {
            Ok(picture) => prop_assert_eq!(picture.pixels.len(), shape.values()),
            Err(error) => prop_assert!(error.to_string().contains(PATH), "{}", error),
        }
    }

    /// Damage alone is found by the checksum of a chunk, before anything looks at the sizes.
    #[test]
    fn a_png_that_lies_about_its_size_is_refused(
        file in (vec(any::<u8>(), 1..60), [1..9u32, 1..9u32]),
        sides in [prop_oneof![1..9u32, any::<u32>()], prop_oneof![1..9u32, any::<u32>()]],
    ) {
        let (values, true_sides) = file;
        let bytes_of = |[width, height]: [u32; 2]| (u64::from(width) + 1) * u64::from(height);
        let mut bytes = encoded(true, ExtendedColorType::L8, true_sides, &values);
        bytes[16..20].copy_from_slice(&sides[0].to_be_bytes());
        bytes[20..24].copy_from_slice(&sides[1].to_be_bytes());
        let mut checksum = flate2::Crc::new();
        checksum.update(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
        match read(&bytes, ImageShape::MNIST, Framing::Letterbox) {
            // Each row is a byte for its filter, then its pixels; bytes that are left over are no
            // picture's.
            Ok(_) => prop_assert!(bytes_of(sides) <= bytes_of(true_sides)),
            Err(error) => prop_assert!(error.to_string().contains(PATH), "{}", error),
        }
    }

    /// A PNM says its sides in words, and may say 0.
    #[test]
    fn a_picture_without_a_pixel_is_refused(width in 0..3u32, height in 0..3u32, plain: bool) {
        let magic = if plain { "P2" } else { "P5" };
        let mut file = format!("{magic} {width} {height} 255\n").into_bytes();
        file.extend([b"1 ".as_slice(), b"1 ", b"1 ", b"1 "].concat());
        let result = read(&file, ImageShape::MNIST, Framing::Letterbox);
        let problem = result.as_ref().err().and_then(problem);
        let empty = matches!(problem, Some(PictureProblem::Empty { .. }));
        prop_assert_eq!(empty, width * height == 0, "{:?}", result);
    }

    #[test]
    fn bytes_that_are_no_picture_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        let error = read(&bytes, ImageShape::MNIST, Framing::Letterbox).unwrap_err();
        let named = matches!(
            problem(&error),
            Some(PictureProblem::Unreadable | PictureProblem::Truncated)
        );
        prop_assert!(named, "{}", error);
    }
}
