//! Distances of similar and dissimilar pairs, with the threshold that tells them apart.

use anyhow::Result;
use plotters::element::PathElement;
use plotters::series::{AreaSeries, DashedLineSeries};
use plotters::style::Color;

use super::chart::{self, Axis, Figure, Key, Mark, PX};
use crate::ink::{BLUE, Ink, TEXT, VERMILION};
use crate::table::Table;
use crate::{Report, count, percent};

const BINS: usize = 60;

/// Both histograms, with threshold and margin.
pub fn figure(report: &Report) -> Result<Figure> {
    let end = far_end(report);
    let (similar, dissimilar) = (report.distances_of(true), report.distances_of(false));
    let similar_shares = histogram(&similar, end);
    let dissimilar_shares = histogram(&dissimilar, end);
    let top = similar_shares
        .iter()
        .chain(&dissimilar_shares)
        .copied()
        .fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };

    let x = Axis::linear("distance of the pair", 0.0..end);
    let y = Axis::linear("share of the pairs of its kind", 0.0..top)
        .labelled(|v| format!("{}%", (v * 1000.0).round() / 10.0));
    let wrong = |distances: &[f32], is_wrong: &dyn Fn(f64) -> bool| {
        let n = distances
            .iter()
            .filter(|d| is_wrong(f64::from(**d)))
            .count();
        percent(n as f64 / distances.len().max(1) as f64)
    };
    let missed = wrong(&similar, &|d| d > report.threshold);
    let accepted = wrong(&dissimilar, &|d| d <= report.threshold);
    let description = format!(
        "Histogram of the distances of {} similar and {} dissimilar pairs. At the threshold {:.3}, \
         {missed} of the similar pairs lie above and {accepted} of the dissimilar pairs below.",
        count(similar.len()),
        count(dissimilar.len()),
        report.threshold,
    );
    let svg = chart::draw(&description, x, y, |canvas| {
        for (shares, ink) in [(&dissimilar_shares, VERMILION), (&similar_shares, BLUE)] {
            canvas.draw_series(
                AreaSeries::new(steps(shares, end), 0.0, ink.rgb().mix(0.35))
                    .border_style(chart::line(ink, 1.5, 1.0)),
            )?;
        }
        let upright = |at: f64| [(at, 0.0), (at, top)];
        canvas.draw_series([PathElement::new(
            upright(report.threshold),
            chart::line(TEXT, 2.0, 1.0),
        )])?;
        canvas.draw_series(DashedLineSeries::new(
            upright(report.margin),
            6 * PX,
            4 * PX,
            chart::line(TEXT, 2.0, 1.0),
        ))?;
        Ok(())
    })?;

    let beyond = report
        .distances
        .iter()
        .filter(|d| f64::from(**d) > end)
        .count();
    let note = match beyond {
        0 => String::new(),
        n => format!(
            " The last bar also holds the {} pairs that lie still farther out.",
            count(n)
        ),
    };
    let kind = |ink: Ink, name: &str, n: usize| Key {
        mark: Mark::Area(ink),
        text: format!("{name} ({} pairs)", count(n)),
    };
    Ok(Figure {
        heading: "Distances of the test pairs",
        charts: vec![svg],
        keys: vec![
            kind(BLUE, "similar", similar.len()),
            kind(VERMILION, "dissimilar", dissimilar.len()),
            Key {
                mark: Mark::Line(TEXT),
                text: format!("threshold {:.3}", report.threshold),
            },
            Key {
                mark: Mark::Dashes(TEXT),
                text: format!("margin {:.3}", report.margin),
            },
        ],
        caption: format!(
            "A pair up to the threshold is judged to show the same thing. Similar pairs should \
             pile up at the left and dissimilar pairs out to the margin and beyond. Mistakes are the similar pairs right of the threshold ({missed} of \
             them) and the dissimilar pairs left of it ({accepted}).{note}"
        ),
        table: Table::new(
            "distances",
            ["from", "to", "similar", "dissimilar"],
            similar_shares
                .iter()
                .zip(&dissimilar_shares)
                .enumerate()
                .map(|(bin, shares)| {
                    let edge = |bin: usize| (bin as f64 * end / BINS as f64).to_string();
                    [
                        edge(bin),
                        edge(bin + 1),
                        shares.0.to_string(),
                        shares.1.to_string(),
                    ]
                }),
        )?,
    })
}

/// The axis ends where a hundredth of the pairs lies still farther out, or they would squeeze the
/// rest; threshold and margin are always in sight.
fn far_end(report: &Report) -> f64 {
    let mut all = report.distances.to_vec();
    all.sort_by(f32::total_cmp);
    let far = all.get(all.len() * 99 / 100).map_or(0.0, |d| f64::from(*d));
    let end = 1.1 * far.max(report.threshold).max(report.margin);
    if end > 0.0 { end } else { 1.0 }
}

/// Share of the distances in each of the bins between 0 and `end`.
fn histogram(distances: &[f32], end: f64) -> Vec<f64> {
    let mut shares = vec![0.0; BINS];
    for &distance in distances {
        let bin = (f64::from(distance) / end * BINS as f64) as usize;
        shares[bin.min(BINS - 1)] += 1.0 / distances.len() as f64;
    }
    shares
}

/// The outline of the bars.
fn steps(shares: &[f64], end: f64) -> Vec<(f64, f64)> {
    let width = end / BINS as f64;
    shares
        .iter()
        .enumerate()
        .flat_map(|(i, &share)| [(i as f64 * width, share), ((i + 1) as f64 * width, share)])
        .collect()
}
