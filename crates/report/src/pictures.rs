//! Test images on the page, as data in it.

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use data::LabelledImages;
use maud::{Markup, html};

use crate::contact_sheet::ContactSheet;

/// The longest side of an image that is shown by itself, in its own pixels.
const SIDE: u32 = 64;

/// A file as a link that needs no network.
pub fn data_link(media_type: &str, contents: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(contents))
}

/// One image, said as its class.
pub fn picture(images: &LabelledImages, index: usize) -> Result<Markup> {
    let sheet = ContactSheet::new(images, &[index], SIDE)?;
    Ok(html! {
        img src=(data_link("image/png", &sheet.png)) width=(sheet.tile.0) height=(sheet.tile.1)
            alt=(class_of(images, index));
    })
}

/// The classes that there are images of; of a data set with classes held out, not all.
pub fn present(images: &LabelledImages) -> Vec<usize> {
    let counts = images.class_counts();
    (0..counts.len())
        .filter(|&class| counts[class] > 0)
        .collect()
}

/// The name of an image's class.
pub fn class_of(images: &LabelledImages, index: usize) -> &str {
    &images.classes()[images.labels()[index] as usize]
}
