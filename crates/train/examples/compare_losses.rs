//! Trains with either loss and says what comes of it: `scripts/compare-losses.sh`.
//!
//! ```text
//! compare_losses TRAIN FOLDER digits|mnist:DIR|open-set [EPOCHS]
//! ```
//!
//! Runs the program TRAIN with three seeds for each setting, reads its figures of the test images after
//! every epoch, and writes into FOLDER/STUDY a CSV file for each run, and `table.md`, `table.csv` and
//! `curves.svg` for all. Seconds are from the start of the process; the processor's seconds, which a
//! busy machine leaves as they are, are known on Linux alone and 0 elsewhere. A run whose CSV file is
//! there is not made again.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use plotters::prelude::*;
use serde_json::Value;

const SEEDS: [u32; 3] = [1, 2, 3];
/// The columns of a run's CSV file; the last four are the figures.
const COLUMNS: [&str; 7] = [
    "images",
    "seconds",
    "cpu_seconds",
    "accuracy",
    "auc",
    "eer",
    "p_at_1",
];
const FIGURES: [&str; 4] = ["accuracy", "AUC", "EER", "P@1"];

/// A row of [`COLUMNS`].
type Row = [f64; 7];

struct Setting {
    name: String,
    flags: Vec<String>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (program, folder, study, epochs) = match &args[..] {
        [program, folder, study] => (program, folder, study, None),
        [program, folder, study, epochs] => (program, folder, study, Some(epochs.parse()?)),
        _ => bail!("usage: compare_losses TRAIN FOLDER digits|mnist:DIR|open-set [EPOCHS]"),
    };
    let of_mnist = study.starts_with("mnist:");
    let epochs: u32 = epochs.unwrap_or(if of_mnist { 25 } else { 60 });
    let folder = Path::new(folder).join(study.split(':').next().unwrap_or_default());
    fs::create_dir_all(&folder)?;

    let mut table = format!(
        "| | {} | seconds | CPU seconds |\n|---|---|---|---|---|---|---|\n",
        FIGURES.join(" | ")
    );
    let mut csv = format!("setting,seed,{}\n", COLUMNS.join(","));
    let mut curves = Vec::new();
    for setting in settings(study) {
        let mut runs = Vec::new();
        for seed in SEEDS {
            let name = format!("{}-{epochs}-epochs-{seed}", setting.name);
            let mut flags = setting.flags.clone();
            flags.extend([format!("--epochs={epochs}"), format!("--seed={seed}")]);
            let path = folder.join(format!("{name}.csv"));
            if !path.exists() {
                eprintln!("{name}: train fit {}", flags.join(" "));
                train(program, &flags, &path)?;
            }
            let rows = read(&path)?;
            let last = rows.last().context("a run without an epoch")?;
            let last: Vec<String> = last.iter().map(f64::to_string).collect();
            writeln!(csv, "{},{seed},{}", setting.name, last.join(","))?;
            runs.push(rows);
        }
        table += &table_row(&setting.name, &runs);
        curves.push((setting.name, runs));
    }
    fs::write(folder.join("table.md"), &table)?;
    fs::write(folder.join("table.csv"), csv)?;
    draw(&folder.join("curves.svg"), &curves)?;
    println!(
        "{table}\nmeans of {} seeds; {} has the rest",
        SEEDS.len(),
        folder.display()
    );
    Ok(())
}

fn settings(study: &str) -> Vec<Setting> {
    let setting = |name: String, flags: &[&str]| Setting {
        name,
        flags: flags.iter().map(ToString::to_string).collect(),
    };
    if study != "open-set" {
        return ["pairs", "in-batch"]
            .map(|loss| setting(loss.into(), &["--data", study, "--loss", loss]))
            .into();
    }
    let held_out = ["--hold-out-classes", "7,8,9"];
    let seven_classes = ["--classes-per-batch", "7", "--samples-per-class", "17"];
    ["2", "16"]
        .into_iter()
        .flat_map(|dim| [("pairs", dim), ("in-batch", dim)])
        .map(|(loss, dim)| {
            let mut flags = vec!["--loss", loss, "--embedding", dim];
            flags.extend(held_out);
            if loss == "in-batch" {
                flags.extend(seven_classes);
            }
            setting(format!("{loss}-{dim}d"), &flags)
        })
        .collect()
}

