//! Runs that are killed, starved and spoilt, and go on.

#![expect(unsafe_code, reason = "signals and limits")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scratch::Scratch;

/// A checkpoint after each of its 30 steps.
const FIT: &str =
    "fit --config quick.toml --steps 30 --batch 8 --set training.checkpoint_seconds=0 --quiet";

/// What a configuration decides; the rest has times in it.
const DECIDED: [&str; 4] = [
    "config.toml",
    "metrics.jsonl",
    "model.safetensors",
    "embeddings.tsv",
];

#[track_caller]
fn same(scratch: &Scratch, one: &str, other: &str) {
    for name in DECIDED {
        let [one, other] = [one, other].map(|run| scratch.read(&format!("{run}/{name}")));
        assert!(one == other, "{name} is another");
    }
}

fn begin_or_resume(scratch: &Scratch, run: &str, fit: &str) -> Child {
    let line = match scratch.path(run).join("config.toml").exists() {
        true => format!("fit --resume {run} --quiet"),
        false => format!("{fit} --out {run}"),
    };
    let mut command = scratch.command(&line);
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// Whether a file is there that is not yet whole.
fn writing(scratch: &Scratch, run: &str) -> bool {
    let folders = ["", "checkpoints", "report"].map(|name| scratch.path(run).join(name));
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok());
    entries.flatten().flatten().any(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().starts_with(b".writing-")
    })
}

/// Steps of [`FIT`].
const STEPS: u64 = 30;

/// The newest checkpoint's step, or 0.
fn newest(scratch: &Scratch, run: &str) -> u64 {
    let entries = fs::read_dir(scratch.path(run).join("checkpoints"));
    let steps = entries.into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
        step.parse::<u64>().ok()
    });
    steps.max().unwrap_or_default()
}

/// What the kills have met.
#[derive(Debug, Default)]
struct Kills {
    all: usize,
    /// Left a file that was not whole.
    torn: usize,
    /// Left a checkpoint of some of the steps.
    midway: usize,
    runs: usize,
}

/// Kills runs `most` times until each is finished: in turns at any moment, at some step, and as soon as
/// a file is being written after some step.
fn kill_again_and_again(most: usize, scratch: &Scratch, fit: &str, whole: &str) -> Kills {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut kills = Kills::default();
    let started = Instant::now();
    scratch.succeeds(&format!("{fit} --out timed"));
    let length = started.elapsed();
    while kills.all < most {
        let run = format!("run-{}", kills.runs);
        loop {
            let from = newest(scratch, &run);
            let mut child = begin_or_resume(scratch, &run, fit);
            let started = Instant::now();
            let delay = length.mul_f64(rng.random());
            let step = rng
                .random_range(from..STEPS.max(from + 1))
                .min(from + STEPS / 3);
            let due = || match kills.all % 3 {
                0 => started.elapsed() >= delay,
                1 => newest(scratch, &run) > step,
                _ => newest(scratch, &run) > step && writing(scratch, &run),
            };
            let ended = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break Some(status);
                }
                if kills.all < most && due() {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    break None;
                }
                thread::yield_now();
            };
            match ended {
                None => {
                    kills.all += 1;
                    kills.torn += usize::from(writing(scratch, &run));
                    kills.midway += usize::from((1..STEPS).contains(&newest(scratch, &run)));
                }
                Some(status) => {
                    let ended = child.wait_with_output().unwrap();
                    let said = String::from_utf8_lossy(&ended.stderr);
                    // Killed after its last act.
                    let finished = said.contains("is finished; there is nothing to resume");
                    assert!(status.success() || finished, "{said}");
                    break;
                }
            }
        }
        same(scratch, &run, whole);
        assert!(!writing(scratch, &run), "an unfinished file is left");
        kills.runs += 1;
    }
    assert!(2 * kills.midway >= kills.all, "{kills:?}");
    kills
}

