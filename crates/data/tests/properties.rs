//! Whatever bytes a file holds, a reader returns what they say or a typed error, and never panics.

use std::io::Write;
use std::path::Path;

use data::idx::{Contents, Reader};
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

/// The values of an IDX file, or as many as come before an error.
fn unpack(bytes: &[u8], contents: Contents) -> (Result<u32, DataError>, Vec<u8>) {
    let mut sink = Vec::new();
    let result = Reader::open(Path::new(PATH), bytes, contents).and_then(|reader| {
        let count = reader.count();
        reader.unpack(&mut sink).map(|()| count)
    });
    (result, sink)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Another magic number, any dimensions and a body of any length, near the right ones or far off.
fn idx_file() -> impl Strategy<Value = Vec<u8>> {
    let magic = select(vec![[0, 0, 8, 3], [0, 0, 8, 1], [0, 0, 12, 2]]);
    let magic = prop_oneof![5 => magic, 1 => any::<[u8; 4]>()];
    let size = || prop_oneof![3 => 0..4u32, 1 => Just(8), 1 => Just(u32::MAX), 1 => any::<u32>()];
    (magic, vec(size(), 0..5), vec(0..12u8, 0..70)).prop_map(|(magic, sizes, body)| {
        let sizes = sizes.into_iter().flat_map(u32::to_be_bytes);
        magic.into_iter().chain(sizes).chain(body).collect()
    })
}

proptest! {
    #[test]
    fn an_idx_file_is_what_its_header_says_or_refused(
        bytes in idx_file(),
        images: bool,
        packed: bool,
    ) {
        let contents = if images { Contents::Images([2, 3]) } else { Contents::Labels };
        let file = if packed { gzip(&bytes) } else { bytes.clone() };
        let (result, unpacked) = unpack(&file, contents);
        match result {
            Ok(count) => {
                prop_assert_eq!(&bytes[4..8], &count.to_be_bytes());
                let whole = match bytes[3] {
                    // A row of eight numbers is one label.
                    2 => {
                        prop_assert_eq!(unpacked.len(), count as usize);
                        12 + 32 * count as usize
                    }
                    dimensions => {
                        let header = 4 + 4 * usize::from(dimensions);
                        prop_assert_eq!(&unpacked, &bytes[header..]);
                        header + count as usize * if images { 6 } else { 1 }
                    }
                };
                prop_assert_eq!(bytes.len(), whole);
            }
            Err(error) => prop_assert!(error.to_string().contains(PATH), "{}", error),
        }
    }

    #[test]
    fn rows_of_numbers_are_labels_by_the_first_or_refused(
        rows in vec((prop_oneof![9 => 0..256i32, 1 => any::<i32>()], any::<[i32; 7]>()), 1..9),
        packed: bool,
    ) {
        let count = rows.len() as u32;
        let header = [0x0c02, count, 8].map(u32::to_be_bytes).concat();
        let numbers = rows.iter().flat_map(|(label, rest)| [label].into_iter().chain(rest));
        let bytes: Vec<u8> = header.into_iter().chain(numbers.flat_map(|n| n.to_be_bytes())).collect();
        let file = if packed { gzip(&bytes) } else { bytes };
        let (result, unpacked) = unpack(&file, Contents::Labels);
        let labels: Result<Vec<u8>, _> = rows.iter().map(|(label, _)| u8::try_from(*label)).collect();
        prop_assert_eq!(result.is_ok(), labels.is_ok());
        if let Ok(labels) = labels {
            prop_assert_eq!(unpacked, labels);
        }
    }

    #[test]
    fn a_sound_idx_file_that_is_damaged_is_read_as_it_is_or_refused(
        labels in vec(0..10u8, 4),
        packed: bool,
        damage in damage(),
    ) {
        let sound = [&[0, 0, 8, 1, 0, 0, 0, 4], &labels[..]].concat();
        let (result, unpacked) = unpack(&sound, Contents::Labels);
        prop_assert!(result.is_ok() && unpacked == labels);
        let file = if packed { gzip(&sound) } else { sound };
        let file = damaged(file, damage);
        let (result, unpacked) = unpack(&file, Contents::Labels);
        if let Ok(count) = result {
            prop_assert_eq!(unpacked.len(), count as usize);
            // gzip's checksum is over all that it unpacks.
            let expected = if packed { &labels } else { &file[8..] };
            prop_assert_eq!(unpacked, expected);
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
