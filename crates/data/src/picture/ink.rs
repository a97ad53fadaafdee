//! A drawing, framed as MNIST's makers framed theirs.

use std::array;
use std::borrow::Cow;
use std::path::Path;

use super::raster::{Raster, background};
use super::resample::Scaling;
use super::{Filter, Size, Treatment};
use crate::{DataError, ImageShape, LabelledImages, PictureProblem};

/// Ink has to stand out by 1/16 of the range, more than paper's grain or JPEG's noise.
const LEAST_CONTRAST: u8 = 16;

/// 65535 / 255.
const LEVELS_16_TO_8: f64 = 257.0;

/// Frames the ink of a picture; errors call it `path`.
pub(super) fn frame_ink(
    path: &Path,
    picture: Raster,
    shape: ImageShape,
    ink_side: u32,
) -> Result<(Vec<u8>, Vec<Treatment>), DataError> {
    let found = ImageShape {
        channels: picture.channels,
        height: picture.size.1,
        width: picture.size.0,
    };
    let mut pixels = picture.into_planes();
    let mut treatment = Vec::new();
    let grey = brightness(&pixels, found);
    let mut level = background(&grey, found.size(), 1, 0);
    let (darkest, lightest) = grey
        .iter()
        .fold((255, 0), |(low, high), &v| (v.min(low), v.max(high)));
    let (below, above) = (level - darkest, lightest - level);
    if below.max(above) < LEAST_CONTRAST {
        let contrast = LEAST_CONTRAST;
        return Err(DataError::picture(path, PictureProblem::Blank { contrast }));
    }
    if below > above {
        for value in &mut pixels {
            *value = !*value;
        }
        level = !level;
        treatment.push(Treatment::Inverted);
    }

    if found == shape {
        treatment.push(Treatment::TakenAsIs { size: shape.size() });
        return Ok((pixels, treatment));
    }
    if level > 0 {
        subtract(level, &mut pixels);
        treatment.push(Treatment::BackgroundToZero { level });
    }
    let (framed, centred) = centre(&pixels, found, shape, ink_side);
    treatment.extend(centred);
    Ok((framed, treatment))
}

/// One plane (H, W) of `pixels` (C, H, W): the mean over the channels.
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

/// What [`Framing::of_drawings`](super::Framing::of_drawings) says.
pub(super) fn ink_side(images: &LabelledImages) -> u32 {
    let shape = images.shape();
    let mut sides: Vec<usize> = (0..images.len())
        .filter_map(|i| {
            let grey = brightness(images.image(i), shape);
            InkBox::of(&grey, shape.width).map(|ink| ink.width.max(ink.height))
        })
        .collect();
    if sides.is_empty() {
        return shape.height.min(shape.width) as u32;
    }
    let middle = sides.len() / 2;
    *sides.select_nth_unstable(middle).1 as u32
}

/// Takes the background to 0 and leaves white white.
fn subtract(background: u8, pixels: &mut [u8]) {
    let range = u32::from(255 - background);
    let levels: [u8; 256] = array::from_fn(|value| {
        let above = (value as u32).saturating_sub(u32::from(background));
        ((above * 255 + range / 2) / range) as u8
    });
    for value in pixels {
        *value = levels[usize::from(*value)];
    }
}

/// Where the ink is.
pub(super) struct InkBox {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl InkBox {
    /// The box around all pixels of at least a quarter of the brightest one: JPEG's ripples about a
    /// stroke and uneven light on paper stay below that, and a stroke's soft edge loses less than
    /// half a pixel. `None` if all is 0.
    pub fn of(plane: &[u8], width: usize) -> Option<Self> {
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
            left,
            top,
            width: right - left + 1,
            height: bottom - top + 1,
        })
    }

    /// In 16 bits, since a hair on a large sheet shrinks to less than one level of 255.
    fn crop(&self, plane: &[u8], plane_width: usize) -> Vec<u16> {
        plane
            .chunks_exact(plane_width)
            .skip(self.top)
            .take(self.height)
            .flat_map(|row| &row[self.left..self.left + self.width])
            .map(|&value| u16::from(value) * LEVELS_16_TO_8 as u16)
            .collect()
    }
}

/// Scales the ink to `ink_side` and puts its centre of mass in the middle of an image of `shape`.
fn centre(
    pixels: &[u8],
    found: ImageShape,
    shape: ImageShape,
    ink_side: u32,
) -> (Vec<u8>, Vec<Treatment>) {
    let mut framed = vec![0; shape.values()];
    let Some(ink) = InkBox::of(&brightness(pixels, found), found.width) else {
        return (framed, Vec::new());
    };
    // The whole of it has to fit into the frame.
    let scale = (f64::from(ink_side.max(1)) / ink.width.max(ink.height) as f64)
        .min(shape.width as f64 / ink.width as f64)
        .min(shape.height as f64 / ink.height as f64);
    let scaled = |side: usize| (side as f64 * scale).round().max(1.0) as usize;
    let (width, height) = (scaled(ink.width), scaled(ink.height));
    let (from, to) = (Size(ink.width, ink.height), Size(width, height));
    let scaling = Scaling::whole(from, to, Filter::Bicubic);
    let scaled: Vec<u16> = pixels
        .chunks_exact(found.height * found.width)
        .flat_map(|plane| scaling.run(&ink.crop(plane, found.width), 1))
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
        height,
        width,
    };
    let [mass_x, mass_y] = centre_of_mass(&brightness(&scaled, small), small.width);
    let left = offset(mass_x, small.width, shape.width);
    let top = offset(mass_y, small.height, shape.height);
    for (row, values) in scaled.chunks_exact(small.width).enumerate() {
        let (channel, y) = (row / small.height, row % small.height);
        let start = (channel * shape.height + top + y) * shape.width + left;
        framed[start..start + small.width].copy_from_slice(values);
    }
    let mut treatment = vec![
        Treatment::CroppedToInk {
            ink: from,
            picture: found.size(),
        },
        Treatment::CentredByMass {
            to,
            frame: shape.size(),
        },
    ];
    // A tenth is what resampling alone may take.
    if gain * LEVELS_16_TO_8 > 1.1 {
        treatment.push(Treatment::Brightened);
    }
    (framed, treatment)
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
