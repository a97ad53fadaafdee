//! What all charts share: the drawing surface, its axes, and the keys under it.

use std::ops::Range;

use anyhow::Result;
use maud::{Markup, PreEscaped, html};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::element::{Circle, EmptyElement, Polygon};
use plotters::prelude::{IntoDrawingArea, SVGBackend};
use plotters::style::{Color, IntoFont, RGBAColor, ShapeStyle, TRANSPARENT, TextStyle};

use crate::ink::{FAINT, GRID, Ink};
use crate::table::Table;

/// Units of drawing a CSS pixel, at the chart's nominal width of 380. plotters rounds to whole
/// units, and whole pixels would show as steps in curves and as a raster in clouds of points.
pub const PX: i32 = 4;

/// The drawing's width in units.
pub const WIDTH: i32 = 380 * PX;
const HEIGHT: i32 = 330 * PX;
const TOP: i32 = 10 * PX;
const RIGHT: i32 = 24 * PX;
const LEFT: i32 = 70 * PX;
const BOTTOM: i32 = 48 * PX;

/// Width over height of the area inside the axes.
pub const ASPECT: f64 = (WIDTH - LEFT - RIGHT) as f64 / (HEIGHT - TOP - BOTTOM) as f64;
/// Width of the area inside the axes, in units.
pub const PLOT_WIDTH: f64 = (WIDTH - LEFT - RIGHT) as f64;

/// A chart whose axes are set and whose series are to be drawn.
pub type Canvas<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;

/// One part of the page: charts that belong together, their keys, and how to read them.
pub struct Figure {
    /// Names the section.
    pub heading: &'static str,
    /// SVG or other HTML elements.
    pub charts: Vec<String>,
    /// What the marks in the charts mean.
    pub keys: Vec<Key>,
    /// How to read the charts, for a newcomer.
    pub caption: String,
    /// The data that is drawn.
    pub table: Table,
}

/// An axis in drawn coordinates: values, or their decimal logarithms.
pub struct Axis {
    name: String,
    range: Range<f64>,
    ticks: Vec<f64>,
    label: Box<dyn Fn(f64) -> String>,
}

impl Axis {
    /// A linear axis over a range that is not empty.
    pub fn linear(name: &str, range: Range<f64>) -> Self {
        let ticks = RangedCoordf64::from(range.clone()).key_points(6);
        let step = ticks.windows(2).map(|t| t[1] - t[0]).next().unwrap_or(1.0);
        let decimals = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
        Self {
            name: name.to_owned(),
            range,
            ticks,
            label: Box::new(move |v| match decimals {
                // Adding zero turns -0 to 0.
                0..=4 => format!("{:.decimals$}", v + 0.0),
                _ => format!("{v:.1e}"),
            }),
        }
    }

    /// A logarithmic axis over positive values, the first below the second; draw the values' `log10`.
    pub fn log(name: &str, values: Range<f64>) -> Self {
        let range = values.start.log10()..values.end.log10();
        // Powers of ten alone would leave fewer than three labels on a short axis.
        let multiples: &[f64] = if range.end - range.start < 2.5 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let ticks = (range.start.floor() as i32..=range.end.ceil() as i32)
            .flat_map(|power| multiples.iter().map(move |m| m.log10() + f64::from(power)))
            .filter(|tick| range.contains(tick))
            .collect();
        Self {
            name: name.to_owned(),
            range,
            ticks,
            label: Box::new(|v| {
                let value = 10f64.powf(v);
                let digits = (-v).ceil().max(0.0) as usize;
                if digits <= 4 && v < 5.0 {
                    format!("{value:.digits$}")
                } else {
                    format!("{value:.0e}")
                }
            }),
        }
    }

    /// The same axis with other labels at its ticks.
    pub fn labelled(mut self, label: impl Fn(f64) -> String + 'static) -> Self {
        self.label = Box::new(label);
        self
    }

    /// The same axis with neither ticks nor grid.
    pub fn bare(mut self) -> Self {
        self.ticks.clear();
        self
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
    }
}

