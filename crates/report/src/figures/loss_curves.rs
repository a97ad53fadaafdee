//! Loss by training step: does it fall, does it level off, does the test loss follow.

use anyhow::Result;
use plotters::series::LineSeries;
use plotters::style::Color;

use super::chart::{self, Axis, Figure, Key, Mark, Marker};
use crate::downsample::{centred_mean, extremes};
use crate::ink::{BLUE, VERMILION};
use crate::table::Table;
use crate::{Report, count};

/// The loss falls by more than this factor: a linear axis would show its end as a flat line.
const LOG_FROM: f64 = 20.0;

/// The training loss, raw and smoothed, with the test loss.
pub fn figure(report: &Report) -> Result<Figure> {
    let floats = |points: &[(u64, f64)]| -> Vec<(f64, f64)> {
        points
            .iter()
            .map(|&(step, loss)| (step as f64, loss))
            .collect()
    };
    let logged = floats(report.train_loss);
    let test = floats(report.test_loss);
    let half_window = logged.len() / 100;
    let smooth = centred_mean(&logged, half_window, 300);
    let raw = extremes(&logged, 300);

    let highest = |points: &[(f64, f64)]| points.iter().map(|p| p.1).fold(0.0, f64::max);
    let lowest_positive = |points: &[(f64, f64)]| {
        points
            .iter()
            .map(|p| p.1)
            .filter(|v| *v > 0.0)
            .fold(f64::INFINITY, f64::min)
    };
    let top = highest(&raw).max(highest(&test));
    let bottom = lowest_positive(&smooth)
        .min(lowest_positive(&test))
        .max(1e-6 * top);
    let log = top > 0.0 && highest(&smooth).max(highest(&test)) / bottom > LOG_FROM;

    let steps = || logged.iter().chain(&test).map(|p| p.0);
    let first = steps().fold(f64::INFINITY, f64::min);
    let last = steps().fold(0.0, f64::max);
    let x = Axis::linear(
        "training step",
        first.min(last)..last.max(first.min(last) + 1.0),
    )
    .labelled(|v| {
        if (v - v.round()).abs() < 1e-6 {
            count(v.round() as usize)
        } else {
            String::new()
        }
    });
    // Single steps fall far below the smoothed curve; half of it is enough to show that they do.
    let floor = bottom / 2.0;
    let (y, height): (Axis, Box<dyn Fn(f64) -> f64>) = if log {
        (
            Axis::log("loss", floor..top * 1.2),
            Box::new(move |v| v.max(floor).log10()),
        )
    } else {
        let top = if top > 0.0 { top * 1.05 } else { 1.0 };
        (Axis::linear("loss", 0.0..top), Box::new(|v| v))
    };
    let placed = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points
            .iter()
            .map(|&(step, loss)| (step, height(loss)))
            .collect()
    };

    let end = |points: &[(f64, f64)]| {
        points
            .last()
            .map_or_else(|| "none".to_owned(), |p| format!("{:.4}", p.1))
    };
    let description = format!(
        "Line chart of the loss by training step. Last training loss {}, last test loss {}.",
        end(&smooth),
        end(&test)
    );
    let svg = chart::draw(&description, x, y, |canvas| {
        canvas.draw_series(LineSeries::new(placed(&raw), chart::line(BLUE, 1.0, 0.3)))?;
        canvas.draw_series(LineSeries::new(
            placed(&smooth),
            chart::line(BLUE, 2.0, 1.0),
        ))?;
        canvas.draw_series(LineSeries::new(
            placed(&test),
            chart::line(VERMILION, 2.0, 1.0),
        ))?;
        for place in placed(&test) {
            chart::mark(
                canvas,
                Marker::Circle,
                place,
                3.0,
                VERMILION.rgb().to_rgba(),
            )?;
        }
        // A curve of one point would be invisible as a line.
        if let [only] = placed(&smooth)[..] {
            chart::mark(canvas, Marker::Circle, only, 3.0, BLUE.rgb().to_rgba())?;
        }
        Ok(())
    })?;

    let mut keys = vec![Key {
        mark: Mark::Line(BLUE),
        text: match half_window {
            0 => "training pairs, as logged".to_owned(),
            half => format!(
                "training pairs: mean of {} logged steps; pale: each of them",
                2 * half + 1
            ),
        },
    }];
    if !test.is_empty() {
        keys.push(Key {
            mark: Mark::Line(VERMILION),
            text: "test pairs".to_owned(),
        });
    }
    let scale = if log {
        " The scale is logarithmic: each power of ten takes the same height."
    } else {
        ""
    };
    Ok(Figure {
        heading: "Loss during training",
        charts: vec![svg],
        keys,
        caption: format!(
            "The loss says how badly distances fit: lower is better. Both curves should fall and \
             level off. A test curve that turns up while the training curve still falls means that \
             the network learns the training images by heart.{scale}"
        ),
        table: Table::new(
            "loss",
            ["series", "step", "loss"],
            [
                ("training", &raw),
                ("training, mean", &smooth),
                ("test", &test),
            ]
            .into_iter()
            .flat_map(|(series, points)| {
                points.iter().map(move |(step, loss)| {
                    [series.to_owned(), step.to_string(), loss.to_string()]
                })
            }),
        )?,
    })
}
