//! What a picture goes through before it enters the encoder.

use std::path::{Path, PathBuf};

use data::{Filter, Framing, ImageShape, Resize};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{PretrainedError, Result};

/// Files beside a trunk that may say its preprocessing, in the order in which they are looked for.
const FILES: [&str; 2] = ["preprocessor_config.json", "config.json"];

/// What a byte is multiplied by where nothing else is said, as in every common library.
const SCALE: f64 = 1.0 / 255.0;

/// The most pixels a side.
const MOST_SIDE: usize = 4096;

/// In which order an encoder takes colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColourOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as OpenCV has them.
    Bgr,
}

/// What a picture goes through before it enters the encoder: scaled, the middle cut out, then for each colour
/// (byte · scale − mean) / std.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Height and width of the encoder's input, cut from the middle of the scaled picture.
    pub size: [usize; 2],
    /// How the picture is scaled first.
    pub resize: Resize,
    /// By which filter.
    pub interpolation: Filter,
    /// Multiplies the byte, 0 to 255.
    pub scale: f64,
    /// Is subtracted after scaling, for each colour in the encoder's order.
    pub mean: [f64; 3],
    /// Divides last, likewise.
    pub std: [f64; 3],
    /// In which order the encoder takes the colours.
    pub colours: ColourOrder,
}

/// A preprocessing of which not all is known yet.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of `Preprocessing`")]
pub struct Known {
    pub size: Option<[usize; 2]>,
    pub resize: Option<Resize>,
    pub interpolation: Option<Filter>,
    pub scale: Option<f64>,
    pub mean: Option<[f64; 3]>,
    pub std: Option<[f64; 3]>,
    pub colours: Option<ColourOrder>,
}

impl Preprocessing {
    /// Shape of the encoder's input, (3, H, W).
    ///
    /// # Errors
    /// [`PretrainedError::Preprocessing`] for a size out of range.
    pub fn shape(&self) -> Result<ImageShape> {
        let [height, width] = self.size;
        let shape = ImageShape::try_from([3, height, width]);
        shape.map_err(|error| PretrainedError::preprocessing("size", error.to_string()))
    }

    /// How pictures are framed to that shape.
    pub fn framing(&self) -> Framing {
        Framing::CentreCrop {
            resize: self.resize,
            filter: self.interpolation,
        }
    }

    /// The encoder's input (1, 3, H, W) of a framed picture's pixels (3, H, W).
    pub fn input(&self, pixels: &[u8]) -> Vec<f32> {
        let plane = self.size[0] * self.size[1];
        let mut input = Vec::with_capacity(pixels.len());
        for place in 0..3 {
            let from = match self.colours {
                ColourOrder::Rgb => place,
                ColourOrder::Bgr => 2 - place,
            };
            let (mean, std) = (self.mean[place], self.std[place]);
            let normal = |&byte: &u8| ((f64::from(byte) * self.scale - mean) / std) as f32;
            input.extend(pixels[from * plane..(from + 1) * plane].iter().map(normal));
        }
        input
    }

