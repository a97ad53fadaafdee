//! Colours that hold in light and dark. plotters writes an ink's light value into the SVG; the
//! page's stylesheet replaces it, by that very value, where the reader's screen is dark.

use plotters::style::RGBColor;

/// One colour, as it is on a light and on a dark page.
#[derive(Clone, Copy)]
pub struct Ink {
    light: u32,
    dark: u32,
}

const fn ink(light: u32, dark: u32) -> Ink {
    Ink { light, dark }
}

/// Text, axes and marks.
pub const TEXT: Ink = ink(0x1D2129, 0xE8EAED);
/// Axis labels.
pub const FAINT: Ink = ink(0x59606B, 0xA3ABB7);
/// Grid lines.
pub const GRID: Ink = ink(0xE3E6EA, 0x333A45);
/// What belongs together: training, similar pairs. With [`VERMILION`] from the colour-blind safe
/// set of Okabe and Ito (2008), each with its lighter neighbour for dark pages.
pub const BLUE: Ink = ink(0x0072B2, 0x56B4E9);
/// What stands against it: test, dissimilar pairs.
pub const VERMILION: Ink = ink(0xD55E00, 0xF0A030);

/// Class colours: Petroff's ten ("Accessible color sequences for data visualization", 2021), each
/// moved by at most 0.09 in OKLab so that any two stay 0.10 apart for normal, protan, deutan and
/// tritan sight (Machado 2009), where his own come as close as 0.06, and so that the contrast with
/// the page is at least 2.1 in light and 3 in dark.
pub const CLASSES: [Ink; 10] = [
    ink(0x0C80FA, 0x44A9FF),
    ink(0xFF8E00, 0xF7B80A),
    ink(0x97120B, 0xD1280D),
    ink(0xA186A0, 0x949584),
    ink(0x6524C3, 0x8249E1),
    ink(0xBB495E, 0x94586A),
    ink(0xEE5629, 0xF37600),
    ink(0xD49E87, 0xC0BAA5),
    ink(0x5F6AAB, 0x5885B9),
    ink(0x7DBBD3, 0x24DBFF),
];

impl Ink {
    /// As plotters takes it.
    pub fn rgb(self) -> RGBColor {
        let [_, r, g, b] = self.light.to_be_bytes();
        RGBColor(r, g, b)
    }

    /// As an SVG attribute; written as plotters writes it, or the stylesheet would not match.
    pub fn attribute(self) -> String {
        format!("#{:06X}", self.light)
    }
}

/// The rules that turn every ink in an SVG to its dark value.
pub fn dark_rules() -> String {
    [TEXT, FAINT, GRID, BLUE, VERMILION]
        .into_iter()
        .chain(CLASSES)
        .map(|ink| {
            let (light, dark) = (ink.attribute(), ink.dark);
            format!(
                "svg [fill=\"{light}\"]{{fill:#{dark:06X}}}svg [stroke=\"{light}\"]{{stroke:#{dark:06X}}}"
            )
        })
        .collect()
}
