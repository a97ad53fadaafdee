use crate::scratch::Scratch;

/// What a seed decides; the summary also has the time that was taken.
const DECIDED: [&str; 4] = [
    "config.toml",
    "metrics.jsonl",
    "model.safetensors",
    "embeddings.tsv",
];

#[test]
fn a_seed_gives_the_same_bits_on_one_thread_and_on_two() {
    let scratch = Scratch::new();
    // The network and the augmentation that a user gets.
    let fit = "fit --steps 5 --batch 16 --set training.log_every=1 --set data.evaluation_pairs=400";
    for (threads, rest) in [
        ("1", "--out one"),
        ("2", "--out two"),
        ("2", "--out other --seed 2"),
    ] {
        let run = scratch
            .command(&format!("{fit} {rest} --quiet"))
            .env("RAYON_NUM_THREADS", threads)
            .status();
        assert!(run.unwrap().success(), "{rest}");
    }
    for name in DECIDED {
        let [one, two, other] =
            ["one", "two", "other"].map(|run| scratch.read(&format!("{run}/{name}")));
        assert!(one == two, "{name} depends on the number of threads");
        assert!(two != other, "{name} does not depend on the seed");
    }
}

#[test]
fn a_runs_config_toml_repeats_it() {
    let scratch = Scratch::with_run();
    scratch.succeeds("fit --config run/config.toml --out again --quiet");
    for name in DECIDED {
        let [run, again] = ["run", "again"].map(|run| scratch.read(&format!("{run}/{name}")));
        assert!(run == again, "{name} is another");
    }
}

#[cfg(unix)]
#[test]
fn a_configuration_may_come_through_a_pipe() {
    use std::io::Write;
    use std::process::Stdio;

    let scratch = Scratch::new();
    for flags in [
        "",
        " --data folder:none",
        " --trunk small-resnet",
        " --trunk conv4",
    ] {
        let line = format!("fit --config /dev/stdin{flags} --print-config");
        let mut command = scratch.command(&line);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"seed = 77").unwrap();
        drop(stdin);
        let ended = child.wait_with_output().unwrap();
        let printed = String::from_utf8(ended.stdout).unwrap();
        assert!(printed.starts_with("seed = 77\n"), "{flags}: {printed}");
    }
}
