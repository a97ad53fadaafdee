//! docs/design.md says where things are and which part uses which; here it is held to that.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of a page under a heading.
fn section(page: &str, heading: &str) -> String {
    let page = text(page);
    let start = page.find(&format!("\n## {heading}\n")).unwrap() + 1;
    let rest = &page[start..];
    let end = rest[3..].find("\n## ").map_or(rest.len(), |end| end + 3);
    rest[..end].into()
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The Rust files of a folder and those in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(sources(&path)),
            false if path.extension().is_some_and(|ending| ending == "rs") => files.push(path),
            false => {}
        }
    }
    files
}

#[test]
fn every_place_in_the_table_exists() {
    let table = section("docs/design.md", "Where does it go?");
    let places: Vec<&str> = quoted(&table).filter(|word| word.contains('/')).collect();
    assert!(places.len() > 12, "{places:?}");
    for place in places {
        assert!(root().join(place).exists(), "there is no {place}");
    }
}

#[test]
fn every_name_in_the_table_is_in_one_of_the_files_of_its_row() {
    let table = section("docs/design.md", "Where does it go?");
    let mut names = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        let (places, words): (Vec<&str>, Vec<&str>) = quoted(row).partition(|w| w.contains('/'));
        let files = places.iter().flat_map(|place| {
            let path = root().join(place);
            match path.is_dir() {
                true => sources(&path),
                false => vec![path],
            }
        });
        let all: String = files
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        for word in words {
            names += 1;
            let last = word.rsplit("::").next().unwrap();
            assert!(all.contains(last), "{word} is not in {places:?}");
        }
    }
    assert!(names > 8, "{names} names");
}

/// The modules of `train` in the order of the table in its lib.rs.
fn modules() -> Vec<String> {
    let lib = text("crates/train/src/lib.rs");
    let rows = lib.lines().filter(|line| line.starts_with("//! | `"));
    let modules: Vec<String> = rows
        .map(|row| quoted(row).next().unwrap().to_string())
        .collect();
    let declared = lib.lines().filter_map(|line| {
        let line = line.trim_start_matches("pub ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    let declared: BTreeSet<&str> = declared.collect();
    let listed: BTreeSet<&str> = modules.iter().map(String::as_str).collect();
    assert_eq!(declared, listed, "the table lists the modules there are");
    modules
}

/// The modules that a file uses by `crate::`.
fn uses(text: &str) -> impl Iterator<Item = String> {
    text.split("crate::").skip(1).flat_map(|rest| {
        let name = |text: &str| -> String {
            let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            text[..end.unwrap_or(text.len())].into()
        };
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                list.split(',').map(|item| name(item.trim())).collect()
            }
            None => vec![name(rest)],
        }
    })
}

#[test]
fn a_module_of_the_program_uses_those_above_it_alone() {
    let modules = modules();
    let mut checked = 0;
    for (place, module) in modules.iter().enumerate() {
        let folder = root().join("crates/train/src").join(module);
        let files = match folder.is_dir() {
            true => sources(&folder),
            false => vec![folder.with_extension("rs")],
        };
        for file in files {
            for used in uses(&fs::read_to_string(&file).unwrap()) {
                let Some(found) = modules.iter().position(|known| *known == used) else {
                    continue;
                };
                checked += 1;
                assert!(
                    found <= place,
                    "{} uses `{used}`, which is below `{module}`",
                    file.display()
                );
            }
        }
    }
    assert!(checked > 50, "{checked} uses");
}

/// The crates of the workspace that a crate depends on, its tests aside.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = text(format!("crates/{name}/Cargo.toml"));
    let start = manifest.find("[dependencies]").unwrap();
    let list = &manifest[start..];
    let list = &list[..list[1..].find("\n[").map_or(list.len(), |end| end + 1)];
    let names = list
        .lines()
        .filter_map(|line| line.split(['.', ' ']).next());
    let known = |name: &&str| root().join("crates").join(name).is_dir() && !name.is_empty();
    names.filter(known).map(String::from).collect()
}

#[test]
fn crates_depend_on_each_other_as_the_table_says() {
    let table = section("docs/design.md", "Crates");
    let mut crates = 0;
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let name = quoted(cells[1]).next().unwrap();
        let said: BTreeSet<String> = quoted(cells[3]).map(String::from).collect();
        assert_eq!(dependencies(name), said, "{name}");
        crates += 1;
    }
    let folders = fs::read_dir(root().join("crates")).unwrap().count();
    assert_eq!(crates, folders, "a row for each crate");
}
