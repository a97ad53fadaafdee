//! A user's picture made to look like a training image.

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::path::Path;

use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{
    DynamicImage, GenericImageView, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits,
    Luma, Pixel, Rgb, Rgba,
};

use crate::{DataError, ImageShape, LabelledImages, file};

/// 8000x8000. A decoded picture takes up to 8 bytes a pixel, 512 MiB.
const MOST_MEGAPIXELS: u64 = 64;
const MOST_BYTES: u64 = 512 << 20;

/// Ink has to stand out by 1/16 of the range, more than paper's grain or JPEG's noise.
const LEAST_CONTRAST: u8 = 16;

/// 65535 / 255.
const LEVELS_16_TO_8: f64 = 257.0;

/// A picture as network input before scaling and normalising.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// (C, H, W), light on dark as MNIST.
    pub pixels: Vec<u8>,
    /// What was done to it, in order, a sentence part each.
    pub treatment: Vec<String>,
}

impl AsRef<Picture> for Picture {
    fn as_ref(&self) -> &Picture {
        self
    }
}

/// How a picture is fitted to the size of the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// As MNIST's makers did with drawings: light ink on 0, its bounding box scaled so that the longer
    /// side takes this many pixels, its centre of mass in the middle.
    Ink(u32),
    /// The whole picture, its sides in proportion, as large as fits and in the middle; what it leaves
    /// free takes the median colour of its border.
    Letterbox,
}

impl From<Option<u32>> for Framing {
    /// As a model file has it: the ink's side, or none where pictures are not cropped to it.
    fn from(ink_side: Option<u32>) -> Self {
        ink_side.map_or(Self::Letterbox, Self::Ink)
    }
}

/// Reads a picture file (by content, not by name) as an image of `shape`.
///
/// It is turned as its EXIF orientation says, transparent parts are laid on white, and one channel
/// takes luminance. Of an animation the first frame counts. Then it is framed.
///
/// [`Framing::Letterbox`] changes nothing else, and nothing at all in a picture of the shape's size.
///
/// [`Framing::Ink`] inverts ink that is darker than the background, which is the median of the
/// border's pixels. A picture of the shape's size is then taken as it is. In any other the background
/// goes to 0, the ink is cropped, scaled and centred, and strokes that scaling makes faint get their
/// brightness back.
///
/// # Errors
/// [`DataError::Read`], [`DataError::NotAFile`], [`DataError::Picture`] and
/// [`DataError::TruncatedPicture`] for a file that gives no picture, [`DataError::EmptyPicture`] for one
/// without a pixel, [`DataError::PictureTooLarge`] above 64 megapixels, [`DataError::BlankPicture`] if no ink is found where it is looked for,
/// [`DataError::Shape`].
pub fn read_picture(
    path: &Path,
    shape: ImageShape,
    framing: Framing,
) -> Result<Picture, DataError> {
    let mut bytes = Vec::new();
    file::open(path)?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|source| DataError::Read {
            path: path.into(),
            source,
        })?;
    picture_from_bytes(&bytes, path, shape, framing)
}

/// As [`read_picture`], of a file's bytes that are in memory already; errors call it `path`.
///
/// # Errors
/// Those of [`read_picture`] but for the file system's.
pub fn picture_from_bytes(
    bytes: &[u8],
    path: &Path,
    shape: ImageShape,
    framing: Framing,
) -> Result<Picture, DataError> {
    let shape = ImageShape::try_from(<[usize; 3]>::from(shape))?;
    let mut treatment = Vec::new();
    let decoded = decode(bytes, path, &mut treatment)?;
    let found = ImageShape {
        channels: shape.channels,
        height: decoded.height() as usize,
        width: decoded.width() as usize,
    };
    let pixels = flatten(&decoded, shape.channels, &mut treatment);
    drop(decoded);
    let pixels = match framing {
        Framing::Letterbox => letterbox(pixels, found, shape, &mut treatment),
        Framing::Ink(side) => frame_ink(path, pixels, found, shape, side, &mut treatment)?,
    };
    Ok(Picture { pixels, treatment })
}

