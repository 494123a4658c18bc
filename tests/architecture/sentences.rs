//! Prose: `lint/sentences.txt` lists phrases that a reader stumbles over, each with a better one.

use std::path::Path;

use crate::{
    rules::Sentences,
    source::{Source, assert_none, root, sources},
    tree::Tree,
};

const KINDS: &[&str] = &[
    "md",
    "rs",
    "proto",
    "sql",
    "lua",
    "yaml",
    "yml",
    "json",
    "sh",
    "toml",
    "tpl",
    "txt",
    "html",
    "js",
    "css",
    "snap",
    "Makefile",
    "Dockerfile",
    "go",
    "py",
    "run",
];

/// History, which says what was, the lists themselves, and what this file plants.
fn is_exempt(path: &Path) -> bool {
    ["CHANGELOG.md", "docs/adr", "lint", "tests/architecture/sentences.rs"]
        .iter()
        .any(|exempt| path.starts_with(exempt))
}

/// A text without line ends and marks of comments, so that a phrase is found however it is wrapped; and where its lines begin.
fn unwrapped(text: &str) -> (String, Vec<usize>) {
    let mut joined = String::with_capacity(text.len());
    let mut starts = Vec::new();
    for line in text.lines() {
        starts.push(joined.len());
        let line = line.trim().trim_end_matches('\\').trim_end();
        let marks = ['/', '!', '#', '*', '>', '-', '|', ' '];
        joined.push_str(if line.starts_with(marks) { line.trim_start_matches(marks) } else { line });
        joined.push(' ');
    }
    (joined, starts)
}

fn in_source(source: &Source, rules: &Sentences, found: &mut Vec<String>) {
    let (text, starts) = unwrapped(&source.text);
    for (at, phrase, better) in rules.find(&text) {
        let line = starts.partition_point(|start| *start <= at);
        found.push(format!("{}:{line}: “{phrase}”: write {better}", source.path.display()));
    }
}

/// Phrases under `root` that have better ones, as `path:line: what`.
fn refused(root: &Path) -> Vec<String> {
    let rules = Sentences::read();
    let mut found = Vec::new();
    for source in sources(root, KINDS).iter().filter(|source| !is_exempt(&source.path)) {
        in_source(source, &rules, &mut found);
    }
    found
}

#[test]
fn prose_is_plain_english() {
    assert_none("phrases have better ones (lint/sentences.txt)", &refused(&root()));
}

#[test]
fn a_planted_phrase_is_found_in_every_kind_of_file() {
    let planted = [
        ("README.md", "Some text. Events without a source are of\nnobody.\n"),
        ("core.rs", "/// Minutes that are over are told\n/// of on a topic.\nstruct S;\n"),
        ("main.rs", "const HELP: &str = \"A minute is told of \\\n    at its end\";\n"),
        ("charts/values.yaml", "# Taints the pods\n# put up with\nkey: 1\n"),
        ("crds/crd.yaml", "description: >-\n  The topic that is told of every\n  minute that is over.\n"),
        ("run.sh", "echo \"the cache is away\"\n"),
        ("page.html", "<p>asking …</p>\n"),
    ];
    for (path, text) in planted {
        let tree = Tree::new("sentences");
        tree.write(path, text);
        let found = refused(tree.path());
        assert!(!found.is_empty(), "not refused in {path}: {text}");
        assert!(found[0].starts_with(&format!("{path}:")), "{found:?}");
    }
}

#[test]
fn history_may_say_what_it_said() {
    let tree = Tree::new("history");
    tree.write("CHANGELOG.md", "the cache is away\n");
    tree.write("docs/adr/0001-cache.md", "the cache is away\n");
    tree.write("README.md", "The cache is unavailable.\n");
    assert_eq!(refused(tree.path()), [""; 0]);
}