    /// Whether every number makes sense; `place` says whose they are.
    pub(crate) fn check(self, place: &str) -> Result<Self> {
        let wrong = |problem: String| Err(PretrainedError::preprocessing(place, problem));
        let sides = 1..=MOST_SIDE;
        let [height, width] = self.size;
        if !sides.contains(&height) || !sides.contains(&width) {
            return wrong(format!(
                "the size is {height}x{width}: both sides have to be from 1 to {MOST_SIDE}"
            ));
        }
        let (least, most) = match self.resize {
            Resize::Shorter(side) => (side >= height.max(width), side),
            Resize::Exact([h, w]) => (h >= height && w >= width, h.max(w)),
        };
        if !least || most > MOST_SIDE {
            return wrong(format!(
                "pictures are scaled to {}, which has to be at least the size, {height}x{width}, and \
                 at most {MOST_SIDE}",
                self.resize
            ));
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !(positive(self.scale) && self.std.into_iter().all(positive)) {
            return wrong(format!(
                "scale is {} and std {:?}: they have to be above 0",
                self.scale, self.std
            ));
        }
        if !self.mean.into_iter().all(f64::is_finite) {
            return wrong(format!("mean is {:?}: it has to be finite", self.mean));
        }
        Ok(self)
    }
}

impl Known {
    /// What a file beside `trunk` says, if there is one, and which it is: `preprocessor_config.json` as
    /// Hugging Face's libraries have it, or `config.json` as timm has it.
    ///
    /// # Errors
    /// [`PretrainedError::File`] and [`PretrainedError::Preprocessing`] for a file that cannot be read, or
    /// says what cannot be done.
    pub fn beside(trunk: &Path) -> Result<Option<(Self, PathBuf)>> {
        let files = FILES.map(|name| trunk.with_file_name(name));
        let Some(path) = files.into_iter().find(|path| path.is_file()) else {
            return Ok(None);
        };
        let text = std::fs::read(&path).map_err(PretrainedError::file("read", &path))?;
        let place = path.display().to_string();
        let wrong = |problem: String| PretrainedError::preprocessing(&place, problem);
        let json: Value = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("is not JSON: {error}")))?;
        let known = match json.get("pretrained_cfg") {
            Some(timm) => of_timm(timm),
            None if json.get("input_size").is_some() => of_timm(&json),
            None if path.ends_with(FILES[0]) => of_hugging_face(&json),
            None => Err("has no `pretrained_cfg`, which a configuration of timm has".into()),
        };
        Ok(Some((known.map_err(wrong)?, path)))
    }

    /// The same, with what is not known taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            size: self.size.or(other.size),
            resize: self.resize.or(other.resize),
            interpolation: self.interpolation.or(other.interpolation),
            scale: self.scale.or(other.scale),
            mean: self.mean.or(other.mean),
            std: self.std.or(other.std),
            colours: self.colours.or(other.colours),
        }
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.clone().complete("").is_ok()
    }

    /// The whole, where enough is known: nothing is guessed but that bytes are divided by 255, that colours
    /// are in the order RGB, and that without a crop pictures are scaled to the size itself. `place` says
    /// where it is from.
    ///
    /// # Errors
    /// [`PretrainedError::Preprocessing`], which names all that is missing.
    pub fn complete(self, place: &str) -> Result<Preprocessing> {
        let missing = [
            ("size", self.size.is_none()),
            ("resize", self.resize.is_none()),
            ("interpolation", self.interpolation.is_none()),
            ("mean", self.mean.is_none()),
            ("std", self.std.is_none()),
        ];
        let missing = missing.into_iter().filter(|(_, missing)| *missing);
        let missing: Vec<_> = missing.map(|(name, _)| name).collect();
        let (Some(size), Some(resize), Some(interpolation), Some(mean), Some(std)) = (
            self.size,
            self.resize,
            self.interpolation,
            self.mean,
            self.std,
        ) else {
            return Err(PretrainedError::preprocessing(
                place,
                format!(
                    "how pictures are prepared is not known: {} missing; put the encoder's {} or timm's \
                     {} beside it, or give pretrained.{}",
                    missing.join(", "),
                    FILES[0],
                    FILES[1],
                    missing.join(", pretrained.")
                ),
            ));
        };
        Preprocessing {
            size,
            resize,
            interpolation,
            scale: self.scale.unwrap_or(SCALE),
            mean,
            std,
            colours: self.colours.unwrap_or_default(),
        }
        .check(place)
    }
}

/// A fault of a configuration file.
type Found<T> = std::result::Result<T, String>;

/// The value at `key`, as a `T`.
fn at<T: serde::de::DeserializeOwned>(json: &Value, key: &str) -> Found<Option<T>> {
    match json.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|error| format!("`{key}` is {value}: {error}")),
    }
}

fn wanted<T: serde::de::DeserializeOwned>(json: &Value, key: &str) -> Found<T> {
    at(json, key)?.ok_or_else(|| format!("has no `{key}`"))
}

/// A configuration of timm: a picture's shorter side is scaled to the input's side divided by `crop_pct`.
fn of_timm(json: &Value) -> Found<Known> {
    let [channels, height, width]: [usize; 3] = wanted(json, "input_size")?;
    let crop: f64 = wanted(json, "crop_pct")?;
    let mode: Option<String> = at(json, "crop_mode")?;
    if channels != 3 || !(crop > 0.0 && crop <= 1.0) {
        return Err(format!(
            "`input_size` has {channels} channels and `crop_pct` is {crop}: it takes 3, and a share up to 1"
        ));
    }
    let scaled = |side: usize| (side as f64 / crop).floor() as usize;
    let resize = match mode.as_deref().unwrap_or("center") {
        "center" if height == width => Resize::Shorter(scaled(height)),
        "squash" => Resize::Exact([scaled(height), scaled(width)]),
        mode => {
            return Err(format!(
                "`crop_mode` {mode} for an input of {height}x{width} is not supported: say with \
                 pretrained.resize how pictures are scaled, and leave the file away"
            ));
        }
    };
    Ok(Known {
        size: Some([height, width]),
        resize: Some(resize),
        interpolation: Some(wanted(json, "interpolation")?),
        scale: None,
        mean: Some(wanted(json, "mean")?),
        std: Some(wanted(json, "std")?),
        colours: None,
    })
}