fn letterbox(
    pixels: Vec<u8>,
    found: ImageShape,
    shape: ImageShape,
    treatment: &mut Vec<String>,
) -> Vec<u8> {
    if found == shape {
        treatment.push(taken_as_it_is(shape));
        return pixels;
    }
    let scale =
        (shape.width as f64 / found.width as f64).min(shape.height as f64 / found.height as f64);
    let fitted = |side: usize, most: usize| ((side as f64 * scale).round() as usize).clamp(1, most);
    let (width, height) = (
        fitted(found.width, shape.width),
        fitted(found.height, shape.height),
    );
    let (left, top) = ((shape.width - width) / 2, (shape.height - height) / 2);
    let mut framed = Vec::with_capacity(shape.values());
    for plane in pixels.chunks_exact(found.height * found.width) {
        let start = framed.len();
        let ground = median(border(plane, found.width));
        framed.resize(start + shape.height * shape.width, ground);
        let scaled = resize(plane.to_vec(), found, width as u32, height as u32);
        for (row, values) in scaled.chunks_exact(width).enumerate() {
            let at = start + (top + row) * shape.width + left;
            framed[at..at + width].copy_from_slice(values);
        }
    }
    treatment.push(format!(
        "scaled from {}x{} to {width}x{height} pixels and centred in {}x{}",
        found.width, found.height, shape.width, shape.height
    ));
    framed
}

fn resize(plane: Vec<u8>, found: ImageShape, width: u32, height: u32) -> Vec<u8> {
    ImageBuffer::<Luma<u8>, _>::from_raw(found.width as u32, found.height as u32, plane)
        .map(|plane| imageops::resize(&plane, width, height, FilterType::CatmullRom).into_raw())
        .unwrap_or_default()
}

fn taken_as_it_is(shape: ImageShape) -> String {
    format!("taken as it is, {}x{} pixels", shape.width, shape.height)
}

fn frame_ink(
    path: &Path,
    mut pixels: Vec<u8>,
    found: ImageShape,
    shape: ImageShape,
    ink_side: u32,
    treatment: &mut Vec<String>,
) -> Result<Vec<u8>, DataError> {
    let grey = brightness(&pixels, found);
    let mut background = median(border(&grey, found.width));
    let (darkest, lightest) = grey
        .iter()
        .fold((255, 0), |(low, high), &v| (v.min(low), v.max(high)));
    let (below, above) = (background - darkest, lightest - background);
    if below.max(above) < LEAST_CONTRAST {
        return Err(DataError::BlankPicture {
            path: path.into(),
            least: LEAST_CONTRAST,
        });
    }
    if below > above {
        for value in &mut pixels {
            *value = !*value;
        }
        background = !background;
        treatment.push("inverted, since its ink is darker than its background".into());
    }

    if found == shape {
        treatment.push(taken_as_it_is(shape));
        return Ok(pixels);
    }
    if background > 0 {
        subtract(background, &mut pixels);
        treatment.push(format!("background of grey level {background} taken to 0"));
    }
    Ok(centre(&pixels, found, shape, ink_side, treatment))
}

/// Whether a file's name is that of a picture that can be read here: by its ending alone.
pub fn is_picture_name(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok_and(|format| format.reading_enabled())
}

/// The median, over `images`, of the longer side of the ink's bounding box in pixels: 20 for MNIST.
///
/// Images without ink do not count; without any ink at all it is the image's shorter side.
pub fn ink_side(images: &LabelledImages) -> u32 {
    let shape = images.shape();
    let mut sides: Vec<u32> = (0..images.len())
        .filter_map(|i| {
            let grey = brightness(images.image(i), shape);
            InkBox::of(&grey, shape.width).map(|ink| ink.width.max(ink.height))
        })
        .collect();
    if sides.is_empty() {
        return shape.height.min(shape.width) as u32;
    }
    let middle = sides.len() / 2;
    *sides.select_nth_unstable(middle).1
}

