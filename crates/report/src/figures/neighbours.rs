//! What the network finds most like an image.

use anyhow::Result;
use maud::html;
use metrics::Neighbour;

use super::chart::Figure;
use crate::Report;
use crate::downsample::even_over_classes;
use crate::pictures::{class_of, picture};
use crate::table::Table;

const QUERIES: usize = 10;
const NEIGHBOURS: usize = 6;

/// A few test images, each with those nearest to it.
pub fn figure(report: &Report) -> Result<Figure> {
    let (images, classes) = (report.images, report.images.classes());
    let mut queries = even_over_classes(images.labels(), classes.len(), QUERIES);
    queries.sort_by_key(|&query| images.labels()[query]);
    let mut rows = Vec::new();
    let mut shown = Vec::new();
    for &query in &queries {
        let mut found = Vec::new();
        for (rank, near) in nearest(report, query)?.into_iter().enumerate() {
            let neighbour = near.index;
            let wrong = images.labels()[neighbour] != images.labels()[query];
            found.push(html! {
                li.wrong[wrong] {
                    (picture(images, neighbour)?)
                    span { (class_of(images, neighbour)) @if wrong { " ✗" } }
                }
            });
            rows.push([
                query.to_string(),
                class_of(images, query).to_owned(),
                (rank + 1).to_string(),
                neighbour.to_string(),
                class_of(images, neighbour).to_owned(),
                near.distance.to_string(),
            ]);
        }
        shown.push(html! {
            ul.neighbours {
                li.query { (picture(images, query)?) span { (class_of(images, query)) } }
                @for neighbour in found { (neighbour) }
            }
        });
    }
    Ok(Figure {
        heading: "Nearest neighbours",
        charts: shown
            .chunks(shown.len().div_ceil(2).max(1))
            .map(|part| html! { div { @for row in part { (row) } } }.into_string())
            .collect(),
        keys: Vec::new(),
        caption: format!(
            "Test images, framed, and the {NEIGHBOURS} others nearest to each in the embedding, the \
             nearest first. ✗ marks another class."
        ),
        table: Table::new(
            "neighbours",
            ["query", "query_class", "rank", "image", "class", "distance"],
            rows,
        )?,
    })
}

/// The other images nearest to `query`.
pub fn nearest(report: &Report, query: usize) -> Result<Vec<Neighbour>> {
    let embeddings = report.embeddings;
    let mut found = embeddings.nearest(embeddings.row(query), NEIGHBOURS + 1)?;
    found.retain(|found| found.index != query);
    found.truncate(NEIGHBOURS);
    Ok(found)
}
