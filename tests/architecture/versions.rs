//! `docs/reference/versions.md` has the versions that are pinned.

use std::{collections::BTreeSet, fs};

use regex::{Regex, escape};

use crate::source::{assert_none, root};

const PAGE: &str = "docs/reference/versions.md";

/// Whether `text` pins `key` to `version`.
fn pins(text: &str, key: &str, version: &str) -> bool {
    // As in `KEY=1.2`, `KEY v1.2`, `"KEY": "1.2"`, `KEY = { version = "1.2"`, `<KEY>1.2`, and in a list of lines.
    let between = r"(?:='[^']*\n|[^A-Za-z0-9_]*(?:version[^A-Za-z0-9_]*)?v?)";
    let pinned = Regex::new(&format!(r"{}{between}{}(?:\.0-|[^0-9.]|$)", escape(key), escape(version))).unwrap();
    pinned.is_match(text)
}

#[test]
fn the_page_of_tested_versions_says_what_is_pinned() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let row = Regex::new(r"(?m)^\| ([^|]+) \| ([^|]+) \| `([^`]+)` in \[[^\]]+\]\(([^)]+)\) \|").unwrap();
    let mut keys = BTreeSet::new();
    let mut stale = Vec::new();
    for row in row.captures_iter(&page) {
        let (what, versions, key, file) = (&row[1], &row[2], &row[3], &row[4]);
        let text = fs::read_to_string(root().join("docs/reference").join(file)).unwrap();
        keys.insert(key.to_owned());
        let missing = versions.split(", ").filter(|version| !pins(&text, key, version));
        stale.extend(missing.map(|version| format!("{what}: {key} in {file} is not {version}")));
    }
    assert_none("docs/reference/versions.md has other versions than the files that pin them", &stale);

    let control_plane = fs::read_to_string(root().join("testbed/control-plane/versions.env")).unwrap();
    let pinned = control_plane.lines().filter_map(|line| Some(line.split_once("_VERSION=")?.0));
    // The version of the CRDs is that of the operators together.
    let missing: Vec<_> =
        pinned.filter(|name| *name != "CRDS" && !keys.contains(&format!("{name}_VERSION"))).map(String::from).collect();
    assert_none("docs/reference/versions.md lacks what versions.env pins", &missing);
    let install = fs::read_to_string(root().join("testbed/install.sh")).unwrap();
    let (_, builds) = install.split_once("postgres_builds='").unwrap();
    let builds = builds.split_once('\'').unwrap().0.lines().filter(|line| !line.is_empty());
    let missing: Vec<_> =
        builds.filter(|build| !page.contains(build.split(".0-").next().unwrap())).map(String::from).collect();
    assert_none("docs/reference/versions.md lacks a build of Postgres", &missing);
}

#[test]
fn another_version_is_noticed() {
    let text = "A_VERSION=1.2.3\nexample.org/a v1.2.3 // indirect\n\"a\": \"1.2.3\"\na = { version = \"1.2.3\" }\n<a.version>1.2.3</a.version>\nlist='\n1.2.0-b x\n2.3.0-b y\n'\n";
    for key in ["A_VERSION", "example.org/a", "a", "a.version"] {
        assert!(pins(text, key, "1.2.3") && !pins(text, key, "1.2.4") && !pins(text, key, "1.2"), "{key}");
    }
    assert!(pins(text, "list", "2.3") && !pins(text, "list", "2.4"));
}