fn decode(
    bytes: &[u8],
    path: &Path,
    treatment: &mut Vec<String>,
) -> Result<DynamicImage, DataError> {
    let picture_error = |source| DataError::Picture {
        path: path.into(),
        source,
    };
    let format = image::guess_format(bytes).map_err(picture_error)?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(DataError::TruncatedPicture { path: path.into() });
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(picture_error)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(DataError::EmptyPicture {
            path: path.into(),
            width,
            height,
        });
    }
    let megapixels = (u64::from(width) * u64::from(height)).div_ceil(1_000_000);
    if megapixels > MOST_MEGAPIXELS {
        return Err(DataError::PictureTooLarge {
            path: path.into(),
            found: megapixels,
            most: MOST_MEGAPIXELS,
        });
    }
    // A damaged EXIF block takes nothing from the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(picture_error)?;
    if orientation != Orientation::NoTransforms {
        picture.apply_orientation(orientation);
        treatment.push("turned as its EXIF orientation says".into());
    }
    Ok(picture)
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
fn flatten(image: &DynamicImage, channels: usize, treatment: &mut Vec<String>) -> Vec<u8> {
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
    if transparent {
        treatment.push("transparent parts laid on white".into());
    }
    if coloured {
        treatment.push("colours turned to grey by luminance".into());
    }
    pixels
}

/// One plane: the mean over the channels.
fn brightness(pixels: &[u8], shape: ImageShape) -> Cow<'_, [u8]> {
    if shape.channels == 1 {
        return pixels.into();
    }
    let plane = shape.height * shape.width;
    let mean = |i| {
        let channels = pixels[i..].iter().step_by(plane);
        channels.map(|&value| usize::from(value)).sum::<usize>() / shape.channels
    };
    (0..plane).map(|i| mean(i) as u8).collect()
}

fn border(plane: &[u8], width: usize) -> Vec<u8> {
    let height = plane.len() / width;
    let on_border = |i: usize| {
        let (x, y) = (i % width, i / width);
        x == 0 || y == 0 || x == width - 1 || y == height - 1
    };
    (0..plane.len())
        .filter(|&i| on_border(i))
        .map(|i| plane[i])
        .collect()
}

fn median(mut values: Vec<u8>) -> u8 {
    let middle = values.len() / 2;
    *values.select_nth_unstable(middle).1
}

/// Takes the background to 0 and leaves white white.
fn subtract(background: u8, pixels: &mut [u8]) {
    let range = u32::from(255 - background);
    for value in pixels {
        let above = u32::from(value.saturating_sub(background));
        *value = ((above * 255 + range / 2) / range) as u8;
    }
}

