//! Links of the documentation lead somewhere, and `docs/guarantees.md` names tests that exist.

use std::{collections::BTreeSet, path::Path, sync::LazyLock};

use regex::Regex;

use crate::source::{Source, assert_none, root, sources};

/// `](target)`, up to an anchor.
static LINK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\]\(([^)# ]+)").unwrap());
/// A source file in backticks, by the end of its path.
static FILE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"`([a-z0-9_/.-]+\.(?:rs|lua|sql|proto|sh))`").unwrap());
/// A test in the second column of a table: a name in backticks with at least one underscore.
static TEST: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`").unwrap());
/// A function, as Rust and generated tests define it.
static FUNCTION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"fn ([a-z0-9_]+)").unwrap());

#[test]
fn every_link_leads_to_a_file() {
    let mut broken = Vec::new();
    // Templates of issues and pull requests are in a hidden folder.
    let templates = sources(&root().join(".github"), &["md", "yml"]).into_iter();
    let templates = templates.map(|page| Source { path: Path::new(".github").join(page.path), ..page });
    for page in sources(&root(), &["md"]).into_iter().chain(templates) {
        let folder = root().join(page.path.parent().unwrap_or(Path::new("")));
        for (number, line) in page.text.lines().enumerate() {
            let targets = LINK.captures_iter(line).map(|link| link[1].to_owned());
            broken.extend(
                targets
                    .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
                    .filter(|target| !folder.join(target).exists())
                    .map(|target| format!("{}:{}: {target}", page.path.display(), number + 1)),
            );
        }
    }
    assert_none("links lead nowhere", &broken);
}

#[test]
fn every_file_that_a_page_names_exists() {
    let files = sources(&root(), &["rs", "lua", "sql", "proto", "sh"]);
    let mut missing = Vec::new();
    for page in sources(&root(), &["md"]) {
        for (number, line) in page.text.lines().enumerate() {
            let names = FILE.captures_iter(line).map(|name| name[1].to_owned());
            missing.extend(
                names
                    .filter(|name| *name != "foo.rs" && !files.iter().any(|file| file.path.ends_with(name)))
                    .map(|name| format!("{}:{}: {name}", page.path.display(), number + 1)),
            );
        }
    }
    assert_none("files named in the documentation do not exist", &missing);
}

#[test]
fn every_guarantee_names_tests_that_exist() {
    let functions: BTreeSet<String> = sources(&root(), &["rs"])
        .iter()
        .flat_map(|source| FUNCTION.captures_iter(&source.text).map(|found| found[1].to_owned()).collect::<Vec<_>>())
        .collect();
    let page = std::fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let mut missing = Vec::new();
    let mut named = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let checked_by = line.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        for test in TEST.captures_iter(checked_by) {
            named += 1;
            if !functions.contains(&test[1]) {
                missing.push(test[1].to_owned());
            }
        }
    }
    assert!(named > 20, "only {named} tests found in docs/guarantees.md; has its layout changed?");
    assert_none("tests named in docs/guarantees.md do not exist", &missing);
}
