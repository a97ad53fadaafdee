use std::fs;

use safetensors::SafeTensors;
use serde_json::Value;
use verifier::{Device, Verifier};

use crate::pictures::digit;
use crate::scratch::Scratch;

/// Two pictures by their numbers, and their distance.
type Pair = (u32, u32, f32);

/// A run, the pictures `0.png`, `1.png`, … and all pairs of them, nearest first.
fn run_and_pairs(pictures: u32) -> (Scratch, Vec<Pair>) {
    let scratch = Scratch::with_run();
    let mut list = String::from("a,b\n");
    for b in 0..pictures {
        scratch.save(&format!("{b}.png"), &digit(b, 0));
        (0..b).for_each(|a| list += &format!("{a}.png,{b}.png\n"));
    }
    scratch.write("all.csv", list);
    let judged = json_lines(&scratch, "verify run --pairs all.csv --json");
    let mut pairs: Vec<Pair> = judged.iter().map(pair).collect();
    pairs.sort_by(|a, b| a.2.total_cmp(&b.2));
    assert!(pairs.windows(2).all(|two| two[0].2 < two[1].2), "{pairs:?}");
    (scratch, pairs)
}

fn pair(row: &Value) -> Pair {
    let number = |side: &str| row[side].as_str()?.strip_suffix(".png")?.parse().ok();
    let distance = row["distance"].as_f64().unwrap() as f32;
    (number("a").unwrap(), number("b").unwrap(), distance)
}

fn json_lines(scratch: &Scratch, line: &str) -> Vec<Value> {
    let printed = scratch.succeeds(line).stdout;
    let lines = printed.lines().map(serde_json::from_str);
    lines.map(Result::unwrap).collect()
}

fn list(pairs: &[Pair], same: impl Fn(usize) -> bool) -> String {
    let rows = pairs.iter().enumerate().map(|(rank, (a, b, _))| {
        let same = u8::from(same(rank));
        format!("{a}.png,{b}.png,{same}\n")
    });
    "a,b,same\n".to_string() + &rows.collect::<String>()
}

fn between(near: Pair, far: Pair) -> f64 {
    f64::from(near.2).midpoint(f64::from(far.2))
}

fn threshold(scratch: &Scratch, flags: &str) -> f64 {
    let verdict = &json_lines(scratch, &format!("verify run 0.png 0.png --json {flags}"))[0];
    verdict["threshold"].as_f64().unwrap()
}

#[test]
fn the_new_threshold_parts_the_pairs_of_the_list() {
    let (scratch, pairs) = run_and_pairs(4);
    let mut before = threshold(&scratch, "");
    for nearest in [2, 4] {
        scratch.write("pairs.csv", list(&pairs, |rank| rank < nearest));
        let chosen = &json_lines(&scratch, "calibrate run --pairs pairs.csv --json")[0];
        let expected = between(pairs[nearest - 1], pairs[nearest]);
        assert_eq!(chosen["threshold"], expected);
        assert_eq!(chosen["previous_threshold"], before);
        assert_eq!(chosen["at"], "accuracy");
        assert_eq!(chosen["same"], nearest);
        assert_eq!(chosen["different"], 6 - nearest);
        for (rate, pairs) in [("far", 6 - nearest), ("frr", nearest)] {
            assert_eq!(chosen[rate]["errors"], 0);
            // Wilson's interval without an error: 0 to z² / (n + z²).
            let high = 3.8414588 / (pairs as f64 + 3.8414588);
            let found = chosen[rate]["high"].as_f64().unwrap();
            assert!((found - high).abs() < 1e-7, "{found} for {high}");
        }

        // Away from its run, nobody knows what chose the threshold.
        scratch.write("m.safetensors", scratch.read("run/model.safetensors"));
        let judged = json_lines(&scratch, "verify m.safetensors --pairs pairs.csv --json");
        for (rank, row) in judged[..6].iter().enumerate() {
            let verdict = if rank < nearest { "same" } else { "different" };
            assert_eq!(row["verdict"], verdict, "{row}");
            assert_eq!(pair(row), pairs[rank]);
        }
        assert_eq!(judged[6]["threshold"], expected);
        before = expected;
    }
}