/// Where the ink is.
struct InkBox {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl InkBox {
    /// The box around all pixels of at least a quarter of the brightest one: JPEG's ripples about a
    /// stroke and uneven light on paper stay below that, and a stroke's soft edge loses less than
    /// half a pixel. `None` if all is 0.
    fn of(plane: &[u8], width: usize) -> Option<Self> {
        let brightest = *plane.iter().max()?;
        let threshold = brightest.div_ceil(4).max(1);
        let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
        for (y, row) in plane.chunks_exact(width).enumerate() {
            let Some(first) = row.iter().position(|&v| v >= threshold) else {
                continue;
            };
            let last = row.iter().rposition(|&v| v >= threshold).unwrap_or(first);
            left = left.min(first);
            right = right.max(last);
            top = top.min(y);
            bottom = y;
        }
        (brightest > 0).then(|| Self {
            left: left as u32,
            top: top as u32,
            width: (right - left + 1) as u32,
            height: (bottom - top + 1) as u32,
        })
    }
}

/// Scales the ink to `ink_side` and puts its centre of mass in the middle of an image of `shape`.
fn centre(
    pixels: &[u8],
    found: ImageShape,
    shape: ImageShape,
    ink_side: u32,
    treatment: &mut Vec<String>,
) -> Vec<u8> {
    let mut framed = vec![0; shape.values()];
    let Some(ink) = InkBox::of(&brightness(pixels, found), found.width) else {
        return framed;
    };
    // The whole of it has to fit into the frame.
    let scale = (f64::from(ink_side.max(1)) / f64::from(ink.width.max(ink.height)))
        .min(shape.width as f64 / f64::from(ink.width))
        .min(shape.height as f64 / f64::from(ink.height));
    let [width, height] =
        [ink.width, ink.height].map(|side| (f64::from(side) * scale).round().max(1.0) as u32);
    let scaled: Vec<u16> = pixels
        .chunks_exact(found.height * found.width)
        .flat_map(|plane| scale_ink(plane, found.width, &ink, width, height))
        .collect();
    // A pen of 8 pixels on a canvas of 1000 leaves a fifth of its brightness; MNIST's strokes are
    // two or three pixels wide and keep theirs.
    let brightest = |values: &mut dyn Iterator<Item = u16>| f64::from(values.max().unwrap_or(0));
    let before = brightest(&mut pixels.iter().map(|&value| u16::from(value)));
    let after = brightest(&mut scaled.iter().copied());
    let gain = (before / after).max(1.0 / LEVELS_16_TO_8);
    let scaled: Vec<u8> = scaled
        .iter()
        .map(|&value| (f64::from(value) * gain).round() as u8)
        .collect();
    let small = ImageShape {
        channels: shape.channels,
        height: height as usize,
        width: width as usize,
    };
    let [mass_x, mass_y] = centre_of_mass(&brightness(&scaled, small), small.width);
    let left = offset(mass_x, small.width, shape.width);
    let top = offset(mass_y, small.height, shape.height);
    for (row, values) in scaled.chunks_exact(small.width).enumerate() {
        let (channel, y) = (row / small.height, row % small.height);
        let start = (channel * shape.height + top + y) * shape.width + left;
        framed[start..start + small.width].copy_from_slice(values);
    }
    treatment.push(format!(
        "cropped to the ink, {}x{} of {}x{} pixels",
        ink.width, ink.height, found.width, found.height
    ));
    treatment.push(format!(
        "scaled to {width}x{height} and centred by mass in {}x{}",
        shape.width, shape.height
    ));
    // A tenth is what resampling alone may take.
    if gain * LEVELS_16_TO_8 > 1.1 {
        treatment.push("brightened, since its strokes became thinner than a pixel".into());
    }
    framed
}

/// In 16 bits, since a hair on a large sheet shrinks to less than one of 255.
fn scale_ink(plane: &[u8], plane_width: usize, ink: &InkBox, width: u32, height: u32) -> Vec<u16> {
    let cropped: Vec<u16> = plane
        .chunks_exact(plane_width)
        .skip(ink.top as usize)
        .take(ink.height as usize)
        .flat_map(|row| &row[ink.left as usize..(ink.left + ink.width) as usize])
        .map(|&value| u16::from(value) * LEVELS_16_TO_8 as u16)
        .collect();
    ImageBuffer::<Luma<u16>, _>::from_raw(ink.width, ink.height, cropped)
        .map(|cropped| imageops::resize(&cropped, width, height, FilterType::CatmullRom).into_raw())
        .unwrap_or_default()
}

/// (x, y), the first pixel at 0.
fn centre_of_mass(plane: &[u8], width: usize) -> [f64; 2] {
    let (mut mass, mut along_x, mut along_y) = (0.0, 0.0, 0.0);
    for (i, &value) in plane.iter().enumerate() {
        mass += f64::from(value);
        along_x += f64::from(value) * (i % width) as f64;
        along_y += f64::from(value) * (i / width) as f64;
    }
    [along_x / mass, along_y / mass]
}

/// MNIST's centre of mass lies at pixel (14, 14), within the half pixel of a whole shift (measured on
/// its training images: mean 14.0 along both axes, all within 13.5 to 14.5).
fn offset(mass: f64, ink: usize, frame: usize) -> usize {
    let wanted = (frame / 2) as f64 - mass;
    wanted.round().clamp(0.0, (frame - ink) as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digits;
    use image::{GrayImage, ImageEncoder, RgbaImage};
    use std::fs;
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use tempfile::TempDir;

    static DIGITS: LazyLock<LabelledImages> = LazyLock::new(|| digits().unwrap().1);

    /// Three test digits of each class.
    fn some_digits() -> impl Iterator<Item = GrayImage> {
        let starts = (0..10).map(|class| DIGITS.labels().iter().position(|&l| l == class));
        starts.flat_map(|start| {
            (0..3).map(move |i| {
                let pixels = DIGITS.image(start.unwrap() + i).to_vec();
                GrayImage::from_raw(28, 28, pixels).unwrap()
            })
        })
    }

    fn digit() -> GrayImage {
        some_digits().nth(10).unwrap()
    }

    fn inverted(mut picture: GrayImage) -> GrayImage {
        imageops::invert(&mut picture);
        picture
    }

    /// Dark ink on a sheet of white, off its centre.
    fn on_white_sheet(digit: &GrayImage, enlarged: u32) -> GrayImage {
        let side = 28 * enlarged;
        let big = imageops::resize(digit, side, side, FilterType::Nearest);
        let mut sheet = GrayImage::new(side + 170, side + 60);
        imageops::replace(&mut sheet, &big, 130, 20);
        inverted(sheet)
    }

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Saves in the format that `name` ends with.
        fn save(&self, name: &str, picture: impl Into<DynamicImage>) -> PathBuf {
            let path = self.path(name);
            picture.into().save(&path).unwrap();
            path
        }

        fn read(&self, name: &str, picture: impl Into<DynamicImage>) -> Picture {
            read_picture(
                &self.save(name, picture),
                ImageShape::MNIST,
                Framing::Ink(20),
            )
            .unwrap()
        }
    }

    fn mean_difference(one: &[u8], other: &[u8]) -> f64 {
        assert_eq!(one.len(), other.len());
        let differences = one
            .iter()
            .zip(other)
            .map(|(&a, &b)| f64::from(a.abs_diff(b)));
        differences.sum::<f64>() / one.len() as f64
    }

    /// The error of reading the file at `path`; its text has to name it.
    fn fault(path: &Path) -> DataError {
        let error = read_picture(path, ImageShape::MNIST, Framing::Ink(20)).unwrap_err();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        error
    }

    fn shifted(digit: &GrayImage) -> GrayImage {
        let mut shifted = GrayImage::new(28, 28);
        imageops::replace(&mut shifted, digit, 1, 0);
        shifted
    }

    #[test]
    fn an_enlarged_digit_on_paper_comes_back_nearly_as_it_was() {
        let folder = Folder::new();
        for digit in some_digits() {
            // What a place one pixel beside the right one costs.
            let one_beside = mean_difference(&shifted(&digit), &digit);
            for (name, enlarged, bound) in [("8.png", 8, 4.0), ("3.png", 3, 4.0), ("8.jpg", 8, 7.0)]
            {
                let picture = folder.read(name, on_white_sheet(&digit, enlarged));
                let difference = mean_difference(&picture.pixels, &digit);
                assert!(difference < bound, "{name}: {difference} of 255");
                assert!(difference < one_beside, "{name}: {difference} of 255");
            }
        }
    }

    #[test]
    fn light_ink_on_dark_and_dark_ink_on_light_give_the_same_input() {
        let folder = Folder::new();
        let light_on_dark = inverted(on_white_sheet(&digit(), 8));
        let dark_on_light = folder.read("a.png", on_white_sheet(&digit(), 8));
        let light_on_dark = folder.read("b.png", light_on_dark);
        assert_eq!(dark_on_light.pixels, light_on_dark.pixels);
        assert_eq!(
            dark_on_light.treatment[0],
            "inverted, since its ink is darker than its background"
        );
        assert_eq!(dark_on_light.treatment[1..], light_on_dark.treatment);
    }

    #[test]
    fn a_picture_of_the_inputs_size_is_taken_as_it_is() {
        let folder = Folder::new();
        for (i, digit) in some_digits().enumerate() {
            let picture = folder.read("digit.png", digit.clone());
            assert_eq!(&picture.pixels, digit.as_raw(), "digit {i}");
            assert_eq!(picture.treatment, ["taken as it is, 28x28 pixels"]);
            let picture = folder.read("inverted.png", inverted(digit.clone()));
            assert_eq!(&picture.pixels, digit.as_raw(), "digit {i}");
        }
    }

    #[test]
    fn a_small_picture_is_enlarged_to_the_inks_side() {
        let folder = Folder::new();
        let mut bar = GrayImage::new(9, 12);
        for y in 2..7 {
            bar.put_pixel(1, y, [200].into());
        }
        let picture = folder.read("bar.png", bar);
        let ink = InkBox::of(&picture.pixels, 28).unwrap();
        assert_eq!((ink.left, ink.width), (13, 4));
        assert_eq!((ink.top, ink.height), (5, 20));
        assert_eq!(picture.pixels[14 * 28 + 13], 200);
        assert_eq!(
            picture.treatment,
            [
                "cropped to the ink, 1x5 of 9x12 pixels",
                "scaled to 4x20 and centred by mass in 28x28"
            ]
        );
    }

    #[test]
    fn a_thin_pen_on_a_large_sheet_keeps_its_brightness() {
        let folder = Folder::new();
        let mut sheet = GrayImage::from_pixel(1500, 1500, [255].into());
        for i in 100..1400 {
            sheet.put_pixel(i, i, [55].into());
        }
        let picture = folder.read("a.png", sheet);
        assert_eq!(picture.pixels.iter().max(), Some(&200));
        let ink = InkBox::of(&picture.pixels, 28).unwrap();
        assert_eq!((ink.width, ink.height), (20, 20));
        assert!(
            picture
                .treatment
                .iter()
                .any(|part| part.starts_with("brightened"))
        );
    }

    #[test]
    fn ink_that_would_leave_the_frame_is_kept_inside() {
        let folder = Folder::new();
        let frame = ImageShape {
            channels: 1,
            height: 10,
            width: 20,
        };
        // The mass lies at one end; centred on it, the other end would be cut.
        let mut nail = GrayImage::new(60, 60);
        for x in 5..55 {
            nail.put_pixel(x, 30, [255].into());
        }
        for y in 20..40 {
            nail.put_pixel(54, y, [255].into());
            nail.put_pixel(53, y, [255].into());
        }
        let [head_left, head_right] = [imageops::flip_horizontal(&nail), nail].map(|nail| {
            let path = folder.save("nail.png", nail);
            let picture = read_picture(&path, frame, Framing::Ink(200)).unwrap();
            let ink = InkBox::of(&picture.pixels, 20).unwrap();
            assert_eq!((ink.left, ink.width, ink.height), (0, 20, 8));
            GrayImage::from_raw(20, 10, picture.pixels).unwrap()
        });
        assert_eq!(imageops::flip_horizontal(&head_left), head_right);
    }

    #[test]
    fn ink_on_transparent_ground_is_ink_on_white() {
        let folder = Folder::new();
        let sheet = on_white_sheet(&digit(), 8);
        let transparent = RgbaImage::from_fn(sheet.width(), sheet.height(), |x, y| {
            Rgba([0, 0, 0, 255 - sheet.get_pixel(x, y)[0]])
        });
        let picture = folder.read("a.png", transparent);
        let opaque = folder.read("b.png", sheet);
        assert_eq!(picture.pixels, opaque.pixels);
        assert_eq!(picture.treatment[0], "transparent parts laid on white");
    }

    #[test]
    fn grey_paper_becomes_black_ground() {
        let folder = Folder::new();
        let mut sheet = on_white_sheet(&digit(), 8);
        for pixel in sheet.pixels_mut() {
            pixel[0] = 20 + (u32::from(pixel[0]) * 180 / 255) as u8;
        }
        let picture = folder.read("a.png", sheet);
        assert!(mean_difference(&picture.pixels, &digit()) < 12.0);
        assert_eq!(picture.pixels[0], 0);
        assert_eq!(
            picture.treatment[1],
            "background of grey level 55 taken to 0"
        );
    }

    #[test]
    fn ink_lighter_than_light_paper_is_not_inverted() {
        let folder = Folder::new();
        let mut chalk = inverted(on_white_sheet(&digit(), 8));
        for pixel in chalk.pixels_mut() {
            pixel[0] = 150 + (u32::from(pixel[0]) * 105 / 255) as u8;
        }
        let picture = folder.read("a.png", chalk);
        assert!(mean_difference(&picture.pixels, &digit()) < 4.0);
    }

    #[test]
    fn colours_turn_to_luminance_or_stay_three_planes() {
        let folder = Folder::new();
        let mut red = image::RgbImage::new(28, 28);
        red.put_pixel(3, 2, [255, 0, 0].into());
        let path = folder.save("red.png", red);
        let at = 2 * 28 + 3;

        let grey = read_picture(&path, ImageShape::MNIST, Framing::Ink(20)).unwrap();
        // Rec. 709 gives red 0.2126.
        assert_eq!(grey.pixels[at], 54);
        assert_eq!(grey.treatment[0], "colours turned to grey by luminance");

        let shape = ImageShape {
            channels: 3,
            ..ImageShape::MNIST
        };
        let colour = read_picture(&path, shape, Framing::Ink(20)).unwrap();
        assert_eq!(colour.pixels.len(), shape.values());
        let lit: Vec<usize> = (0..shape.values())
            .filter(|&i| colour.pixels[i] > 0)
            .collect();
        assert_eq!(lit, [at]);

        let three = folder.save("three.png", DynamicImage::from(on_white_sheet(&digit(), 8)));
        let one = read_picture(&three, ImageShape::MNIST, Framing::Ink(20))
            .unwrap()
            .pixels;
        let three = read_picture(&three, shape, Framing::Ink(20))
            .unwrap()
            .pixels;
        assert_eq!(three, one.repeat(3));
    }

    #[test]
    fn a_blank_picture_is_refused_whatever_its_size_and_shade() {
        let folder = Folder::new();
        for (side, shade) in [(28, 0), (28, 255), (200, 255), (1, 128)] {
            let blank = GrayImage::from_pixel(side, side, [shade].into());
            let error = fault(&folder.save("blank.png", blank));
            assert!(matches!(error, DataError::BlankPicture { .. }));
        }
        let mut faint = GrayImage::from_pixel(200, 200, [250].into());
        faint.put_pixel(100, 100, [235].into());
        let error = fault(&folder.save("faint.jpg", faint));
        assert!(matches!(error, DataError::BlankPicture { .. }));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let folder = Folder::new();
        let text = folder.path("text.png");
        fs::write(&text, "no picture").unwrap();
        assert!(matches!(fault(&text), DataError::Picture { .. }));
        fs::write(&text, "").unwrap();
        assert!(matches!(fault(&text), DataError::Picture { .. }));
        fs::write(&text, "GIF89a").unwrap();
        assert!(matches!(fault(&text), DataError::Picture { .. }));

        let missing = folder.path("missing.png");
        assert!(matches!(fault(&missing), DataError::Read { .. }));
        assert!(matches!(fault(folder.0.path()), DataError::NotAFile { .. }));
    }

    #[test]
    fn a_truncated_picture_is_refused_wherever_it_ends() {
        let folder = Folder::new();
        let png = fs::read(folder.save("a.png", on_white_sheet(&digit(), 8))).unwrap();
        let jpeg = fs::read(folder.save("a.jpg", on_white_sheet(&digit(), 8))).unwrap();
        let cut = folder.path("cut");
        for part in 1..20 {
            for bytes in [&png, &jpeg] {
                fs::write(&cut, &bytes[..bytes.len() * part / 20]).unwrap();
                assert!(matches!(
                    fault(&cut),
                    DataError::Picture { .. } | DataError::TruncatedPicture { .. }
                ));
            }
        }
        fs::write(&cut, &jpeg[..jpeg.len() - 1]).unwrap();
        assert!(matches!(fault(&cut), DataError::TruncatedPicture { .. }));
    }

    #[test]
    fn a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked() {
        let folder = Folder::new();
        let path = folder.path("huge.png");
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&[0], 1, 1, image::ExtendedColorType::L8)
            .unwrap();
        // Width and height in the header chunk, then its checksum over type and content.
        bytes[16..20].copy_from_slice(&8001u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&8000u32.to_be_bytes());
        let mut checksum = flate2::Crc::new();
        checksum.update(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
        fs::write(&path, bytes).unwrap();
        assert!(matches!(
            fault(&path),
            DataError::PictureTooLarge {
                found: 65,
                most: 64,
                ..
            }
        ));
    }

    #[test]
    fn mnist_ink_takes_twenty_pixels_and_full_images_their_side() {
        assert_eq!(ink_side(&DIGITS), 20);
        let full = |pixel| {
            let classes = vec!["only".to_string()];
            LabelledImages::new(ImageShape::MNIST, vec![pixel; 784], vec![0], classes).unwrap()
        };
        assert_eq!(ink_side(&full(9)), 28);
        assert_eq!(ink_side(&full(0)), 28);
    }
}
