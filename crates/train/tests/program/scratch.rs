//! A folder of a test's own to run the program in, empty but for `quick.toml`, or with a trained
//! `run` in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

/// A network that a step takes some milliseconds of. The keys that decide how well it learns are
/// all here, so that no change of a default moves what the tests find.
const QUICK: &str = r#"
[training]
length = "20 steps"
pairs_per_batch = 16
log_every = 1
[data]
pairing = "balanced"
evaluation_pairs = 400
[transform]
shift = 0
rotation = 0
zoom = 0
brightness = 0
contrast = 0
saturation = 0
hue = 0
[loss]
kind = "pairs"
variant = "hadsell"
margin = 1
[optimiser]
rule = "adam-w"
learning_rate = 0.004
weight_decay = 0
[schedule]
policy = "cosine"
warm_up = 0
floor = 0.01
[net]
trunk = "lenet"
norm = "none"
channels = [8, 16]
conv_activation = "relu"
hidden = [{ units = 64, activation = "relu" }]
embedding = 4
"#;

/// What made the `run` of [`Scratch::with_run`].
pub const TRAINING: &str = "fit --config quick.toml --steps 300 --batch 32 --out run --quiet";

static TRAINED: LazyLock<Contents> = LazyLock::new(|| {
    let scratch = Scratch::new();
    scratch.succeeds(TRAINING);
    contents(&scratch.path("run"))
});

/// The paths in a folder, with the bytes of those that are files.
pub type Contents = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// The folder. It goes when the test ends.
pub struct Scratch(TempDir);

/// How a run of the program ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Scratch {
    pub fn new() -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        scratch.write("quick.toml", QUICK);
        scratch
    }

    /// With a copy of a trained run, `run`, to use or to spoil.
    pub fn with_run() -> Self {
        let scratch = Self::new();
        fs::create_dir(scratch.path("run")).unwrap();
        for (path, bytes) in &*TRAINED {
            let path = scratch.path("run").join(path);
            match bytes {
                None => fs::create_dir(path).unwrap(),
                Some(bytes) => fs::write(path, bytes).unwrap(),
            }
        }
        scratch
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    pub fn contents(&self) -> Contents {
        contents(self.0.path())
    }

    /// The program, to be run here with these words as its arguments.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env("RUST_BACKTRACE", "1")
            .env_remove("RUST_LIB_BACKTRACE");
        // Bits and lines are compared, so a program built for GPUs is held to the CPU.
        let computes = !line.starts_with("preview") && !line.starts_with("export");
        if cfg!(feature = "cuda") && computes && !line.contains("--device") {
            command.args(["--device", "cpu"]);
        }
        command
    }

    pub fn train(&self, line: &str) -> Ended {
        self.command(line).output().unwrap().into()
    }

    #[track_caller]
    pub fn succeeds(&self, line: &str) -> Ended {
        let ended = self.train(line);
        assert_eq!(ended.code, Some(0), "train {line}\n{}", ended.stderr);
        ended
    }

    /// The program ends with `code` and one line that starts with `error:` and has these words, and
    /// everything here is as it was.
    #[track_caller]
    pub fn refuses(&self, code: i32, line: &str, words: &[&str]) {
        let stderr = self.fails(code, line, words);
        assert_eq!(stderr.matches('\n').count(), 1, "train {line}\n{stderr}");
    }

    /// As [`refuses`](Self::refuses), for what clap refuses: it adds tips and the usage.
    #[track_caller]
    pub fn refuses_usage(&self, line: &str, words: &[&str]) {
        self.fails(2, line, words);
    }

    #[track_caller]
    fn fails(&self, code: i32, line: &str, words: &[&str]) -> String {
        let before = self.contents();
        let Ended {
            code: found,
            stdout,
            stderr,
        } = self.train(line);
        assert_eq!(found, Some(code), "train {line}\n{stderr}");
        assert_eq!(stdout, "", "train {line}");
        assert!(stderr.starts_with("error: "), "train {line}\n{stderr}");
        for word in words {
            assert!(
                stderr.contains(word),
                "train {line}: no {word} in\n{stderr}"
            );
        }
        for word in ["panicked", "backtrace"] {
            assert!(!stderr.contains(word), "train {line}\n{stderr}");
        }
        assert!(self.contents() == before, "train {line} changed the folder");
        stderr
    }
}

fn contents(folder: &Path) -> Contents {
    let mut found = Contents::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let bytes = path.is_file().then(|| fs::read(&path).unwrap());
            found.insert(path.strip_prefix(folder).unwrap().into(), bytes);
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}
