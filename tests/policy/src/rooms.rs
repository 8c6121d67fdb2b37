//! Which room of the house names what. Each wall says why it stands; a file that has to go through one is listed with it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

/// A wall: these words may be said only in these places (path prefixes below the workspace).
struct Wall {
    why: &'static str,
    words: &'static [&'static str],
    within: &'static [&'static str],
    allowed: &'static [&'static str],
}

const WALLS: [Wall; 5] = [
    Wall {
        why: "rust-netlink's types change with every release: only host/ knows them",
        words: &["rtnetlink::", "netlink_packet_", "netlink_sys::"],
        within: &["cni-core/src", "backend-"],
        allowed: &["cni-core/src/host"],
    },
    Wall {
        why: "system calls are for host/, and for runtime/, which runs processes",
        words: &["nix::"],
        within: &["cni-core/src", "backend-"],
        allowed: &["cni-core/src/host", "cni-core/src/runtime"],
    },
    Wall {
        why: "stdout carries one JSON document: only plugin.rs writes it",
        words: &["println!", "print!(", "io::stdout"],
        within: &["cni-core/src", "backend-"],
        // The scripted plugin of the tests is a process of its own, as plugin/ is.
        allowed: &["cni-core/src/plugin", "cni-core/src/testing/noop.rs"],
    },
    Wall {
        why: "the environment is parsed once, at the edge",
        words: &["env::var", "env::vars", "env::set_var"],
        within: &["cni-core/src", "backend-"],
        allowed: &[
            "cni-core/src/plugin",
            "cni-core/src/runtime",
            "cni-core/src/log.rs",
            "cni-core/src/testing/noop.rs",
        ],
    },
    Wall {
        why: "nobody enters a namespace but host/, which hands out sockets that are bound to it",
        words: &["setns(", "unshare("],
        within: &["cni-core/src", "backend-"],
        allowed: &["cni-core/src/host"],
    },
];

#[test]
fn walls_stand() {
    let mut holes = Vec::new();
    for (path, text) in sources() {
        for wall in WALLS.iter().filter(|wall| wall.stands_before(&path)) {
            for (number, line) in code(&text) {
                if wall.words.iter().any(|word| says(line, word)) {
                    holes.push(format!("{path}:{number}: {} ({})", line.trim(), wall.why));
                }
            }
        }
    }
    assert!(holes.is_empty(), "{holes:#?}");
}

#[test]
fn a_desired_function_is_pure() {
    for (path, text) in sources() {
        if path.ends_with("/desired.rs") {
            for (number, line) in code(&text) {
                for word in [
                    "async ",
                    ".await",
                    "Instant::now",
                    "SystemTime::now",
                    "fs::",
                ] {
                    assert!(
                        !line.contains(word),
                        "{path}:{number}: {word:?} in a pure function"
                    );
                }
            }
        }
    }
}

#[test]
fn a_file_has_fewer_than_500_lines() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines >= 500)
        .map(|(path, lines)| format!("{path}: {lines}"))
        .collect();
    assert!(long.is_empty(), "split these: {long:#?}");
}

#[test]
fn no_code_is_unsafe() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    for (path, text) in files("toml") {
        if path.ends_with("/Cargo.toml") {
            let linted = text.contains("[lints]\nworkspace = true")
                || text.contains("unsafe_code = \"forbid\"");
            assert!(linted, "{path} does not take the workspace's lints");
        }
    }
}

impl Wall {
    fn stands_before(&self, path: &str) -> bool {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
        starts(self.within) && !starts(self.allowed)
    }
}

/// Lines that are neither comments nor in a test module, which by convention ends the file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .take_while(|line| *line != "mod tests {")
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Rust files of the workspace, tests beside the code excepted.
fn sources() -> Vec<(String, String)> {
    let mut all = files("rs");
    all.retain(|(path, _)| !path.ends_with("tests.rs") && !path.contains("/src/plugin/tests/"));
    assert!(all.len() > 20, "the sources are found");
    all
}

fn files(extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(root(), extension, &mut found);
    let mut all: Vec<(String, String)> = found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a readable source");
            let path = path.strip_prefix(root()).expect("below the root");
            (path.display().to_string(), text)
        })
        .collect();
    all.sort();
    all
}

fn collect(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory)
        .expect("a readable directory")
        .flatten()
    {
        let path = entry.path();
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && name != "target" {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|have| have == extension) {
            found.push(path);
        }
    }
}

/// Whether a line says a word that is not the end of a longer one.
fn says(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().last());
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}
