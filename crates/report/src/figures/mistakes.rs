//! The pairs that the network gets wrong by the most.

use std::collections::HashSet;

use anyhow::Result;
use maud::html;
use metrics::is_same;

use super::chart::Figure;
use crate::pictures::{class_of, picture};
use crate::table::Table;
use crate::{Report, count};

/// Pairs shown of each kind.
const SHOWN: usize = 12;

/// The nearest pairs of different classes and the farthest of the same.
pub fn figure(report: &Report) -> Result<Figure> {
    let accepted = worst(report, false);
    let rejected = worst(report, true);
    let part = |heading: &str, none: &str, wrong: &[usize]| -> Result<String> {
        let mut shown = Vec::new();
        for &pair in distinct(report, wrong).iter() {
            let (first, second) = sides(report, pair);
            shown.push(html! {
                li {
                    (picture(report.images, first)?) (picture(report.images, second)?)
                    span { (class_of(report.images, first)) " | " (class_of(report.images, second)) }
                    span.faint { (format!("{:.3}", report.distances[pair])) }
                }
            });
        }
        Ok(html! {
            div {
                h3 { (heading) ": " (count(wrong.len())) }
                @if shown.is_empty() { p.faint { (none) } }
                ul.pairs { @for pair in shown { (pair) } }
            }
        }
        .into_string())
    };
    let row = |&pair: &usize| {
        let (first, second) = sides(report, pair);
        [
            first.to_string(),
            second.to_string(),
            class_of(report.images, first).to_owned(),
            class_of(report.images, second).to_owned(),
            report.distances[pair].to_string(),
        ]
    };
    Ok(Figure {
        heading: "The worst mistakes",
        charts: vec![
            part(
                "Different, but accepted",
                "No pair of different classes lies within the threshold.",
                &accepted,
            )?,
            part(
                "The same, but rejected",
                "No pair of one class lies beyond the threshold.",
                &rejected,
            )?,
        ],
        keys: Vec::new(),
        caption: format!(
            "Test pairs on the wrong side of the threshold {:.3}, the farthest from it first, with \
             their classes and distance; no image is shown twice. What a person would get wrong too \
             is no fault of the network.",
            report.threshold
        ),
        table: Table::new(
            "mistakes",
            ["first", "second", "first_class", "second_class", "distance"],
            accepted.iter().chain(&rejected).map(row),
        )?,
    })
}

fn sides(report: &Report, pair: usize) -> (usize, usize) {
    let pair = report.pairs[pair];
    (pair.first as usize, pair.second as usize)
}

/// The pairs of that kind with the wrong verdict, the worst first.
pub fn worst(report: &Report, same: bool) -> Vec<usize> {
    let wrong = |&pair: &usize| {
        report.pairs[pair].similar == same
            && is_same(report.distances[pair], report.threshold) != same
    };
    let mut pairs: Vec<usize> = (0..report.pairs.len()).filter(wrong).collect();
    pairs.sort_by(|&a, &b| {
        let order = report.distances[a].total_cmp(&report.distances[b]);
        if same { order.reverse() } else { order }
    });
    pairs
}

/// The first pairs to be shown, none with an image of one before it.
fn distinct(report: &Report, pairs: &[usize]) -> Vec<usize> {
    let mut seen = HashSet::new();
    let fresh = pairs.iter().copied().filter(|&pair| {
        let (first, second) = sides(report, pair);
        !seen.contains(&first) && !seen.contains(&second) && {
            seen.extend([first, second]);
            true
        }
    });
    fresh.take(SHOWN).collect()
}