#[test]
fn a_run_killed_at_some_moments_ends_as_one_that_was_not() {
    let in_batch = "--loss in-batch --classes-per-batch 4 --samples-per-class 4";
    for fit in [FIT, &FIT.replace("--batch 8", in_batch)] {
        let scratch = Scratch::new();
        scratch.succeeds(&format!("{fit} --out whole"));
        kill_again_and_again(4, &scratch, fit, "whole");
    }
}

#[test]
#[ignore = "takes a minute"]
fn runs_killed_at_fifty_moments_end_as_one_that_was_not() {
    let scratch = Scratch::new();
    scratch.succeeds(&format!("{FIT} --out whole"));
    let kills = kill_again_and_again(50, &scratch, FIT, "whole");
    println!("{kills:?}");
    assert!(kills.torn > 0, "no kill fell within a write");
}

#[test]
fn a_damaged_newest_checkpoint_is_reported_and_the_one_before_is_used() {
    let scratch = Scratch::new();
    scratch.succeeds(&format!("{FIT} --out whole"));
    let newest = "run/checkpoints/step-00000030.safetensors";
    for (case, spoil) in [
        (
            "cut short",
            (|bytes| bytes.truncate(bytes.len() / 2)) as fn(&mut Vec<u8>),
        ),
        ("empty", |bytes| bytes.clear()),
        ("one bit of a weight", |bytes| {
            *bytes.last_mut().unwrap() ^= 1
        }),
        ("one bit of the header", |bytes| bytes[40] ^= 1),
    ] {
        scratch.succeeds(&format!("{FIT} --out run"));
        fs::remove_file(scratch.path("run/summary.json")).unwrap();
        let mut bytes = scratch.read(newest);
        spoil(&mut bytes);
        scratch.write(newest, bytes);
        let resumed = scratch.succeeds("fit --resume run --quiet");
        for words in [
            newest,
            "is of no use",
            "going on from run/checkpoints/step-00000029",
        ] {
            assert!(resumed.stderr.contains(words), "{case}: {}", resumed.stderr);
        }
        same(&scratch, "run", "whole");
        fs::remove_dir_all(scratch.path("run")).unwrap();
    }
}

#[test]
fn the_newest_checkpoints_and_the_best_are_kept() {
    let scratch = Scratch::new();
    scratch.succeeds(&format!(
        "{FIT} --out run --set training.keep_checkpoints=2"
    ));
    let names = fs::read_dir(scratch.path("run/checkpoints")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "best.safetensors",
            "step-00000029.safetensors",
            "step-00000030.safetensors"
        ]
    );
}

/// Starts a run that is long enough to be met in training.
fn long_run(scratch: &Scratch) -> Child {
    let mut child = begin_or_resume(scratch, "run", &FIT.replace("--steps 30", "--steps 100000"));
    while !scratch
        .path("run/checkpoints/step-00000002.safetensors")
        .exists()
    {
        assert!(child.try_wait().unwrap().is_none(), "ended by itself");
        thread::sleep(Duration::from_micros(100));
    }
    child
}

#[test]
fn two_programs_do_not_train_in_one_folder() {
    let scratch = Scratch::new();
    let mut child = long_run(&scratch);
    let second = scratch.train("fit --resume run");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(second.code, Some(2), "{}", second.stderr);
    assert!(
        second
            .stderr
            .contains("run is being trained by another program"),
        "{}",
        second.stderr
    );
}

#[test]
fn a_folder_that_is_removed_ends_its_run_and_is_not_made_again() {
    let scratch = Scratch::new();
    let child = long_run(&scratch);
    fs::rename(scratch.path("run"), scratch.path("moved")).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("the run folder run is gone"), "{said}");
    assert!(!scratch.path("run").exists());
}

