//! Where the network puts the test images.

use anyhow::Result;
use maud::{PreEscaped, html};
use plotters::element::Text;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, TextStyle};
use serde_json::json;

use super::chart::{self, ASPECT, Axis, Figure, Key, Mark, Marker, PX};
use crate::contact_sheet::{ContactSheet, columns, tile};
use crate::downsample::even_over_classes;
use crate::ink::{CLASSES, Ink, TEXT};
use crate::pca::Plane;
use crate::pictures::{class_of, data_link, present};
use crate::table::Table;
use crate::{Report, count, percent};

/// Points drawn at most: about 90 bytes of page each, and more would only hide one another.
const BUDGET: usize = 3000;
/// Values of pictures on the page at most, a byte each before they are compressed.
const PICTURE_BUDGET: usize = 2_400_000;
/// The longest side of a picture that a point shows.
const PICTURE_SIDE: u32 = 28;
const MARKERS: [Marker; 3] = [Marker::Circle, Marker::Triangle, Marker::Square];
/// A class name in the map; the key has it in full.
const LABEL_CHARS: usize = 12;
/// With more classes than this, large names would cover the points.
const FEW_CLASSES: usize = 12;

/// The map, with all classes as keys.
pub fn figure(report: &Report) -> Result<Figure> {
    let (images, classes) = (report.images, report.images.classes());
    let (width, height) = tile(images.shape(), PICTURE_SIDE);
    let picture = images.shape().channels * (width * height) as usize;
    let budget = BUDGET.min(PICTURE_BUDGET / picture);
    let drawn = even_over_classes(images.labels(), classes.len(), budget);
    let rows: Vec<&[f32]> = drawn.iter().map(|&i| report.embeddings.row(i)).collect();
    let labels: Vec<usize> = drawn.iter().map(|&i| images.labels()[i] as usize).collect();
    let present = present(images);
    let dim = report.embeddings.dimension();
    let strip = dim == 1;

    let mut note = String::new();
    let places: Vec<(f64, f64)> = match dim {
        1 => rows
            .iter()
            .zip(&labels)
            .enumerate()
            .map(|(i, (row, label))| (f64::from(row[0]), -(*label as f64) + jitter(i)))
            .collect(),
        2 => rows
            .iter()
            .map(|row| (f64::from(row[0]), f64::from(row[1])))
            .collect(),
        _ => {
            let plane = Plane::of(&rows, dim);
            note = format!(
                " The embedding has {dim} dimensions; the map shows the two directions in which the \
                 points spread the most (principal components), which keep {} of the variance, so \
                 classes that overlap here may still be apart.",
                percent(plane.kept())
            );
            rows.iter().map(|row| plane.place(row)).collect()
        }
    };
    if strip {
        note =
            " The embedding has one dimension: only the place along the horizontal axis counts, \
                and each class has a row of its own."
                .to_owned();
    }
    if drawn.len() < images.len() {
        note += &format!(
            " Drawn are {} of {} images, taken evenly over the classes.",
            count(drawn.len()),
            count(images.len())
        );
    }

    let (x, y) = axes(&places, dim);
    let description = format!(
        "Scatter chart of {} test images by their embedding, one colour and label for each of {} classes.",
        count(drawn.len()),
        present.len()
    );
    let mut spots = Vec::new();
    let svg = chart::draw(&description, x, y, |canvas| {
        spots.extend(places.iter().map(|place| canvas.backend_coord(place)));
        for (&place, &class) in places.iter().zip(&labels) {
            let (marker, ink) = look(class);
            chart::mark(canvas, marker, place, 2.5, ink.rgb().mix(0.6))?;
        }
        let size = if present.len() <= FEW_CLASSES {
            15.0
        } else {
            12.0
        };
        let mut names: Vec<(String, (f64, f64))> = centres(&places, &labels, classes.len())
            .into_iter()
            .map(|(class, centre)| (short(&classes[class]), centre))
            .collect();
        if !strip {
            let (width, height) = canvas.plotting_area().dim_in_pixel();
            let (x, y) = (canvas.x_range(), canvas.y_range());
            let em = size * f64::from(PX);
            // A bold sans-serif letter is about 0.65 em wide.
            let letter = 0.65 * em * (x.end - x.start) / f64::from(width);
            let line = em * (y.end - y.start) / f64::from(height);
            lift_apart(&mut names, letter, line);
        }
        let style = chart::text(size, TEXT).pos(Pos::new(HPos::Center, VPos::Center));
        let style = TextStyle {
            font: style.font.style(FontStyle::Bold),
            ..style
        };
        canvas.draw_series(
            names
                .into_iter()
                .map(|(name, place)| Text::new(name, place, style.clone())),
        )?;
        Ok(())
    })?;

    let sheet = ContactSheet::new(images, &drawn, PICTURE_SIDE)?;
    let points: Vec<_> = spots
        .iter()
        .zip(labels.iter().zip(&drawn))
        .map(|(&(x, y), (&class, &image))| (x, y, class, image))
        .collect();
    let data = json!({
        "points": points,
        "classes": classes,
        "tile": [sheet.tile.0, sheet.tile.1],
        "columns": columns(drawn.len()),
        "width": chart::WIDTH,
    });
    // Only `<` could end the element.
    let data = data.to_string().replace('<', "\\u003c");
    let map = html! {
        div.map #map tabindex="0" role="group" aria-label="Map of the embedding, image by image"
            aria-describedby="map-keys" {
            (PreEscaped(svg))
            div.tip #tip role="status" {
                div.thumb style=(format!("background-image:url({})", data_link("image/png", &sheet.png))) {}
                p {}
            }
        }
        script #points type="application/json" { (PreEscaped(data)) }
        p.csv #map-keys hidden {
            "Point at the map or touch it to see an image. With the keyboard, arrows go to the next \
             image that way, Page Up and Page Down go through all, Escape closes."
        }
    };
    Ok(Figure {
        heading: "Map of the embedding",
        charts: vec![html! { div { (map) } }.into_string()],
        keys: present
            .into_iter()
            .map(|class| {
                let (marker, ink) = look(class);
                Key {
                    mark: Mark::Point(marker, ink),
                    text: classes[class].clone(),
                }
            })
            .collect(),
        caption: format!(
            "Each point is a test image at the place the network gives it, named near the centre \
             of its class. Good training shows as tight islands, one for each class, with space \
             between them; points in a foreign island are images that the network gets wrong.{note}"
        ),
        table: Table::new(
            "map",
            ["image", "class", "x", "y"],
            drawn.iter().zip(&places).map(|(&image, place)| {
                [
                    image.to_string(),
                    class_of(images, image).to_owned(),
                    place.0.to_string(),
                    place.1.to_string(),
                ]
            }),
        )?,
    })
}

