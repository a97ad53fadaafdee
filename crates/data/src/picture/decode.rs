//! A file's bytes to pixels.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{
    DynamicImage, GenericImageView, ImageDecoder, ImageFormat, ImageReader, Limits, Pixel, Rgb,
    Rgba,
};

use super::raster::Raster;
use super::{Size, Treatment};
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
                // It lies near the end, but for what a camera may have put behind it.
                let mut pairs = bytes[at..].windows(2).rev();
                return pairs.any(|pair| pair == [0xff, END_OF_IMAGE]);
            }
            // Padding before a marker.
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    false
}

/// The pixels without transparency, which is laid on white; grey ones where `channels` is 1 or the picture
/// has no colours. What is in that form already is not copied.
pub(super) fn flatten(image: DynamicImage, channels: usize) -> (Raster, Vec<Treatment>) {
    let size = Size(image.width() as usize, image.height() as usize);
    let grey = channels == 1;
    let mut seen = Seen::default();
    let (pixels, channels) = match image {
        DynamicImage::ImageLuma8(image) => (image.into_raw(), 1),
        DynamicImage::ImageRgb8(image) if !grey => (image.into_raw(), 3),
        DynamicImage::ImageRgb8(image) => (seen.to_grey(image.pixels().copied()), 1),
        DynamicImage::ImageRgba8(image) => seen.flattened(image.pixels().copied(), grey),
        image => seen.flattened(image.pixels().map(|(_, _, pixel)| pixel), grey),
    };
    let raster = Raster {
        pixels,
        size,
        channels,
    };
    let transparent = seen.transparent.then_some(Treatment::TransparentOnWhite);
    let coloured = (grey && seen.coloured).then_some(Treatment::ToGrey);
    (raster, transparent.into_iter().chain(coloured).collect())
}

/// What there was in a picture.
#[derive(Default)]
struct Seen {
    transparent: bool,
    coloured: bool,
}

impl Seen {
    fn flattened(
        &mut self,
        pixels: impl Iterator<Item = Rgba<u8>>,
        grey: bool,
    ) -> (Vec<u8>, usize) {
        let opaque = pixels.map(|Rgba([r, g, b, alpha])| {
            self.transparent |= alpha < 255;
            self.coloured |= r != g || g != b;
            let (alpha, white) = (u32::from(alpha), u32::from(255 - alpha));
            Rgb([r, g, b].map(|v| ((u32::from(v) * alpha + 255 * white + 127) / 255) as u8))
        });
        match grey {
            true => (opaque.map(|rgb| rgb.to_luma()[0]).collect(), 1),
            false => (opaque.flat_map(|Rgb(rgb)| rgb).collect(), 3),
        }
    }

    fn to_grey(&mut self, pixels: impl Iterator<Item = Rgb<u8>>) -> Vec<u8> {
        let luma = pixels.map(|rgb| {
            let Rgb([r, g, b]) = rgb;
            self.coloured |= r != g || g != b;
            rgb.to_luma()[0]
        });
        luma.collect()
    }
}