#[test]
fn the_operating_point_is_kept_and_others_are_chosen_on_the_list() {
    let (scratch, pairs) = run_and_pairs(8);
    // 8 same and 20 different pairs.
    let truth = |rank| rank < 5 || [8, 20, 27].contains(&rank);
    scratch.write("pairs.csv", list(&pairs, truth));
    // Ten of the different pairs may pass: those of rank 5, 6, 7 and 9 to 15.
    let strict = f64::from(pairs[15].2);
    let line = "calibrate run --pairs pairs.csv --json";
    for line in [&format!("{line} --at far=0.5"), line] {
        let chosen = &json_lines(&scratch, line)[0];
        assert_eq!(chosen["at"], "far=0.5");
        assert_eq!(chosen["threshold"], strict);
        assert_eq!(
            (&chosen["far"]["errors"], &chosen["far"]["pairs"]),
            (&10.into(), &20.into())
        );
        assert_eq!(
            (&chosen["frr"]["errors"], &chosen["frr"]["pairs"]),
            (&2.into(), &8.into())
        );
    }
    assert_eq!(threshold(&scratch, ""), strict);
    // 25 of 28 verdicts are right if the first five ranks pass; no other number is as good.
    assert_eq!(
        threshold(&scratch, "--at accuracy"),
        between(pairs[4], pairs[5])
    );

    scratch.write("pairs.csv", list(&pairs[..7], truth));
    let words = ["pairs.csv", "20 different pairs", "there are 2", "--at"];
    scratch.refuses(2, "calibrate run --pairs pairs.csv", &words);
}

#[test]
fn all_but_the_calibration_stays_as_it_was() {
    let (scratch, pairs) = run_and_pairs(4);
    scratch.write("pairs.csv", list(&pairs, |rank| rank < 2));
    let old = scratch.read("run/model.safetensors");
    let calibrate = "calibrate run/model.safetensors --pairs pairs.csv";
    let ended = scratch.succeeds(&format!("{calibrate} --out new/m.safetensors"));
    assert_eq!(ended.stderr, "wrote new/m.safetensors\n");
    assert!(
        ended.stdout.contains("2 same and 4 different pairs"),
        "{}",
        ended.stdout
    );
    assert!(scratch.read("run/model.safetensors") == old);
    let new = scratch.read("new/m.safetensors");
    let quiet = scratch.succeeds(&format!("{calibrate} --quiet"));
    assert_eq!((quiet.stdout, quiet.stderr), (String::new(), String::new()));
    assert!(scratch.read("run/model.safetensors") == new);

    let header = |bytes: &[u8]| {
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        let mut entries = header.metadata().clone().unwrap();
        let calibration = ["threshold", "calibration"].map(|key| entries.remove(key));
        (entries, calibration)
    };
    let (old_header, new_header) = (header(&old), header(&new));
    assert_eq!(old_header.0, new_header.0);
    assert_ne!(old_header.1, new_header.1);
    let tensors = |bytes: &[u8]| -> Vec<(String, Vec<u8>)> {
        let file = SafeTensors::deserialize(bytes).unwrap();
        let mut tensors = file.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let bytes = |(name, view): (String, _)| (name, safetensors::View::data(&view).to_vec());
        tensors.into_iter().map(bytes).collect()
    };
    assert!(tensors(&old) == tensors(&new));

    scratch.write("old.safetensors", old);
    let fingerprint = |name: &str| {
        let verifier = Verifier::open(scratch.path(name), &Device::Cpu).unwrap();
        verifier.fingerprint().unwrap().to_string()
    };
    assert_eq!(fingerprint("old.safetensors"), fingerprint("run"));
    for model in ["old", "new/m"] {
        scratch.succeeds(&format!(
            "embed {model}.safetensors 0.png 1.png --out {model}.e"
        ));
    }
    assert!(scratch.read("old.e") == scratch.read("new/m.e"));
}

