//! The files of the repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A text file of the repository.
pub struct Source {
    /// Relative to the root that was searched.
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    /// The extension, or the name of a file without one.
    pub fn kind(&self) -> &str {
        let kind = self.path.extension().or(self.path.file_name());
        kind.and_then(|kind| kind.to_str()).unwrap_or_default()
    }
}

/// The root of the repository to look at: this one, or the checkout that `ARCHITECTURE_ROOT` names.
pub fn root() -> PathBuf {
    std::env::var_os("ARCHITECTURE_ROOT").map_or_else(own_root, PathBuf::from)
}

/// The root of this repository.
pub fn own_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Every file under `root` whose kind is one of `kinds`, in order of path. Build output and hidden folders (but for `.ci`) are skipped.
pub fn sources(root: &Path, kinds: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let skipped =
                matches!(&*name, "target" | "results" | "node_modules") || name.starts_with('.') && name != ".ci";
            match entry.file_type().unwrap() {
                kind if kind.is_dir() && !skipped => folders.push(path),
                kind if kind.is_file() => {
                    let path = path.strip_prefix(root).unwrap().to_owned();
                    let source = Source { path, text: String::new() };
                    if kinds.contains(&source.kind()) {
                        let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
                        found.push(Source { text, ..source });
                    }
                }
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Fails with the list, if there is one.
pub fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{} {what}:\n{}\n", found.len(), found.join("\n"));
}
