//! Which classes are taken for one another.

use std::collections::BTreeMap;

use anyhow::Result;
use maud::{Markup, html};
use metrics::is_same;

use super::chart::Figure;
use crate::pictures::present;
use crate::table::Table;
use crate::{Report, count, percent};

/// With more classes than this a table of all pairs can't be read on a phone.
const FEW_CLASSES: usize = 12;
/// Pairs of classes listed if there are more.
const LISTED: usize = 15;

/// Test pairs of two classes (the smaller number first), and how many got the wrong verdict.
#[derive(Clone, Copy, Default)]
pub struct Cell {
    pub pairs: usize,
    pub wrong: usize,
}

impl Cell {
    fn rate(self) -> f64 {
        self.wrong as f64 / self.pairs.max(1) as f64
    }
}

/// All pairs of classes that occur.
pub fn cells(report: &Report) -> BTreeMap<(usize, usize), Cell> {
    let mut cells = BTreeMap::<_, Cell>::new();
    for (pair, &distance) in report.pairs.iter().zip(report.distances) {
        let class = |image: u32| report.images.labels()[image as usize] as usize;
        let (a, b) = (class(pair.first), class(pair.second));
        let cell = cells.entry((a.min(b), a.max(b))).or_default();
        cell.pairs += 1;
        cell.wrong += usize::from(is_same(distance, report.threshold) != pair.similar);
    }
    cells
}

/// A heat table, or the worst pairs of many classes.
pub fn figure(report: &Report) -> Result<Figure> {
    let cells = cells(report);
    let classes = report.images.classes();
    let present = present(report.images);
    let few = present.len() <= FEW_CLASSES;
    let chart = if few {
        heat_table(classes, &present, &cells)
    } else {
        worst(classes, &cells)
    };
    let most = if few {
        ""
    } else {
        " Listed are the pairs with the highest rates; the CSV file has all."
    };
    Ok(Figure {
        heading: "Which classes are confused",
        charts: vec![chart.into_string()],
        keys: Vec::new(),
        caption: format!(
            "Percent of the test pairs of two classes that get the wrong verdict: two different \
             classes wrongly accepted as the same, or, where a class meets itself, wrongly \
             rejected.{most}"
        ),
        table: Table::new(
            "confusion",
            ["first_class", "second_class", "pairs", "wrong", "rate"],
            cells.iter().map(|(&(a, b), cell)| {
                [
                    classes[a].clone(),
                    classes[b].clone(),
                    cell.pairs.to_string(),
                    cell.wrong.to_string(),
                    cell.rate().to_string(),
                ]
            }),
        )?,
    })
}

fn heat_table(
    classes: &[String],
    present: &[usize],
    cells: &BTreeMap<(usize, usize), Cell>,
) -> Markup {
    let highest = cells.values().map(|cell| cell.rate()).fold(0.0, f64::max);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Wrong verdicts by pair of classes" {
            table.heat {
                thead { tr { td {} @for &class in present { th scope="col" { (classes[class]) } } } }
                tbody {
                    @for &a in present {
                        tr {
                            th scope="row" { (classes[a]) }
                            @for &b in present {
                                @match cells.get(&(a.min(b), a.max(b))) {
                                    Some(cell) => td.itself[a == b]
                                        style=(format!("--heat:{:.0}%", 60.0 * cell.rate() / highest.max(1e-9)))
                                        title=(format!("{} and {}: {} of {} pairs wrong", classes[a], classes[b], cell.wrong, count(cell.pairs)))
                                        { (short(cell.rate())) },
                                    None => td { "–" },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn worst(classes: &[String], cells: &BTreeMap<(usize, usize), Cell>) -> Markup {
    let mut worst: Vec<_> = cells.iter().filter(|(_, cell)| cell.wrong > 0).collect();
    worst.sort_by(|a, b| b.1.rate().total_cmp(&a.1.rate()).then(a.0.cmp(b.0)));
    worst.truncate(LISTED);
    html! {
        @if worst.is_empty() { p.faint { "No pair gets the wrong verdict." } }
        table {
            @for (&(a, b), cell) in worst {
                tr {
                    th scope="row" { (classes[a]) " | " (classes[b]) }
                    td.number { (percent(cell.rate())) " of " (count(cell.pairs)) }
                }
            }
        }
    }
}

/// A rate in percent, in as few characters as a narrow cell holds.
fn short(rate: f64) -> String {
    match 100.0 * rate {
        0.0 => "0".to_owned(),
        value if value < 0.1 => "<.1".to_owned(),
        value if value < 9.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}