#[test]
fn a_pair_counts_once_and_a_picture_is_no_pair() {
    let (scratch, pairs) = run_and_pairs(3);
    let once = list(&pairs, |rank| rank == 0);
    let (a, b, _) = pairs[0];
    let repeated = format!("{b}.png,{a}.png,1\n./{a}.png,{b}.png,1\n");
    scratch.write("pairs.csv", format!("{once}{repeated}2.png,./2.png,0\n"));
    let calibrate = "calibrate run --pairs pairs.csv --out m.safetensors";
    let ended = scratch.succeeds(calibrate);
    for words in ["listed before: 2\n", "of a picture with itself: 1\n"] {
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    let chosen = &json_lines(&scratch, &format!("{calibrate} --json"))[0];
    let counts = ["same", "different", "repeated", "with_itself"].map(|kind| chosen[kind].as_u64());
    assert_eq!(counts, [1, 2, 2, 1].map(Some));
    let found = chosen["threshold"].as_f64().unwrap();
    assert!(
        (found - between(pairs[0], pairs[1])).abs() < 1e-6,
        "{found}"
    );
}

#[test]
fn a_list_that_no_threshold_can_be_chosen_on_is_named() {
    let (scratch, _) = run_and_pairs(3);
    let both = "a,b,same\n0.png,1.png,1\n0.png,2.png,0\n";
    for (list, code, words) in [
        ("a,b\n0.png,1.png\n", 2, &["no column same"][..]),
        (
            "a,b,same\n0.png,1.png,1\n2.png,2.png,0\n",
            2,
            &["1 same and 0 different"],
        ),
        ("a,b,same\n0.png,1.png,0\n", 2, &["0 same and 1 different"]),
        (
            "a,b,same\n0.png,1.png,1\n0.png,2.png,0\n1.png,./0.png,0\n",
            2,
            &["lines 2 and 4", "1.png and ./0.png"],
        ),
        (
            "a,b,same\n0.png,1.png,perhaps\n",
            2,
            &["line 2", "`perhaps`"],
        ),
        (
            "a,b,same\nx.png,1.png,1\n0.png,y.png,0\n",
            1,
            &["2 pictures", "x.png", "y.png"],
        ),
    ] {
        scratch.write("pairs.csv", list);
        scratch.refuses(code, "calibrate run --pairs pairs.csv", words);
    }
    scratch.write("pairs.csv", both);
    let words = ["pairs.csv", "10000 different pairs", "there are 1", "--at"];
    scratch.refuses(2, "calibrate run --pairs pairs.csv --at far=0.001", &words);
    scratch.refuses(1, "calibrate run --pairs none.csv", &["none.csv"]);
    scratch.refuses_usage("calibrate run --pairs pairs.csv --at best", &["far=RATE"]);
    scratch.refuses_usage("calibrate run", &["--pairs"]);
    fs::write(scratch.path("file"), "").unwrap();
    scratch.refuses(
        1,
        "calibrate run --pairs pairs.csv --out file/m",
        &["file/m"],
    );
}

#[test]
fn a_run_in_training_is_not_calibrated() {
    let (scratch, pairs) = run_and_pairs(3);
    scratch.write("pairs.csv", list(&pairs, |rank| rank == 0));
    let lock = files::lock(&scratch.path("run/.lock")).unwrap();
    for model in ["run", "run/model.safetensors"] {
        let line = format!("calibrate {model} --pairs pairs.csv");
        scratch.refuses(2, &line, &["run is being trained by another program"]);
    }
    drop(lock);
    scratch.succeeds("calibrate run --pairs pairs.csv");

    fs::remove_file(scratch.path("run/model.safetensors")).unwrap();
    let words = ["no trained model yet", "--resume run"];
    scratch.refuses(2, "calibrate run --pairs pairs.csv", &words);
}

#[test]
fn copies_under_two_names_are_one_picture() {
    let (scratch, pairs) = run_and_pairs(3);
    for name in 0..3 {
        let picture = scratch.read(&format!("{name}.png"));
        scratch.write(&format!("copy{name}.png"), picture);
    }
    let once = list(&pairs, |rank| rank == 0);
    let (a, b, _) = pairs[0];
    scratch.write(
        "pairs.csv",
        format!("{once}copy{b}.png,{a}.png,1\n1.png,copy1.png,1\n"),
    );
    let line = "calibrate m.safetensors --pairs pairs.csv";
    scratch.write("m.safetensors", scratch.read("run/model.safetensors"));
    let chosen = &json_lines(&scratch, &format!("{line} --json"))[0];
    let counts = ["same", "different", "repeated", "with_itself"].map(|kind| chosen[kind].as_u64());
    assert_eq!(counts, [1, 2, 1, 1].map(Some));
    let unknown = "note: which pictures the model was trained on is not known";
    assert!(scratch.succeeds(line).stderr.starts_with(unknown));

    let contradiction = format!("{once}copy{b}.png,{a}.png,0\n");
    scratch.write("pairs.csv", contradiction);
    scratch.refuses(
        2,
        "calibrate run --pairs pairs.csv",
        &["lines 2 and 5", &format!("copy{b}.png and {a}.png")],
    );
}

#[test]
fn pictures_that_chose_the_threshold_give_no_figures_and_may_choose_again() {
    let (scratch, pairs) = run_and_pairs(4);
    scratch.write("pairs.csv", list(&pairs, |rank| rank < 2));
    let queries = || json_lines(&scratch, "evaluate run --json")[0]["retrieval"]["queries"].clone();
    assert_eq!(queries(), 2000);
    scratch.succeeds("calibrate run --pairs pairs.csv");
    let records = scratch.text("run/data.csv");
    assert_eq!(records.matches("\ncalibrated,,").count(), 4);
    assert_eq!(queries(), 1996);
    let ended = scratch.succeeds("evaluate run");
    assert!(
        ended.stderr.contains("4 images held out are copies"),
        "{}",
        ended.stderr
    );

    scratch.succeeds("calibrate run --pairs pairs.csv");
    assert_eq!(scratch.text("run/data.csv"), records);
    let ended = scratch.succeeds("verify run --pairs pairs.csv");
    assert!(ended.stderr.contains("made with: 6\n"), "{}", ended.stderr);

    // A network of another input size sees other pixels in the same file.
    let other = records
        .lines()
        .map(|row| match row.strip_prefix("calibrated") {
            Some(row) => format!("train{}{}\n", &row[..row.len() - 16], "0".repeat(16)),
            None => format!("{row}\n"),
        });
    scratch.write("run/data.csv", other.collect::<String>());
    scratch.refuses(2, "calibrate run --pairs pairs.csv", &["6 of pictures"]);
}
