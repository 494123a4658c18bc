//! `docs/SUMMARY.md` lists every page once, and `docs/llms.txt` only pages that exist.

use std::collections::BTreeSet;

use regex::Regex;

use crate::source::{root, sources};

fn targets(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let link = Regex::new(r"\]\(([^)# ]+\.md)\)").unwrap();
    link.captures_iter(&text).map(|link| link[1].to_owned()).collect()
}

#[test]
fn the_book_has_every_page() {
    let listed = targets("docs/SUMMARY.md");
    let distinct: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), distinct.len(), "a page is listed twice");
    let pages: BTreeSet<_> = sources(&root().join("docs"), &["md"])
        .into_iter()
        .map(|page| page.path.to_string_lossy().into_owned())
        .filter(|page| page != "SUMMARY.md")
        .collect();
    let missing: Vec<_> = pages.difference(&distinct).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:?}");
    for page in listed.iter().chain(&targets("docs/llms.txt")) {
        assert!(root().join("docs").join(page).is_file(), "there is no docs/{page}");
    }
}
