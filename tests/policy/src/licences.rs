//! Every package that the lock file brings in is under a permissive licence.

use serde_json::Value;

use crate::cargo;

/// Licences that ask for no more than notices (SPDX identifiers).
const PERMISSIVE: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

#[test]
fn every_package_is_under_a_permissive_licence() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 20, "cargo lists the dependencies");
    let wrong: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(is_permissive))
        .map(|package| {
            format!(
                "{} {}: {}",
                package["name"], package["version"], package["license"]
            )
        })
        .collect();
    assert!(wrong.is_empty(), "not permissive: {wrong:#?}");
}

#[test]
fn every_package_comes_from_crates_io_or_this_workspace() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let source = &package["source"];
        let known =
            source.is_null() || source == "registry+https://github.com/rust-lang/crates.io-index";
        assert!(known, "{} comes from {source}", package["name"]);
    }
}

#[test]
fn an_expression_is_permissive_when_one_of_its_choices_is() {
    for permissive in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0-only OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
    ] {
        assert!(is_permissive(permissive), "{permissive}");
    }
    for other in [
        "",
        "GPL-3.0-or-later",
        "MIT AND GPL-2.0-only",
        "(MIT AND LGPL-3.0-only) OR MPL-2.0",
        "GPL-2.0-only WITH Classpath-exception-2.0",
    ] {
        assert!(!is_permissive(other), "{other}");
    }
}

fn metadata() -> Value {
    let text = cargo(&[
        "metadata",
        "--format-version=1",
        "--all-features",
        "--filter-platform=x86_64-unknown-linux-gnu",
    ]);
    serde_json::from_str(&text).expect("cargo prints JSON")
}

/// Whether an SPDX expression (`OR` binds less than `AND`, which binds less than `WITH`) can be satisfied by permissive
/// licences alone.
fn is_permissive(expression: &str) -> bool {
    let text = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest) && rest.is_empty()
}

fn either(rest: &mut &[&str]) -> bool {
    let mut permissive = both(rest);
    while let Some(("OR", after)) = rest.split_first().map(|(word, after)| (*word, after)) {
        *rest = after;
        permissive |= both(rest);
    }
    permissive
}

fn both(rest: &mut &[&str]) -> bool {
    let mut permissive = one(rest);
    while let Some(("AND", after)) = rest.split_first().map(|(word, after)| (*word, after)) {
        *rest = after;
        permissive &= one(rest);
    }
    permissive
}

fn one(rest: &mut &[&str]) -> bool {
    let Some((word, after)) = rest.split_first() else {
        return false;
    };
    *rest = after;
    if *word == "(" {
        let permissive = either(rest);
        let closed = rest.first() == Some(&")");
        *rest = rest.get(1..).unwrap_or_default();
        return permissive && closed;
    }
    // An exception only ever permits more.
    if rest.first() == Some(&"WITH") {
        *rest = rest.get(2..).unwrap_or_default();
    }
    PERMISSIVE.contains(word)
}