/// A `preprocessor_config.json` of an image processor of Hugging Face's transformers.
fn of_hugging_face(json: &Value) -> Found<Known> {
    let is = |key: &str| Ok::<_, String>(at::<bool>(json, key)?.unwrap_or(true));
    if !is("do_resize")? || at(json, "rescale_offset")?.unwrap_or(false) {
        return Err("`do_resize: false` and `rescale_offset: true` are not supported".into());
    }
    let size = json.get("size").ok_or("has no `size`")?;
    let crops = at(json, "do_center_crop")?.unwrap_or(json.get("crop_size").is_some());
    let (size, resize) = match (side_of(size)?, crops, at::<f64>(json, "crop_pct")?) {
        // A share of the picture is cut out of small ones, as ConvNeXt has it; larger ones are kept whole.
        (Side::Shorter(side), false, Some(crop)) if side < 384 && crop > 0.0 => {
            let scaled = (side as f64 / crop) as usize;
            ([side; 2], Resize::Shorter(scaled))
        }
        (Side::Shorter(side), false, Some(_)) => ([side; 2], Resize::Exact([side; 2])),
        (Side::Shorter(side), true, _) => (crop_of(json)?, Resize::Shorter(side)),
        (Side::Both(sides), true, _) => (crop_of(json)?, Resize::Exact(sides)),
        (Side::Both(sides), false, _) => (sides, Resize::Exact(sides)),
        (Side::One(side), true, _) => (crop_of(json)?, Resize::Shorter(side)),
        (Side::One(side), false, _) => ([side; 2], Resize::Exact([side; 2])),
        (Side::Shorter(side), false, None) => {
            return Err(format!(
                "`size` scales the shorter side to {side} and nothing is cropped, so pictures would have \
                 different sizes"
            ));
        }
    };
    let (mean, std) = match is("do_normalize")? {
        true => (wanted(json, "image_mean")?, wanted(json, "image_std")?),
        false => ([0.0; 3], [1.0; 3]),
    };
    Ok(Known {
        size: Some(size),
        resize: Some(resize),
        interpolation: Some(filter_of(wanted(json, "resample")?)?),
        scale: match is("do_rescale")? {
            true => at(json, "rescale_factor")?,
            false => Some(1.0),
        },
        mean: Some(mean),
        std: Some(std),
        colours: match at(json, "do_flip_channel_order")?.unwrap_or(false) {
            true => Some(ColourOrder::Bgr),
            false => None,
        },
    })
}

/// How Hugging Face writes a size.
enum Side {
    Shorter(usize),
    Both([usize; 2]),
    /// A single number, which older files have: the shorter side where the middle is cut out, else both.
    One(usize),
}

fn side_of(size: &Value) -> Found<Side> {
    if let Some(side) = size.as_u64() {
        return Ok(Side::One(side as usize));
    }
    let both = (at(size, "height")?, at(size, "width")?);
    match (at(size, "shortest_edge")?, both) {
        (Some(side), _) => Ok(Side::Shorter(side)),
        (None, (Some(height), Some(width))) => Ok(Side::Both([height, width])),
        _ => Err(format!(
            "`size` is {size}: it takes a height and a width, or a shortest_edge"
        )),
    }
}

fn crop_of(json: &Value) -> Found<[usize; 2]> {
    let size = json.get("crop_size").ok_or("has no `crop_size`")?;
    match side_of(size)? {
        Side::One(side) => Ok([side; 2]),
        Side::Both(sides) => Ok(sides),
        Side::Shorter(_) => Err(format!(
            "`crop_size` is {size}: it takes a height and a width"
        )),
    }
}

/// Pillow's numbers.
fn filter_of(resample: u8) -> Found<Filter> {
    match resample {
        0 => Ok(Filter::Nearest),
        1 => Ok(Filter::Lanczos),
        2 => Ok(Filter::Bilinear),
        3 => Ok(Filter::Bicubic),
        other => Err(format!(
            "`resample` is {other}: 0 (nearest), 1 (Lanczos), 2 (bilinear) and 3 (bicubic) are supported"
        )),
    }
}
