use crate::scratch::Scratch;

#[test]
fn an_unknown_flag_or_command_is_named() {
    let scratch = Scratch::new();
    scratch.refuses_usage("fit --bogus", &["--bogus"]);
    scratch.refuses_usage("fitt", &["fitt", "fit"]);
    scratch.refuses_usage("fit --step 5", &["--step", "--steps"]);
    scratch.refuses_usage("fit --steps many", &["many", "--steps"]);
    scratch.refuses_usage("fit --preset caffeine", &["caffeine", "caffe"]);
    scratch.refuses_usage("verify run a.png", &["<SECOND>"]);
}

#[test]
fn flags_that_contradict_each_other_are_named() {
    let scratch = Scratch::new();
    scratch.refuses_usage("fit --json --quiet", &["--json", "--quiet"]);
    scratch.refuses_usage("fit --steps 1 --epochs 1", &["--steps", "--epochs"]);
    scratch.refuses_usage("fit --resume run --seed 2", &["--resume", "--seed"]);
}

#[test]
fn a_setting_that_does_not_exist_is_answered_with_the_nearest() {
    let scratch = Scratch::new();
    for (set, nearest) in [
        ("optimiser.learning_rat=1", "`optimiser.learning_rate`"),
        ("los.margin=1", "`loss`"),
        ("seeds=1", "`seed`"),
    ] {
        scratch.refuses(2, &format!("fit --set {set}"), &[nearest]);
    }
}

#[test]
fn a_setting_of_the_wrong_kind_or_size_is_named() {
    let scratch = Scratch::new();
    for (flags, words) in [
        ("--set net.embedding=two", &["`net.embedding`", "two"][..]),
        (
            "--set training.log_every=1.5",
            &["`training.log_every`", "1.5"],
        ),
        ("--set schedule=fast", &["`schedule`"]),
        ("--set seed=-1", &["`seed`", "-1"]),
        ("--set loss.variant=hadsel", &["`loss.variant`", "hadsell"]),
        ("--set seed", &["`seed`", "KEY=VALUE"]),
        ("--set data.evaluation_pairs=1", &["data.evaluation_pairs"]),
        (
            "--set data.evaluation_pairs=1000000000000",
            &["data.evaluation_pairs"],
        ),
        ("--variant cosine", &["cosine", "hadsell"]),
        ("--pairing random", &["random", "balanced"]),
        ("--learning-rate nan", &["optimiser.learning_rate", "NaN"]),
        ("--margin 0", &["margin"]),
        ("--margin -1", &["margin", "-1"]),
        ("--embedding 0", &["embedding", "from 1"]),
        ("--embedding 4000000000", &["embedding", "4000000000"]),
        (
            "--set transform.shift=28",
            &["transform.shift", "28 pixels"],
        ),
        ("--batch 0", &["training.pairs_per_batch", "at least 1"]),
        (
            "--loss pairs --batch 5000",
            &["5000 pairs", "7599", "training.pairs_per_batch"],
        ),
        ("--steps 0", &["0 steps", "training.length"]),
        ("--epochs 0", &["0 epochs", "training.length"]),
        ("--data cifar", &["`cifar`", "`mnist:DIR`"]),
    ] {
        scratch.refuses(2, &format!("fit {flags}"), words);
    }
}

#[test]
fn a_fraction_that_leaves_too_few_images_to_pair_is_named() {
    let scratch = Scratch::new();
    for fraction in ["0.00001", "0.9999"] {
        let line = format!("fit --config quick.toml --batch 2 --set data.validation={fraction}");
        scratch.refuses(1, &line, &["hold out", "data.validation"]);
    }
}

#[test]
fn a_length_whose_steps_would_overflow_is_refused() {
    let scratch = Scratch::new();
    for length in ["18446744073709551615", "9000000000000000000"] {
        scratch.refuses(2, &format!("fit --epochs {length}"), &[length]);
        scratch.refuses(2, &format!("fit --steps {length}"), &[length]);
    }
    scratch.refuses_usage("fit --epochs 99999999999999999999", &["--epochs"]);
}

#[test]
fn a_configuration_file_is_refused_with_its_name_and_the_place() {
    let scratch = Scratch::new();
    scratch.refuses(1, "fit --config none.toml", &["none.toml"]);
    scratch.write("bad.toml", "seed = 1\nmargin = = 2\n");
    scratch.refuses(2, "fit --config bad.toml", &["bad.toml", "line 2"]);
    scratch.write("twice.toml", "seed = 1\nseed = 2\n");
    scratch.refuses(2, "fit --config twice.toml", &["twice.toml", "line 2"]);
    scratch.write("unknown.toml", "[loss]\nmargins = 1\n");
    scratch.refuses(
        2,
        "fit --config unknown.toml",
        &["unknown.toml", "`loss.margin`"],
    );
    scratch.write("kind.toml", "[loss]\nmargin = \"wide\"\n");
    scratch.refuses(2, "fit --config kind.toml", &["kind.toml", "`loss.margin`"]);
    scratch.write("binary.toml", [0xff, 0xfe, 0, 1]);
    scratch.refuses(1, "fit --config binary.toml", &["binary.toml", "UTF-8"]);
}