/// Draws a chart: axes and grid here, the series in `paint`. `description` is what a screen reader
/// says in its place.
pub fn draw(
    description: &str,
    x: Axis,
    y: Axis,
    paint: impl FnOnce(&mut Canvas) -> Result<()>,
) -> Result<String> {
    let (x_name, y_name) = (x.name.clone(), y.name.clone());
    let mut svg = String::new();
    {
        let area =
            SVGBackend::with_string(&mut svg, (WIDTH as u32, HEIGHT as u32)).into_drawing_area();
        let mut canvas = ChartBuilder::on(&area)
            .margin_top(TOP)
            .margin_right(RIGHT)
            .x_label_area_size(BOTTOM)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(x, y)?;
        canvas
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(ShapeStyle::from(GRID.rgb()).stroke_width(PX as u32))
            .axis_style(ShapeStyle::from(FAINT.rgb()).stroke_width(PX as u32))
            .set_all_tick_mark_size(4 * PX)
            .label_style(text(13.0, FAINT))
            .axis_desc_style(text(14.0, FAINT))
            .x_desc(x_name)
            .y_desc(y_name)
            .draw()?;
        paint(&mut canvas)?;
        area.present()?;
    }
    // The root element is ours: it names the chart, and leaves the size to the stylesheet.
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let root = html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(description) {
            (PreEscaped(body.trim_end().trim_end_matches("</svg>")))
        }
    };
    Ok(root.into_string())
}

/// Text of a size in CSS pixels.
pub fn text(size: f64, ink: Ink) -> TextStyle<'static> {
    // plotters divides a font's size by 1.24 on its way into the SVG.
    ("sans-serif", size * f64::from(PX) * 1.24)
        .into_font()
        .color(&ink.rgb())
}

/// A solid line of a width in CSS pixels.
pub fn line(ink: Ink, width: f64, opacity: f64) -> ShapeStyle {
    ShapeStyle::from(ink.rgb().mix(opacity)).stroke_width((width * f64::from(PX)) as u32)
}

/// The shape of a point.
#[derive(Clone, Copy)]
pub enum Marker {
    Circle,
    Triangle,
    Square,
    Diamond,
}

impl Marker {
    /// Corners around the centre, for a circle of radius 1 of about the same area.
    fn corners(self) -> &'static [(f64, f64)] {
        match self {
            Self::Circle => &[],
            Self::Triangle => &[(0.0, -1.5), (1.3, 0.75), (-1.3, 0.75)],
            Self::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            Self::Diamond => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
        }
    }
}

/// Draws a marker; `radius` in CSS pixels.
pub fn mark(
    canvas: &Canvas,
    marker: Marker,
    place: (f64, f64),
    radius: f64,
    colour: RGBAColor,
) -> Result<()> {
    let units = |length: f64| (length * radius * f64::from(PX)).round() as i32;
    let area = canvas.plotting_area();
    match marker {
        Marker::Circle => area.draw(&Circle::new(place, units(1.0), colour.filled()))?,
        _ => {
            let corners: Vec<_> = marker
                .corners()
                .iter()
                .map(|(x, y)| (units(*x), units(*y)))
                .collect();
            area.draw(&(EmptyElement::at(place) + Polygon::new(corners, colour.filled())))?;
        }
    }
    Ok(())
}

/// A line under the chart that says what a mark means.
pub struct Key {
    pub mark: Mark,
    pub text: String,
}

/// What a key shows before its text.
pub enum Mark {
    Point(Marker, Ink),
    Line(Ink),
    Dashes(Ink),
    Area(Ink),
}

impl Mark {
    /// The mark as a small picture.
    pub fn picture(&self) -> Markup {
        html! {
            svg.mark viewBox="-10 -10 20 20" aria-hidden="true" {
                @match self {
                    Self::Point(Marker::Circle, ink) => circle r="5" fill=(ink.attribute()) {},
                    Self::Point(marker, ink) => polygon fill=(ink.attribute()) points=(
                        marker.corners().iter().map(|(x, y)| format!("{},{} ", 5.5 * x, 5.5 * y)).collect::<String>()
                    ) {},
                    Self::Line(ink) => path d="M-10 0H10" stroke=(ink.attribute()) stroke-width="3" {},
                    Self::Dashes(ink) => path d="M-10 0H-4M-1 0H4M7 0H10" stroke=(ink.attribute()) stroke-width="3" {},
                    Self::Area(ink) => rect x="-8" y="-6" width="16" height="12" fill=(ink.attribute()) fill-opacity="0.45" {},
                }
            }
        }
    }
}