fn look(class: usize) -> (Marker, Ink) {
    let round = class / CLASSES.len();
    (
        MARKERS[round % MARKERS.len()],
        CLASSES[class % CLASSES.len()],
    )
}

/// Even spread in ±0.3 (multiples of the golden ratio), the same on every run.
fn jitter(i: usize) -> f64 {
    ((i as f64 * 0.618_033_988_749_895).fract() - 0.5) * 0.6
}

/// Axes around the points; with two coordinates a unit is as long on one as on the other, since it
/// is distance that the network is trained on.
fn axes(places: &[(f64, f64)], dim: usize) -> (Axis, Axis) {
    let span = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
        if low > high {
            return (0.0, 1.0);
        }
        let middle = (low + high) / 2.0;
        // Points that all but coincide stay a dot: an axis as narrow as they has endless labels.
        (middle, (high - low).max(1e-3 * middle.abs().max(1.0)))
    };
    let (x_middle, mut width) = span(&mut places.iter().map(|p| p.0));
    let (y_middle, mut height) = span(&mut places.iter().map(|p| p.1));
    if dim != 1 {
        width = width.max(height * ASPECT);
        height = width / ASPECT;
    }
    let around = |middle: f64, length: f64| middle - 0.54 * length..middle + 0.54 * length;
    let name = |i: usize| match dim {
        1 | 2 => format!("embedding {i}"),
        _ => format!("principal component {i}"),
    };
    let x = Axis::linear(&name(1), around(x_middle, width));
    if dim == 1 {
        (x, Axis::linear("class", around(y_middle, height)).bare())
    } else {
        (x, Axis::linear(&name(2), around(y_middle, height)))
    }
}

fn centres(places: &[(f64, f64)], labels: &[usize], classes: usize) -> Vec<(usize, (f64, f64))> {
    let mut sums = vec![(0.0, 0.0, 0.0); classes];
    for (place, &class) in places.iter().zip(labels) {
        let sum = &mut sums[class];
        *sum = (sum.0 + place.0, sum.1 + place.1, sum.2 + 1.0);
    }
    sums.into_iter()
        .enumerate()
        .filter(|(_, sum)| sum.2 > 0.0)
        .map(|(class, (x, y, n))| (class, (x / n, y / n)))
        .collect()
}

/// Moves names up until none covers another, as they would where classes lie on top of each other.
/// `letter` is a letter's width and `line` the text's height, in the map's units.
pub fn lift_apart(names: &mut [(String, (f64, f64))], letter: f64, line: f64) {
    names.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
    for i in 1..names.len() {
        let (below, rest) = names.split_at_mut(i);
        let (name, place) = &mut rest[0];
        for (other, (other_x, other_y)) in &*below {
            let letters = (name.chars().count() + other.chars().count()) as f64;
            let beside = (place.0 - other_x).abs() >= letter * letters / 2.0;
            if !beside && (place.1 - other_y).abs() < line {
                place.1 = other_y + line;
            }
        }
        names[..=i].sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
    }
}

fn short(name: &str) -> String {
    if name.chars().count() <= LABEL_CHARS {
        return name.to_owned();
    }
    name.chars().take(LABEL_CHARS - 1).chain(['…']).collect()
}