/// Trains once and writes the figures of every epoch, whole or not at all.
fn train(program: &str, flags: &[String], path: &Path) -> Result<()> {
    let run = path.with_extension("run");
    if run.exists() {
        // Of a study that was stopped.
        fs::remove_dir_all(&run)?;
    }
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(["fit", "--json", "--out"])
        .arg(&run)
        .args(flags)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let mut text = COLUMNS.join(",") + "\n";
    let mut images_per_step = None;
    let stdout = child.stdout.take().context("no standard output")?;
    for line in BufReader::new(stdout).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        if line.get("epoch").is_none() {
            continue;
        }
        let images_per_step = match images_per_step {
            Some(known) => known,
            None => *images_per_step.insert(images_of_a_step(&run.join("config.toml"))?),
        };
        let number = |name: &str| {
            let number = line[name].as_f64();
            number.with_context(|| format!("no {name} in {line}"))
        };
        let row = [
            number("step")? * images_per_step,
            started.elapsed().as_secs_f64(),
            cpu_seconds(child.id()),
            number("test_accuracy")?,
            number("test_auc")?,
            number("test_eer")?,
            number("test_p_at_1")?,
        ];
        writeln!(text, "{}", row.map(|value| value.to_string()).join(","))?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "{program} ended with {status}");
    let part = path.with_extension("part");
    fs::write(&part, text)?;
    fs::rename(part, path)?;
    fs::remove_dir_all(run)?;
    Ok(())
}

fn images_of_a_step(config: &Path) -> Result<f64> {
    let config: toml::Table = fs::read_to_string(config)?.parse()?;
    let key = |table: &str, key: &str| {
        let value = config
            .get(table)
            .and_then(|table| table.get(key)?.as_integer());
        value.with_context(|| format!("no {table}.{key}"))
    };
    let in_batch = config["loss"]["kind"].as_str() == Some("in-batch");
    Ok(match in_batch {
        true => key("in_batch", "classes_per_batch")? * key("in_batch", "samples_per_class")?,
        false => 2 * key("training", "pairs_per_batch")?,
    } as f64)
}

/// What a living process has used, from /proc, where times are in hundredths of a second.
fn cpu_seconds(process: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        return 0.0;
    };
    // The name, in brackets, may have spaces.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}

fn read(path: &Path) -> Result<Vec<Row>> {
    let text = fs::read_to_string(path)?;
    let row = |line: &str| -> Result<Row> {
        let values: Vec<f64> = line.split(',').map(str::parse).collect::<Result<_, _>>()?;
        values.try_into().ok().context("another number of columns")
    };
    let rows = text.lines().skip(1).map(row).collect::<Result<_>>();
    rows.with_context(|| format!("{} is damaged; delete it", path.display()))
}

fn table_row(name: &str, runs: &[Vec<Row>]) -> String {
    let mean = |column: usize| {
        let last = runs.iter().filter_map(|rows| rows.last());
        last.map(|row| row[column]).sum::<f64>() / runs.len() as f64
    };
    format!(
        "| {name} | {:.2}% | {:.4} | {:.2}% | {:.2}% | {:.0} | {:.0} |\n",
        100.0 * mean(3),
        mean(4),
        100.0 * mean(5),
        100.0 * mean(6),
        mean(1),
        mean(2)
    )
}

/// Each figure, a column, against images and against seconds, a row; a line a run.
fn draw(path: &Path, curves: &[(String, Vec<Vec<Row>>)]) -> Result<()> {
    let colours = [BLUE, RED, GREEN, MAGENTA];
    let root = SVGBackend::new(path, (1600, 800)).into_drawing_area();
    root.fill(&WHITE)?;
    let rows = || curves.iter().flat_map(|(_, runs)| runs.iter().flatten());
    for (panel, area) in root.split_evenly((2, 4)).iter().enumerate() {
        let (x, figure) = (panel / 4, panel % 4);
        let y = 3 + figure;
        let right = rows().map(|row| row[x]).fold(0.0, f64::max);
        // The first epochs are far away from all others.
        let mut values: Vec<f64> = rows().map(|row| row[y]).collect();
        values.sort_by(f64::total_cmp);
        let of_errors = FIGURES[figure] == "EER";
        let (low, high) = match of_errors {
            true => (0.0, values[values.len() * 9 / 10]),
            false => (values[values.len() / 10], 1.0),
        };
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(56)
            .caption(FIGURES[figure], ("sans-serif", 20))
            .build_cartesian_2d(0.0..right, low..high)?;
        chart
            .configure_mesh()
            .x_desc(["images seen", "seconds"][x])
            .x_labels(4)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .draw()?;
        for (at, (name, runs)) in curves.iter().enumerate() {
            let colour = colours[at % colours.len()];
            for (seed, rows) in runs.iter().enumerate() {
                let points = rows.iter().map(|row| (row[x], row[y].clamp(low, high)));
                let line = chart.draw_series(LineSeries::new(points, colour.mix(0.7)))?;
                if seed == 0 {
                    line.label(name)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
                }
            }
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .position(match of_errors {
                true => SeriesLabelPosition::UpperRight,
                false => SeriesLabelPosition::LowerRight,
            })
            .draw()?;
    }
    root.present()?;
    Ok(())
}
