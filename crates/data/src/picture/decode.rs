//! A file's bytes to pixels.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Pixel, Rgb};

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

/// The pixels in 8 bits, transparent parts laid on white; grey ones where `channels` is 1 or the picture has no
/// colours. What is in that form already is not copied.
pub(super) fn flatten(image: DynamicImage, channels: usize) -> (Raster, Vec<Treatment>) {
    let size = Size(image.width() as usize, image.height() as usize);
    let (kind, mut treatment) = (image.color(), Vec::new());
    let mut coloured = false;
    let (mut pixels, mut found) = match (kind.has_alpha(), kind.has_color()) {
        (false, false) => (image.into_luma8().into_raw(), 1),
        (false, true) => (image.into_rgb8().into_raw(), 3),
        (true, _) => {
            let rgba = image.into_rgba8().into_raw();
            let (rgba, _) = rgba.as_chunks();
            if rgba.iter().any(|pixel| pixel[3] < 255) {
                treatment.push(Treatment::TransparentOnWhite);
            }
            // Those that cannot be seen too.
            coloured = has_colours(rgba);
            (on_white(rgba), 3)
        }
    };
    if channels < found {
        if coloured || has_colours(pixels.as_chunks::<3>().0) {
            treatment.push(Treatment::ToGrey);
        }
        let luma = |&rgb: &[u8; 3]| Rgb(rgb).to_luma()[0];
        (pixels, found) = (pixels.as_chunks().0.iter().map(luma).collect(), 1);
    }
    let raster = Raster {
        pixels,
        size,
        channels: found,
    };
    (raster, treatment)
}

/// Red, green and blue.
fn on_white(rgba: &[[u8; 4]]) -> Vec<u8> {
    let laid = |&[r, g, b, alpha]: &[u8; 4]| {
        let (alpha, white) = (u16::from(alpha), 255 * u16::from(255 - alpha));
        [r, g, b].map(|value| ((u16::from(value) * alpha + white + 127) / 255) as u8)
    };
    let rgb: Vec<[u8; 3]> = rgba.iter().map(laid).collect();
    rgb.into_flattened()
}

/// Whether any pixel is not grey.
fn has_colours<const N: usize>(pixels: &[[u8; N]]) -> bool {
    // Without a way out, so that vectors do it.
    let differences = pixels
        .iter()
        .map(|pixel| (pixel[0] ^ pixel[1]) | (pixel[1] ^ pixel[2]));
    differences.fold(0, |all, difference| all | difference) > 0
}
