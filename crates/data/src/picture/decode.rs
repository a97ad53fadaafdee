//! A file's bytes to pixels.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{
    DynamicImage, GenericImageView, ImageDecoder, ImageFormat, ImageReader, Limits, Pixel, Rgb,
    Rgba,
};

use super::Treatment;
use crate::{DataError, PictureProblem};

/// 8000x8000. A decoded picture takes up to 8 bytes a pixel, 512 MiB.
const MOST_MEGAPIXELS: u64 = 64;
pub(super) const MOST_BYTES: u64 = 512 << 20;

/// Decodes a picture and turns it as its EXIF orientation says.
pub(super) fn decode(
    bytes: &[u8],
    path: &Path,
) -> Result<(DynamicImage, Option<Treatment>), DataError> {
    let problem = |problem| Err(DataError::picture(path, problem));
    let unreadable = |source| DataError::Picture {
        path: path.into(),
        problem: PictureProblem::Unreadable,
        source: Some(source),
    };
    let format = image::guess_format(bytes).map_err(unreadable)?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return problem(PictureProblem::Truncated);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return problem(PictureProblem::Empty { width, height });
    }
    let megapixels = (u64::from(width) * u64::from(height)).div_ceil(1_000_000);
    if megapixels > MOST_MEGAPIXELS {
        return problem(PictureProblem::TooLarge {
            megapixels,
            most: MOST_MEGAPIXELS,
        });
    }
    // A damaged EXIF block takes nothing from the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    let turned = orientation != Orientation::NoTransforms;
    if turned {
        picture.apply_orientation(orientation);
    }
    Ok((picture, turned.then_some(Treatment::TurnedByExif)))
}

/// Whether an end marker follows the first scan.
///
/// The decoder fills what is missing with grey and reports nothing. Within a scan 0xff is followed by
/// 0 or a restart marker, so that the end marker cannot occur by chance; a thumbnail's own end marker
/// lies in a segment before the scan.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            START_OF_SCAN => {
                return bytes[at..]
                    .windows(2)
                    .any(|pair| pair == [0xff, END_OF_IMAGE]);
            }
            // Padding before a marker.
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    false
}

/// The pixels as `channels` planes, transparent parts laid on white.
pub(super) fn flatten(
    image: &DynamicImage,
    channels: usize,
) -> (Vec<u8>, impl Iterator<Item = Treatment> + use<>) {
    let (width, height) = image.dimensions();
    let plane = width as usize * height as usize;
    let mut pixels = vec![0; channels * plane];
    let mut transparent = false;
    let mut coloured = false;
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    for (i, (x, y)) in places.enumerate() {
        let Rgba([r, g, b, alpha]) = image.get_pixel(x, y);
        transparent |= alpha < 255;
        let rgb = [r, g, b].map(|value| {
            let (value, alpha) = (u32::from(value), u32::from(alpha));
            ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        });
        if channels == 1 {
            coloured |= r != g || g != b;
            pixels[i] = Rgb(rgb).to_luma()[0];
        } else {
            for (channel, value) in rgb.into_iter().enumerate() {
                pixels[channel * plane + i] = value;
            }
        }
    }
    let transparent = transparent.then_some(Treatment::TransparentOnWhite);
    let coloured = coloured.then_some(Treatment::ToGrey);
    (pixels, transparent.into_iter().chain(coloured))
}
