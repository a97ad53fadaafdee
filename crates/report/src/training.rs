//! What the network sees in training.

use anyhow::Result;
use data::LabelledImages;
use maud::{Markup, html};

use crate::contact_sheet::ContactSheet;
use crate::pictures::data_link;

/// The longest side of an image, in its own pixels.
const SIDE: u32 = 64;
/// Values on the sheet at most, a byte each before they are compressed: three rows of five coloured images
/// of that side.
const MOST_VALUES: usize = 200_000;
/// The sheet's width on the page, in CSS pixels, as far as a whole number enlarges it to that.
const WIDTH: u32 = 480;

/// Training images in rows: each as it is evaluated, then as steps see it.
pub struct TrainingImages {
    /// The images, row by row.
    pub cells: LabelledImages,
    /// How many to a row, at least 2.
    pub columns: usize,
}

/// The section of the page, which says it where there are no images.
pub fn section(training: &Result<TrainingImages, String>) -> Result<Markup> {
    let content = match training {
        Ok(images) => sheet(images)?,
        Err(reason) => html! { p.faint { (reason) } },
    };
    Ok(html! {
        section #training {
            h2 { "What the network sees" }
            (content)
        }
    })
}

fn sheet(images: &TrainingImages) -> Result<Markup> {
    let sheet = ContactSheet::first_rows(&images.cells, images.columns, SIDE, MOST_VALUES)?;
    let factor = (WIDTH / sheet.size.0).max(1);
    let own = images.cells.shape().size();
    let smaller = match (own.0 as u32, own.1 as u32) == sheet.tile {
        true => String::new(),
        false => format!(" Shown smaller than they are, {own} pixels."),
    };
    Ok(html! {
        figure {
            img.sheet src=(data_link("image/png", &sheet.png))
                width=(factor * sheet.size.0) height=(factor * sheet.size.1)
                alt="Rows of training images: the first of each row plain, the others transformed at random.";
            figcaption {
                "Training images, a row each: first as they come in, then as training steps see them, with \
                 the random transforms of the settings: these are too strong where you cannot tell what a \
                 copy shows."
                (smaller)
            }
        }
    })
}
