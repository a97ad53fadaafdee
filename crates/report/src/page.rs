//! The page around the figures.

use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::Report;
use crate::figures::Figure;
use crate::ink::dark_rules;
use crate::pictures::data_link;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole document.
/// `training` is the section on the training images.
pub fn page(report: &Report, figures: &[Figure], training: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Or a browser asks the server for an icon, where there is one.
                link rel="icon" href="data:,";
                title { (report.title) }
                style {
                    (PreEscaped(STYLE))
                    (PreEscaped(format!("@media(prefers-color-scheme:dark){{{}}}", dark_rules())))
                }
            }
            body {
                main {
                    h1 { (report.title) }
                    @if !report.notes.is_empty() {
                        section.wide {
                            h2 { "Before you believe the figures" }
                            ul { @for note in report.notes { li { (note) } } }
                        }
                    }
                    div.summary {
                        section {
                            header { h2 { "Results" } (copy("results", "Copy the table")) }
                            (table("results", report.results))
                        }
                        section { h2 { "The run" } (table("facts", report.facts)) }
                    }
                    @for figure in figures { (section(figure)) }
                    (training)
                    section.wide {
                        details open {
                            summary { "config.toml, all that is needed to repeat the run" }
                            pre #config tabindex="0" { (report.config) }
                            p.csv { (copy("config", "Copy config.toml")) }
                        }
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

/// Nothing is loaded from anywhere, and no script runs but the page's own.
fn policy() -> String {
    format!(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'",
        STANDARD.encode(Sha256::digest(SCRIPT))
    )
}

/// A button that the script shows, since it does nothing without.
fn copy(id: &str, name: &str) -> Markup {
    html! { button type="button" data-copy=(id) hidden { (name) } }
}

fn table(class: &str, rows: &[(&str, String)]) -> Markup {
    html! {
        table class=(class) id=(class) {
            @for (label, value) in rows {
                tr { th scope="row" { (label) } td { (value) } }
            }
        }
    }
}

fn section(figure: &Figure) -> Markup {
    let file = format!("{}.csv", figure.table.name);
    html! {
        section.wide[figure.charts.len() > 1] {
            h2 { (figure.heading) }
            figure {
                div.charts { @for chart in &figure.charts { (PreEscaped(chart)) } }
                @if !figure.keys.is_empty() {
                    ul.keys {
                        @for key in &figure.keys { li { (key.mark.picture()) span { (key.text) } } }
                    }
                }
                figcaption { (figure.caption) }
            }
            p.csv {
                "Data: "
                a href=(data_link("text/csv;charset=utf-8", figure.table.csv.as_bytes())) download=(file) { (file) }
            }
        }
    }
}
