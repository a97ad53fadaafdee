#![expect(unsafe_code, reason = "signals")]

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::scratch::{Ended, Scratch};

const FIT: &str = "fit --config quick.toml --steps 400 --out";

fn send(signal: libc::c_int, child: Child) -> Ended {
    // SAFETY: it touches no memory; the child has not been waited for, so its number is still its own.
    let sent = unsafe { libc::kill(child.id().cast_signed(), signal) };
    assert_eq!(sent, 0, "{}", io::Error::last_os_error());
    child.wait_with_output().unwrap().into()
}

/// Starts the run `stopped` and sends it `signal` once it has logged some steps.
fn stop(signal: libc::c_int, scratch: &Scratch) -> Ended {
    let mut child = scratch
        .command(&format!("{FIT} stopped"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let logged = || match fs::read_to_string(scratch.path("stopped/metrics.jsonl")) {
        Ok(metrics) => metrics.lines().count(),
        Err(_) => 0,
    };
    while logged() < 20 {
        assert!(child.try_wait().unwrap().is_none(), "ended by itself");
        thread::sleep(Duration::from_millis(2));
    }
    send(signal, child)
}

/// How many of the run `stopped`'s newest checkpoints there are.
fn checkpoints(scratch: &Scratch) -> usize {
    let names = fs::read_dir(scratch.path("stopped/checkpoints")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("step-")).count()
}

#[test]
fn an_interrupted_run_that_is_resumed_ends_as_if_it_had_not_been() {
    let scratch = Scratch::new();
    scratch.succeeds(&format!("{FIT} whole --quiet"));

    let stopped = stop(libc::SIGINT, &scratch);
    assert_eq!(stopped.code, Some(130), "{}", stopped.stderr);
    let last = stopped.stderr.lines().last().unwrap();
    assert!(last.starts_with("stopped after step "), "{last}");
    assert!(last.contains("`train fit --resume stopped`"), "{last}");
    assert_eq!(stopped.stdout, "");
    assert_eq!(checkpoints(&scratch), 1);
    for result in ["summary.json", "model.safetensors", "report.html"] {
        assert!(!scratch.path("stopped").join(result).exists(), "{result}");
    }

    // A run that is killed has logged steps beyond its checkpoint, the last perhaps in part.
    let mut metrics = scratch.text("stopped/metrics.jsonl");
    assert!(metrics.lines().count() < 400);
    metrics += "{\"step\":399,\"loss\":9.0,\"learning_rate\":1.0}\n{\"step\":400,\"lo";
    scratch.write("stopped/metrics.jsonl", metrics);

    let resumed = scratch.succeeds("fit --resume stopped");
    assert!(
        resumed.stderr.contains("going on after step"),
        "{}",
        resumed.stderr
    );
    for name in [
        "config.toml",
        "metrics.jsonl",
        "model.safetensors",
        "embeddings.tsv",
    ] {
        let [whole, stopped] =
            ["whole", "stopped"].map(|run| scratch.read(&format!("{run}/{name}")));
        assert!(whole == stopped, "{name} is another");
    }
}

#[test]
fn a_terminated_run_stops_as_an_interrupted_one_and_says_how_to_get_its_model() {
    let scratch = Scratch::new();
    let stopped = stop(libc::SIGTERM, &scratch);
    assert_eq!(stopped.code, Some(130), "{}", stopped.stderr);
    assert_eq!(checkpoints(&scratch), 1);
    for line in [
        "evaluate stopped",
        "report stopped",
        "embed stopped --out e",
    ] {
        scratch.refuses(2, line, &["`train fit --resume stopped`"]);
    }
}

#[test]
fn a_run_stopped_before_its_first_checkpoint_starts_again() {
    let scratch = Scratch::new();
    scratch.succeeds("fit --config quick.toml --steps 3 --out whole --quiet");
    fs::create_dir(scratch.path("begun")).unwrap();
    scratch.write("begun/config.toml", scratch.read("whole/config.toml"));
    scratch.write("begun/metrics.jsonl", "{\"st");
    scratch.succeeds("fit --resume begun --quiet");
    assert!(scratch.read("begun/model.safetensors") == scratch.read("whole/model.safetensors"));
    assert_eq!(
        scratch.text("begun/metrics.jsonl"),
        scratch.text("whole/metrics.jsonl")
    );
}

#[test]
fn without_a_terminal_progress_is_plain_lines_on_standard_error() {
    let scratch = Scratch::new();
    let mut child = scratch
        .command("fit --config quick.toml --steps 1000000 --out run")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let described = lines.next().unwrap().unwrap();
    assert!(described.contains("7599 images of digits"), "{described}");
    let progress = lines.next().unwrap().unwrap();
    let ended = send(libc::SIGINT, child);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""));
    assert!(progress.starts_with("step "), "{progress:?}");
    for part in ["/1000000", "loss 0.", "pairs/s", "s left"] {
        assert!(progress.contains(part), "{progress:?}");
    }
    assert!(!progress.contains(char::is_control), "{progress:?}");
}
