//! The page around the figures.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Report;
use super::chart::Figure;
use super::ink::dark_rules;

const STYLE: &str = "
:root{color-scheme:light dark;--page:#f4f5f7;--card:#fff;--text:#1d2129;--faint:#59606b;--edge:#dfe2e7}
@media(prefers-color-scheme:dark){:root{--page:#121419;--card:#1b1e24;--text:#e8eaed;--faint:#a3abb7;--edge:#333a45}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:1120px;margin:auto;padding:12px;display:grid;gap:12px;grid-template-columns:minmax(0,1fr)}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0 0}
h2{font-size:1.1rem;line-height:1.3;margin:0 0 .5rem}
section{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:12px}
table{border-collapse:collapse;width:100%}
th,td{padding:.35rem 0;border-top:1px solid var(--edge);text-align:left;vertical-align:baseline}
tr:first-child>*{border-top:0}
th{font-weight:400;color:var(--faint);padding-right:1rem}
.results td{text-align:right;font-weight:600;font-variant-numeric:tabular-nums}
.facts th{width:35%}
figure{margin:0}
.summary,.charts{display:grid;gap:12px;grid-template-columns:minmax(0,1fr)}
.chart{display:block;width:100%;max-width:500px;margin:auto;overflow:visible}
.chart text{font-family:system-ui,sans-serif}
.chart [font-weight=bold]{paint-order:stroke;stroke:var(--card);stroke-width:14px;stroke-linejoin:round}
.keys{list-style:none;display:flex;flex-wrap:wrap;gap:.15rem .9rem;margin:.5rem 0;padding:0;font-size:.875rem}
.keys li{display:flex;align-items:baseline;gap:.35rem;min-width:0}
.mark{width:14px;height:14px;flex:none;align-self:center;fill:none}
figcaption{font-size:.9375rem;color:var(--faint);max-width:72ch}
@media(min-width:900px){main{padding:24px;gap:20px;grid-template-columns:repeat(2,minmax(0,1fr))}
h1,.wide{grid-column:1/-1}.summary{gap:20px;grid-template-rows:auto 1fr}section{padding:20px}.wide .charts{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media print{section{break-inside:avoid}}
";

/// The whole document.
pub fn page(report: &Report, figures: &[Figure]) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.title) }
                style {
                    (PreEscaped(STYLE))
                    (PreEscaped(format!("@media(prefers-color-scheme:dark){{{}}}", dark_rules())))
                }
            }
            body {
                main {
                    h1 { (report.title) }
                    div.summary {
                        section { h2 { "Results" } (table("results", report.results)) }
                        section { h2 { "The run" } (table("facts", report.facts)) }
                    }
                    @for figure in figures { (section(figure)) }
                }
            }
        }
    }
    .into_string()
}

fn table(class: &str, rows: &[(String, String)]) -> Markup {
    html! {
        table class=(class) {
            @for (label, value) in rows {
                tr { th scope="row" { (label) } td { (value) } }
            }
        }
    }
}

fn section(figure: &Figure) -> Markup {
    html! {
        section.wide[figure.charts.len() > 1] {
            h2 { (figure.heading) }
            figure {
                div.charts { @for chart in &figure.charts { (PreEscaped(chart)) } }
                ul.keys {
                    @for key in &figure.keys { li { (key.mark.picture()) span { (key.text) } } }
                }
                figcaption { (figure.caption) }
            }
        }
    }
}
