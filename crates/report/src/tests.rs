use crate::downsample::{beyond, centred_mean, even_over_classes, extremes};
use crate::figures::embedding_map::lift_apart;
use crate::figures::{confusion, mistakes, neighbours};
use crate::pca::Plane;
use crate::{Page, Report, TrainingImages, render};
use base64::{Engine, engine::general_purpose::STANDARD};
use data::{ImageShape, LabelledImages, Pair};
use metrics::Embeddings;

/// What a [`Report`] borrows: `classes` tidy islands on a circle, `n` images.
struct Run {
    facts: Vec<(&'static str, String)>,
    results: Vec<(&'static str, String)>,
    train_loss: Vec<(u64, f64)>,
    test_loss: Vec<(u64, f64)>,
    embeddings: Embeddings,
    images: LabelledImages,
    roc: Vec<(f64, f64)>,
    pairs: Vec<Pair>,
    distances: Vec<f32>,
    training: Result<TrainingImages, String>,
}

/// A fixed sequence in 0..1 (multiples of the golden ratio).
fn spread(i: usize) -> f32 {
    (i as f64 * 0.618_033_988_749_895).fract() as f32
}

/// Images of that shape, the first of class 0, the next of class 1 and so on by turns.
fn images(shape: [usize; 3], n: usize, classes: &[String]) -> LabelledImages {
    let shape = ImageShape::try_from(shape).unwrap();
    let pixels = (0..n * shape.values()).map(|i| (255.0 * spread(i)) as u8);
    let labels = (0..n).map(|i| (i % classes.len()) as u32);
    LabelledImages::new(shape, pixels.collect(), labels.collect(), classes.to_vec()).unwrap()
}

fn run(n: usize, classes: usize, dim: usize) -> Run {
    let names: Vec<String> = (0..classes).map(|c| c.to_string()).collect();
    let images = images([1, 4, 4], n, &names);
    let labels = images.labels();
    let embeddings = (0..n * dim)
        .map(|i| {
            let angle = labels[i / dim] as f32 + (i % dim) as f32;
            angle.cos() + 0.2 * spread(i)
        })
        .collect();
    // The i-th image with the one of its class before it, and with the one before it.
    let pair = |i: usize, back: usize| {
        let (first, second) = (i, (i + n - back % n) % n);
        Pair {
            first: first as u32,
            second: second as u32,
            similar: labels[first] == labels[second],
        }
    };
    let pairs: Vec<Pair> = (0..n)
        .flat_map(|i| [pair(i, classes), pair(i, 1)])
        .collect();
    let distances = pairs
        .iter()
        .enumerate()
        .map(|(i, pair)| match pair.similar {
            true => 0.4 * spread(i),
            false => 0.3 + spread(i),
        });
    Run {
        distances: distances.collect(),
        pairs,
        training: Err("<no> training images".into()),
        facts: vec![("seed", "7".into())],
        results: vec![("accuracy", "0.9728".into()), ("AUC", "0.9935".into())],
        train_loss: (0..n as u64).map(|s| (s, 1.0 / (s + 1) as f64)).collect(),
        test_loss: (1..=5)
            .map(|e| (e * n as u64 / 5, 0.1 / e as f64))
            .collect(),
        embeddings: Embeddings::new(embeddings, dim).unwrap(),
        images,
        roc: (0..=2 * n)
            .map(|i| i as f64 / (2 * n) as f64)
            .map(|f| (f, f.powf(0.05)))
            .collect(),
    }
}

impl Run {
    fn report(&self) -> Report<'_> {
        Report {
            title: "Siamese network",
            facts: &self.facts,
            results: &self.results,
            notes: &[],
            config: "seed = 7\n",
            train_loss: &self.train_loss,
            test_loss: &self.test_loss,
            embeddings: &self.embeddings,
            images: &self.images,
            roc: &self.roc,
            eer: 0.03,
            operating_point: (0.02, 0.96),
            pairs: &self.pairs,
            distances: &self.distances,
            threshold: 0.35,
            margin: 1.0,
            training: &self.training,
        }
    }

    fn page(&self) -> String {
        let Page { html: page, .. } = render(&self.report()).unwrap();
        // What files on the page spell in base64 says nothing.
        let said: String = page
            .split("base64,")
            .map(|part| part.split_once('"').map_or(part, |(_, after)| after))
            .collect();
        assert!(
            !said.contains("NaN") && !said.contains(">inf"),
            "a number has gone bad"
        );
        assert_eq!(
            page.matches("role=\"img\" aria-label=\"").count(),
            5,
            "charts with a name"
        );
        page
    }
}

#[test]
fn every_result_and_fact_is_on_the_page() {
    let run = run(200, 10, 2);
    let page = run.page();
    for (label, value) in run.results.iter().chain(&run.facts) {
        let row = format!("<th scope=\"row\">{label}</th><td>{value}</td>");
        assert!(page.contains(&row), "{row}");
    }
    for figure in [
        "equal error rate 3.0%",
        "accepts 96.0%",
        "threshold 0.350",
        "margin 1.000",
    ] {
        assert!(page.contains(figure), "{figure}");
    }
}

#[test]
fn users_text_is_escaped_in_html_and_in_charts() {
    let mut run = run(20, 2, 2);
    let names = ["<b>&\"x\", ü".to_owned(), "</script></svg>".to_owned()];
    run.images = images([1, 4, 4], 20, &names);
    run.facts[0].1 = "<script>alert(1)</script>".into();
    let page = run.page();
    for raw in ["<b>", "<script>alert"] {
        assert!(!page.contains(raw), "{raw} got through");
    }
    assert!(page.contains("&lt;b&gt;&amp;&quot;x&quot;, ü"));
    assert_eq!(page.matches("<script").count(), 2, "points and program");
    assert_eq!(page.matches("</script").count(), 2, "points and program");
    let points = page.split_once("type=\"application/json\">").unwrap().1;
    let points = points.split_once("</script>").unwrap().0;
    let points: serde_json::Value = serde_json::from_str(points).unwrap();
    assert_eq!(points["classes"], serde_json::json!(names));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn the_page_loads_nothing() {
    let page = run(200, 10, 2).page().replace("http-equiv", "");
    // The name of an XML namespace, never fetched.
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for load in ["http", "@import", "srcset", "<iframe", "fetch("] {
        assert!(!page.contains(load), "{load}");
    }
    for load in ["src=\"", "href=\"", "url("] {
        for (at, _) in page.match_indices(load) {
            let found = &page[at + load.len()..][..5];
            assert_eq!(found, "data:", "{load}");
        }
    }
}

#[test]
fn the_policy_names_the_only_script() {
    let page = run(20, 2, 2).page();
    assert!(page.contains(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    ));
    assert!(!page.contains(" onclick=") && !page.contains("javascript:"));
}

#[test]
fn every_figure_has_its_data_on_the_page_and_as_a_table() {
    let mut run = run(60, 3, 2);
    let names = [
        "a, b".to_owned(),
        "\"quoted\"".to_owned(),
        "line\nfeed".to_owned(),
    ];
    run.images = images([3, 5, 4], 60, &names);
    let page = render(&run.report()).unwrap();
    let tables: Vec<&str> = page.tables.iter().map(|table| table.name).collect();
    let all = [
        "map",
        "loss",
        "distances",
        "roc",
        "mistakes",
        "neighbours",
        "confusion",
    ];
    assert_eq!(tables, all);
    for table in &page.tables {
        let link = super::pictures::data_link("text/csv;charset=utf-8", table.csv.as_bytes());
        assert!(page.html.contains(&link), "{}", table.name);
    }
    let map = &page.tables[0].csv;
    assert!(map.starts_with("image,class,x,y\n"));
    for (image, name) in [
        (0, "\"a, b\""),
        (1, "\"\"\"quoted\"\"\""),
        (2, "\"line\nfeed\""),
    ] {
        let place = run.embeddings.row(image);
        let row = format!(
            "\n{image},{name},{},{}\n",
            f64::from(place[0]),
            f64::from(place[1])
        );
        assert!(map.contains(&row), "{row}");
    }
    assert_eq!(
        map.lines().count(),
        1 + 60 + 20,
        "a third of the rows takes two lines"
    );
}

#[test]
fn training_images_are_on_the_page_in_rows_as_far_as_they_fit_or_the_reason_is() {
    let mut run = run(20, 2, 2);
    assert!(run.page().contains("&lt;no&gt; training images"));
    // Five in their own 28x28 pixels with 4 between them are 156 wide: three times that is below 480.
    // A row of five 64x48 in colour has 46,080 values: four of the six rows are within 200,000. Of 128x96
    // there is half of each side.
    for (shape, size, rows, shown) in [
        ([1, 28, 28], (156, 188), 6, "width=\"468\" height=\"564\""),
        ([3, 64, 48], (256, 268), 4, "width=\"256\" height=\"268\""),
        (
            [3, 128, 96],
            (256, 268),
            4,
            "Shown smaller than they are, 96x128 pixels.",
        ),
    ] {
        let cells = images(shape, 30, &["a".into()]);
        let last = (rows - 1) * 5 + 4;
        let corner = cells.image(last)[0];
        run.training = Ok(TrainingImages { cells, columns: 5 });
        let page = render(&run.report()).unwrap().html;
        assert!(page.contains(shown), "{shape:?}");
        let (_, section) = page.split_once("<section id=\"training\">").unwrap();
        let (_, png) = section.split_once("data:image/png;base64,").unwrap();
        let (png, _) = png.split_once('"').unwrap();
        let sheet = image::load_from_memory(&STANDARD.decode(png).unwrap()).unwrap();
        assert_eq!((sheet.width(), sheet.height()), size);
        if shape[1] <= 64 {
            let [height, width] = [shape[1], shape[2]].map(|side| side as u32);
            let place = (4 * (width + 4), (rows as u32 - 1) * (height + 4));
            assert_eq!(sheet.to_rgb8().get_pixel(place.0, place.1).0[0], corner);
        }
    }
}

#[test]
fn mistakes_are_the_pairs_on_the_wrong_side_the_worst_first() {
    let mut run = run(6, 2, 1);
    let pair = |first, second| Pair {
        first,
        second,
        similar: first % 2 == second % 2,
    };
    run.pairs = vec![
        pair(0, 2),
        pair(0, 1),
        pair(1, 3),
        pair(2, 3),
        pair(4, 2),
        pair(4, 5),
    ];
    run.distances = vec![0.36, 0.34, 0.9, 0.1, 0.35, 0.36];
    let report = run.report();
    assert_eq!(mistakes::worst(&report, true), [2, 0], "rejected");
    assert_eq!(mistakes::worst(&report, false), [3, 1], "accepted");
    let cells = confusion::cells(&report);
    let counts = |a, b| (cells[&(a, b)].pairs, cells[&(a, b)].wrong);
    assert_eq!(counts(0, 0), (2, 1));
    assert_eq!(counts(0, 1), (3, 2));
    assert_eq!(counts(1, 1), (1, 1));
}

#[test]
fn neighbours_are_the_nearest_others() {
    let mut run = run(5, 1, 1);
    run.embeddings = Embeddings::new(vec![0.0, 5.0, -1.0, 2.0, 0.0], 1).unwrap();
    let found = neighbours::nearest(&run.report(), 0).unwrap();
    let found: Vec<_> = found.iter().map(|n| (n.index, n.distance)).collect();
    assert_eq!(found, [(4, 0.0), (2, 1.0), (3, 2.0), (1, 5.0)]);
}

#[test]
fn a_hundred_classes_of_coloured_images_of_any_shape_fit() {
    let mut run = run(2500, 100, 128);
    let names: Vec<String> = (0..100).map(|class| format!("class {class}")).collect();
    run.images = images([3, 64, 48], 2500, &names);
    let page = run.page();
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    assert!(page.contains("of 2,500 images") && page.contains("128 dimensions"));
}

#[test]
fn ten_thousand_images_stay_under_two_megabytes() {
    for (classes, dim) in [(10, 2), (26, 64)] {
        let page = run(10_000, classes, dim).page();
        assert!(page.len() < 2_000_000, "{} bytes", page.len());
        assert!(
            page.contains("of 10,000 images"),
            "says that it draws fewer"
        );
    }
}

#[test]
fn every_ink_in_the_charts_turns_with_the_theme() {
    let page = run(300, 10, 2).page();
    let (style, body) = page.split_once("</style>").unwrap();
    let colours = body
        .match_indices("\"#")
        .map(|(at, _)| &body[at + 1..at + 8]);
    let mut seen = 0;
    for colour in colours {
        let lower = colour[1..].chars().any(|c| c.is_ascii_lowercase());
        assert!(
            !lower && style.contains(&format!("[fill=\"{colour}\"]")),
            "{colour}"
        );
        seen += 1;
    }
    assert!(seen > 300, "{seen} colours");
}

#[test]
fn edges_render() {
    for dim in [1, 2, 3, 10] {
        for (n, classes) in [(1, 1), (2, 2), (30, 26)] {
            run(n, classes, dim).page();
        }
        let mut constant = run(20, 4, dim);
        constant.embeddings = Embeddings::new(vec![0.5; 20 * dim], dim).unwrap();
        constant.page();
    }

    let mut flat = run(20, 4, 2);
    flat.test_loss.clear();
    flat.train_loss = vec![(7, 0.0)];
    flat.distances.fill(0.0);
    let steps = flat.page().matches(">\n7\n</text>").count();
    assert_eq!(steps, 1, "the only step is named once");

    let mut zero_loss = run(200, 4, 2);
    zero_loss.train_loss[150..]
        .iter_mut()
        .for_each(|p| p.1 = 0.0);
    zero_loss.page();

    let nothing = Run {
        training: Err(String::new()),
        facts: vec![],
        results: vec![],
        train_loss: vec![],
        test_loss: vec![],
        embeddings: Embeddings::new(vec![], 2).unwrap(),
        images: LabelledImages::new(ImageShape::MNIST, vec![], vec![], vec![]).unwrap(),
        roc: vec![],
        pairs: vec![],
        distances: vec![],
    };
    nothing.page();
    let report = Report {
        threshold: 0.0,
        margin: 0.0,
        ..nothing.report()
    };
    render(&report).unwrap();
    for (eer, operating_point) in [(0.0, (0.0, 1.0)), (0.5, (1.0, 0.0))] {
        render(&Report {
            eer,
            operating_point,
            ..nothing.report()
        })
        .unwrap();
    }
}

#[test]
fn what_does_not_fit_together_is_refused_by_name() {
    let run = run(20, 4, 2);
    let refusal = |report: Report| match render(&report) {
        Ok(_) => "nothing refused".to_owned(),
        Err(error) => error.to_string(),
    };
    let short = refusal(Report {
        embeddings: &Embeddings::new(run.embeddings.values()[2..].into(), 2).unwrap(),
        ..run.report()
    });
    assert!(
        short.contains("38 embedding values") && short.contains("expected 40"),
        "{short}"
    );
    let unpaired = refusal(Report {
        distances: &run.distances[1..],
        ..run.report()
    });
    assert!(unpaired.contains("39 distances for 40 pairs"), "{unpaired}");
    let stranger = Pair {
        first: 20,
        second: 0,
        similar: true,
    };
    let strange = refusal(Report {
        pairs: &[stranger],
        distances: &[0.5],
        ..run.report()
    });
    assert!(strange.contains("20 images"), "{strange}");
    let diverged = refusal(Report {
        train_loss: &[(1, f64::INFINITY)],
        ..run.report()
    });
    assert!(diverged.contains("train_loss"), "{diverged}");
}

#[test]
fn principal_axes_find_the_plane_the_points_lie_in() {
    // u and v are orthogonal; the spread along u is three times that along v.
    let (u, v) = ([0.6, 0.0, 0.8, 0.0], [0.0, 1.0, 0.0, 0.0]);
    let coordinates: Vec<(f32, f32)> = (0..500)
        .map(|i| (3.0 * (spread(i) - 0.5), spread(7 * i + 3) - 0.5))
        .collect();
    let rows: Vec<Vec<f32>> = coordinates
        .iter()
        .map(|(a, b)| (0..4).map(|d| 5.0 + a * u[d] + b * v[d]).collect())
        .collect();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let plane = Plane::of(&rows, 4);
    let places: Vec<(f64, f64)> = rows.iter().map(|row| plane.place(row)).collect();
    let kept = plane.kept();
    assert!(
        (kept - 1.0).abs() < 1e-6,
        "a plane keeps everything, not {kept}"
    );
    for (i, j) in [(0, 1), (10, 400), (77, 78)] {
        let (a, b) = (coordinates[i], coordinates[j]);
        let expected = f64::from((a.0 - b.0).hypot(a.1 - b.1));
        let found = (places[i].0 - places[j].0).hypot(places[i].1 - places[j].1);
        assert!((expected - found).abs() < 1e-5, "{expected} became {found}");
    }
    let variance = |f: fn(&(f64, f64)) -> f64| places.iter().map(|p| f(p).powi(2)).sum::<f64>();
    let ratio = variance(|p| p.0) / variance(|p| p.1);
    assert!((8.0..10.0).contains(&ratio), "first axis first: {ratio}");
}

#[test]
fn thinning_a_rising_curve_moves_it_by_less_than_the_tolerance() {
    let curve: Vec<(f64, f64)> = (0..=20_000)
        .map(|i| i as f64 / 20_000.0)
        .map(|f| (f, f.powf(0.05)))
        .collect();
    let kept = beyond(&curve, 1e-3);
    assert!(kept.len() <= 2001, "{}", kept.len());
    assert_eq!(
        (kept[0], kept[kept.len() - 1]),
        (curve[0], curve[curve.len() - 1])
    );
    for (x, y) in curve {
        let near = kept
            .iter()
            .any(|k| (k.0 - x).abs() < 1e-3 && (k.1 - y).abs() < 1e-3);
        assert!(near, "({x}, {y}) is lost");
    }
}

#[test]
fn thinning_keeps_spikes_and_smoothing_keeps_a_constant() {
    let mut loss: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 0.25)).collect();
    let smooth = centred_mean(&loss, 100, 300);
    assert!(smooth.len() <= 302 && smooth.iter().all(|p| (p.1 - 0.25).abs() < 1e-12));
    assert_eq!(smooth[smooth.len() - 1].0, 9999.0);
    loss[4321].1 = 9.0;
    let raw = extremes(&loss, 300);
    assert!(
        raw.len() <= 600 && raw.contains(&(4321.0, 9.0)),
        "{}",
        raw.len()
    );
    assert!(
        raw.is_sorted_by(|a, b| a.0 < b.0),
        "in the order of the steps"
    );
}

