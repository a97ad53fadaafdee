use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageEncoder, Rgba, RgbaImage};
use tempfile::TempDir;

use super::ink::{InkBox, ink_side};
use super::*;
use crate::{PictureProblem, digits};

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

fn problem(path: &Path) -> PictureProblem {
    match fault(path) {
        DataError::Picture { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
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
        for (name, enlarged, bound) in [("8.png", 8, 4.0), ("3.png", 3, 4.0), ("8.jpg", 8, 7.0)] {
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
        dark_on_light.treatment_in_words()[0],
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
        assert_eq!(
            picture.treatment_in_words(),
            ["taken as it is, 28x28 pixels"]
        );
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
        picture.treatment_in_words(),
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
            .treatment_in_words()
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
    assert_eq!(
        picture.treatment_in_words()[0],
        "transparent parts laid on white"
    );
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
        picture.treatment_in_words()[1],
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
    assert_eq!(
        grey.treatment_in_words()[0],
        "colours turned to grey by luminance"
    );

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

/// In colour, and as deep as files have it; 257·v of 65535 is v of 255.
#[test]
fn a_picture_gives_the_same_input_in_whatever_form_it_is_stored() {
    let folder = Folder::new();
    let grey = on_white_sheet(&digit(), 3);
    let rgb = DynamicImage::from(grey.clone()).into_rgb8();
    let tinted = image::RgbImage::from_fn(rgb.width(), rgb.height(), |x, y| {
        [rgb.get_pixel(x, y)[0], (x % 256) as u8, (y % 256) as u8].into()
    });
    let shape = |channels| ImageShape {
        channels,
        height: 40,
        width: 64,
    };
    let framings = [
        Framing::Letterbox,
        Framing::Ink(20),
        Framing::CentreCrop {
            resize: Resize::Shorter(70),
            filter: Filter::Lanczos,
        },
    ];
    for (picture, channels) in [(DynamicImage::from(grey), 3), (tinted.into(), 1)] {
        let mut forms = vec![
            DynamicImage::from(picture.to_rgb8()),
            picture.to_rgb16().into(),
            picture.to_rgba8().into(),
            picture.to_rgba16().into(),
        ];
        if !picture.color().has_color() {
            forms.extend([picture.clone(), picture.to_luma16().into()]);
            forms.extend([
                picture.to_luma_alpha8().into(),
                picture.to_luma_alpha16().into(),
            ]);
        }
        for framing in framings {
            let read = |(i, form): (usize, &DynamicImage)| {
                let path = folder.save(&format!("{i}.png"), form.clone());
                read_picture(&path, shape(channels), framing).unwrap()
            };
            let read: Vec<_> = forms.iter().enumerate().map(read).collect();
            for (i, form) in read.iter().enumerate() {
                assert_eq!(form, &read[0], "{framing:?}, {i}");
            }
        }
    }
}

#[test]
fn a_grey_picture_gives_a_network_of_colours_three_equal_planes() {
    let folder = Folder::new();
    let path = folder.save("grey.png", on_white_sheet(&digit(), 2));
    for framing in [Framing::Letterbox, Framing::Ink(20)] {
        let read = |channels| {
            let shape = ImageShape {
                channels,
                ..ImageShape::MNIST
            };
            read_picture(&path, shape, framing).unwrap().pixels
        };
        assert_eq!(read(3), read(1).repeat(3), "{framing:?}");
    }
}

#[test]
fn half_transparent_colour_is_mixed_with_white() {
    let folder = Folder::new();
    let picture = RgbaImage::from_pixel(3, 2, Rgba([200, 100, 0, 128]));
    let path = folder.save("a.png", picture);
    let shape = ImageShape {
        channels: 3,
        height: 2,
        width: 3,
    };
    let read = read_picture(&path, shape, Framing::Letterbox).unwrap();
    // (200·128 + 255·127) / 255 = 227.4, 177.2 and 127.
    let expected: Vec<u8> = [227, 177, 127].iter().flat_map(|&v| [v; 6]).collect();
    assert_eq!(read.pixels, expected);
}

#[test]
fn a_blank_picture_is_refused_whatever_its_size_and_shade() {
    let folder = Folder::new();
    for (side, shade) in [(28, 0), (28, 255), (200, 255), (1, 128)] {
        let blank = GrayImage::from_pixel(side, side, [shade].into());
        let path = folder.save("blank.png", blank);
        assert!(matches!(problem(&path), PictureProblem::Blank { .. }));
    }
    let mut faint = GrayImage::from_pixel(200, 200, [250].into());
    faint.put_pixel(100, 100, [235].into());
    let path = folder.save("faint.jpg", faint);
    assert!(matches!(problem(&path), PictureProblem::Blank { .. }));
}

#[test]
fn what_is_no_picture_is_refused() {
    let folder = Folder::new();
    let text = folder.path("text.png");
    fs::write(&text, "no picture").unwrap();
    assert_eq!(problem(&text), PictureProblem::Unreadable);
    fs::write(&text, "").unwrap();
    assert_eq!(problem(&text), PictureProblem::Unreadable);
    fs::write(&text, "GIF89a").unwrap();
    assert_eq!(problem(&text), PictureProblem::Unreadable);

    let missing = folder.path("missing.png");
    assert!(matches!(fault(&missing), DataError::Read { .. }));
    let directory = fault(folder.0.path());
    assert!(
        matches!(&directory, DataError::Format { problem, .. } if problem.contains("regular file")),
        "{directory:?}"
    );
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
                problem(&cut),
                PictureProblem::Unreadable | PictureProblem::Truncated
            ));
        }
    }
    fs::write(&cut, &jpeg[..jpeg.len() - 1]).unwrap();
    assert_eq!(problem(&cut), PictureProblem::Truncated);
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
    let expected = PictureProblem::TooLarge {
        megapixels: 65,
        most: 64,
    };
    assert_eq!(problem(&path), expected);
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
