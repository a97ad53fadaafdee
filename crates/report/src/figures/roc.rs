//! The ROC curve: what each false alarm buys, over all thresholds.

use anyhow::Result;
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::Color;

use super::chart::{self, Axis, Figure, Key, Mark, Marker, PLOT_WIDTH, PX};
use crate::downsample::beyond;
use crate::ink::{BLUE, FAINT, TEXT, VERMILION};
use crate::table::Table;
use crate::{Report, percent};

/// How far apart the curve's points are in the table.
const TOLERANCE: f64 = 1e-4;

/// The whole curve, and its corner enlarged.
pub fn figure(report: &Report) -> Result<Figure> {
    let (far, tar) = report.operating_point;
    // Both marked points well inside; for a good network the whole curve hugs the corner.
    let corner = (3.0 * report.eer.max(far).max(1.0 - tar)).clamp(0.01, 0.5);
    Ok(Figure {
        heading: "Right and wrong acceptances (ROC)",
        charts: vec![view(report, 1.0)?, view(report, corner)?],
        keys: vec![
            Key {
                mark: Mark::Line(BLUE),
                text: "this network".to_owned(),
            },
            Key {
                mark: Mark::Dashes(FAINT),
                text: "guessing".to_owned(),
            },
            Key {
                mark: Mark::Point(Marker::Circle, TEXT),
                text: format!("equal error rate {}", percent(report.eer)),
            },
            Key {
                mark: Mark::Point(Marker::Diamond, VERMILION),
                text: format!(
                    "chosen threshold: accepts {} of similar and {} of dissimilar pairs",
                    percent(tar),
                    percent(far)
                ),
            },
        ],
        caption: "Each point of the curve is a threshold. To the right: the share of dissimilar \
                  pairs wrongly accepted as the same; upwards: the share of similar pairs rightly \
                  accepted. The closer the curve comes to the upper left corner, the better; the \
                  second view enlarges that corner. At the equal error rate, both kinds of mistake \
                  are equally frequent."
            .to_owned(),
        table: Table::new(
            "roc",
            ["false_accept_rate", "true_accept_rate"],
            beyond(report.roc, TOLERANCE)
                .iter()
                .map(|(far, tar)| [far.to_string(), tar.to_string()]),
        )?,
    })
}

/// False accept rates up to `side`, true accept rates from 1 − `side`.
fn view(report: &Report, side: f64) -> Result<String> {
    let ticks = |v: f64| format!("{}%", (v * 1e4).round() / 100.0);
    let x = Axis::linear("dissimilar pairs accepted", 0.0..side).labelled(ticks);
    let y = Axis::linear("similar pairs accepted", 1.0 - side..1.0).labelled(ticks);
    let curve = within(&beyond(report.roc, side / PLOT_WIDTH), side);
    let description = format!(
        "ROC curve{}. Equal error rate {}.",
        if side < 1.0 {
            ", upper left corner enlarged"
        } else {
            ""
        },
        percent(report.eer)
    );
    chart::draw(&description, x, y, |canvas| {
        // The chance line lies outside an enlarged corner.
        if side == 1.0 {
            canvas.draw_series(DashedLineSeries::new(
                [(0.0, 0.0), (1.0, 1.0)],
                6 * PX,
                4 * PX,
                chart::line(FAINT, 1.5, 1.0),
            ))?;
        }
        canvas.draw_series(LineSeries::new(curve, chart::line(BLUE, 2.0, 1.0)))?;
        for (marker, ink, (far, tar)) in [
            (Marker::Circle, TEXT, (report.eer, 1.0 - report.eer)),
            (Marker::Diamond, VERMILION, report.operating_point),
        ] {
            if far <= side && tar >= 1.0 - side {
                chart::mark(canvas, marker, (far, tar), 5.0, ink.rgb().to_rgba())?;
            }
        }
        Ok(())
    })
}

/// The part of a rising curve inside the view, cut where it crosses the view's edges.
fn within(curve: &[(f64, f64)], side: f64) -> Vec<(f64, f64)> {
    let low = 1.0 - side;
    let mut inside = Vec::new();
    for pair in curve.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        // The segment's parameter where it enters from below and where it leaves to the right.
        let enter = if y0 >= low {
            0.0
        } else {
            (low - y0) / (y1 - y0)
        };
        let leave = if x1 <= side {
            1.0
        } else {
            (side - x0) / (x1 - x0)
        };
        if enter <= leave && y1 >= low && x0 <= side {
            let at = |t: f64| (x0 + t * (x1 - x0), y0 + t * (y1 - y0));
            inside.extend([at(enter), at(leave)]);
        }
    }
    inside.dedup();
    inside
}