#[test]
fn a_write_that_fails_names_the_file_and_leaves_the_checkpoints_before_it() {
    let scratch = Scratch::new();
    // The list of the images is smaller than this network's checkpoints.
    let fit = format!("{FIT} --set net.hidden=[{{units=500,activation=\"relu\"}}]");
    scratch.succeeds(&format!("{fit} --out whole"));
    let line = format!("{fit} --out run");
    let mut limited = scratch.command(&line);
    let checkpoint = scratch.read("whole/checkpoints/best.safetensors").len() as u64;
    // SAFETY: both are async-signal-safe.
    unsafe {
        limited.pre_exec(move || {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit {
                rlim_cur: checkpoint / 2,
                rlim_max: checkpoint / 2,
            };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let ended = limited.output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot write run/checkpoints/step-00000001"),
        "{said}"
    );
    assert!(!writing(&scratch, "run"), "an unfinished file is left");
    scratch.succeeds("fit --resume run --quiet");
    same(&scratch, "run", "whole");
}

/// In a mount namespace of its own: no rights are needed, and nothing stays mounted.
#[test]
#[ignore = "mounts a file system, which not every container allows"]
fn a_full_and_a_read_only_disk_are_said_and_the_run_goes_on_when_there_is_room() {
    let scratch = Scratch::new();
    scratch.succeeds(&format!("{FIT} --out whole"));
    let files = fs::read_dir(scratch.path("whole/checkpoints")).unwrap();
    let checkpoints: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    // Room for some of the checkpoints.
    let script = format!(
        "mkdir disk && mount -t tmpfs -o size=64m none disk || exit 9
        head -c $((64 * 1048576 - {room})) /dev/zero >disk/filler
        $TRAIN {FIT} --out disk/run 2>full.txt; echo $? >>full.txt
        ls -A disk/run disk/run/checkpoints >left.txt
        rm disk/filler
        $TRAIN fit --resume disk/run --quiet || exit 8
        mkdir run && cp disk/run/* run/ 2>/dev/null
        mount -o remount,ro disk || exit 7
        $TRAIN {FIT} --out disk/other 2>read-only.txt; echo $? >>read-only.txt",
        room = checkpoints * 2 / 3,
    );
    let ended = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .env("TRAIN", env!("CARGO_BIN_EXE_train"))
        .current_dir(scratch.path(""))
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let full = scratch.text("full.txt");
    assert!(full.ends_with("\n1\n"), "{full}");
    assert!(full.contains("cannot write disk/run/"), "{full}");
    assert!(full.contains("No space left on device"), "{full}");
    let left = scratch.text("left.txt");
    assert!(
        left.contains("step-") && !left.contains(".writing-"),
        "{left}"
    );
    same(&scratch, "run", "whole");
    let read_only = scratch.text("read-only.txt");
    assert!(read_only.ends_with("\n1\n"), "{read_only}");
    assert!(read_only.contains("disk/other"), "{read_only}");
    assert!(read_only.contains("Read-only file system"), "{read_only}");
}

#[test]
fn a_setting_is_changed_only_where_that_is_asked_for_and_then_recorded() {
    let scratch = Scratch::new();
    scratch.succeeds(&format!("{FIT} --out run"));
    fs::remove_file(scratch.path("run/summary.json")).unwrap();
    let change = "fit --resume run --quiet --set optimiser.learning_rate=0.001";
    let words = [
        "optimiser.learning_rate from 0.004 to 0.001",
        "--allow-changes",
    ];
    scratch.refuses(2, change, &words);
    scratch.succeeds(&format!("{change} --allow-changes"));
    assert!(
        scratch
            .text("run/config.toml")
            .contains("learning_rate = 0.001")
    );
    assert_eq!(
        scratch.text("run/changes.jsonl"),
        "{\"changes\":[{\"from\":0.004,\"key\":\"optimiser.learning_rate\",\"to\":0.001}],\
         \"step\":30}\n"
    );
}

#[test]
fn a_setting_that_the_checkpoint_does_not_fit_is_refused_with_what_to_do() {
    let scratch = Scratch::new();
    scratch.succeeds("fit --config quick.toml --steps 2 --freeze trunk --quiet --out run");
    fs::remove_file(scratch.path("run/summary.json")).unwrap();
    for (set, change) in [
        (
            "training.freeze=none",
            "training.freeze from \"trunk\" to \"none\"",
        ),
        (
            "optimiser.rule=sgd",
            "optimiser.rule from \"adam-w\" to \"sgd\"",
        ),
        ("net.embedding=8", "net.embedding from 4 to 8"),
    ] {
        let line = format!("fit --resume run --quiet --allow-changes --set {set}");
        let words = [
            &format!("cannot go on with {change}: "),
            "step-00000002.safetensors does not fit",
            "`train fit --resume run`",
            "`train fit --init run`",
        ];
        scratch.refuses(2, &line, &words);
    }
    // What is said to do can be done.
    scratch.succeeds("fit --resume run --quiet");
    let again = "fit --config run/config.toml --init run --out other --quiet";
    scratch.succeeds(&format!("{again} --set net.embedding=8 --freeze none"));
}

#[test]
fn a_run_that_diverges_names_the_step_the_images_and_the_last_good_checkpoint() {
    let scratch = Scratch::new();
    let ended = scratch.train(&format!("{FIT} --out run --learning-rate 1e30"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for words in [
        "the loss is NaN at step 1",
        "its pairs of training images: ",
        "the last good checkpoint is run/checkpoints/step-00000001.safetensors",
    ] {
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
}

#[test]
fn a_run_that_diverges_goes_back_at_half_the_rate_if_asked_to_and_the_same_way_when_killed() {
    let scratch = Scratch::new();
    let fit = format!(
        "{FIT} --on-nan rollback --learning-rate 1 --set optimiser.rule=sgd \
         --set optimiser.momentum=0 --set optimiser.weight_decay=50 --set schedule.policy=constant"
    );
    scratch.succeeds(&format!("{fit} --out whole"));
    let rollbacks = scratch.text("whole/metrics.jsonl");
    let rollbacks = rollbacks
        .lines()
        .filter(|line| line.contains("rolled_back_from"))
        .count();
    assert!((1..=10).contains(&rollbacks), "{rollbacks}");
    kill_again_and_again(4, &scratch, &fit, "whole");
    // No half of this is small enough.
    let ended = scratch.train(&format!(
        "{FIT} --out run --on-nan rollback --learning-rate 1e30"
    ));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("given up after 10 rollbacks"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_network_that_collapses_to_a_point_is_noticed() {
    let scratch = Scratch::new();
    let fit = FIT.replace("--quiet", "");
    let ended = scratch.succeeds(&format!(
        "{fit} --out run --set optimiser.rule=sgd --set optimiser.momentum=0 --learning-rate 0.01 \
         --set optimiser.weight_decay=90 --set schedule.policy=constant"
    ));
    assert_eq!(
        ended.stderr.matches("has collapsed to a point").count(),
        1,
        "{}",
        ended.stderr
    );
    assert!(
        scratch
            .text("run/metrics.jsonl")
            .contains("\"collapsed\":true")
    );
}

#[test]
fn each_sitting_is_written_down_with_what_it_ran_on() {
    let scratch = Scratch::new();
    scratch.succeeds(&format!("{FIT} --out run"));
    fs::remove_file(scratch.path("run/summary.json")).unwrap();
    scratch.succeeds("fit --resume run --quiet");
    let text = scratch.text("run/environment.jsonl");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let steps: Vec<_> = lines.iter().map(|line| line["step"].as_u64()).collect();
    assert_eq!(steps, [Some(0), Some(30)]);
    for line in lines {
        assert_eq!(line["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(line["seed"], 1);
        assert!(line["threads"].as_u64().unwrap() > 0);
        for name in [
            "commit", "features", "profile", "os", "cpu", "simd", "device",
        ] {
            assert!(line.get(name).is_some(), "{name}");
        }
    }
}