#[test]
fn rows_are_drawn_evenly_over_classes_of_any_size() {
    let labels: Vec<u32> = (0..1000).map(|i| u32::from(i >= 990)).collect();
    let rows = even_over_classes(&labels, 3, 100);
    assert_eq!(
        rows.iter().filter(|r| **r >= 990).count(),
        10,
        "the small class in full"
    );
    assert_eq!(
        rows.iter().filter(|r| **r < 990).count(),
        50,
        "the large one up to its share"
    );
    let mut distinct = rows.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), rows.len());
    assert!(
        rows.iter().any(|r| (900..990).contains(r)),
        "from all over the class"
    );
}

#[test]
fn class_names_do_not_cover_each_other() {
    let crowd = (0..26).map(|i| {
        (
            0.1 * f64::from(spread(i)),
            0.1 * f64::from(spread(3 * i + 1)),
        )
    });
    let mut names: Vec<_> = crowd.map(|place| ("class".to_owned(), place)).collect();
    names.push(("far".to_owned(), (9.0, 0.05)));
    lift_apart(&mut names, 0.01, 0.1);
    for (i, (a, b)) in names.iter().enumerate().map(|(i, name)| (i, name.1)) {
        for (x, y) in names[..i].iter().map(|name| name.1) {
            assert!(
                (a - x).abs() >= 0.04 || (b - y).abs() > 0.0999,
                "({a}, {b}) on ({x}, {y})"
            );
        }
    }
    let far = names.iter().find(|name| name.0 == "far");
    assert_eq!(far.unwrap().1, (9.0, 0.05), "nothing to give way to");
}
