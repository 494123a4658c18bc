//! How long files and functions may be. Longer ones are split by reason to change.

use std::path::Path;

use crate::{
    source::{assert_none, root, sources},
    tokens::{functions, parse},
};

const LONGEST_FILE: usize = 450;
const LONGEST_FUNCTION: usize = 60;

/// What is too long under `root`, as `path:line: what`.
fn too_long(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(root, &["rs"]) {
        let path = source.path.display();
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            found.push(format!("{path}:1: {lines} lines, at most {LONGEST_FILE}"));
        }
        for function in functions(&parse(&source.text)) {
            let lines = function.last + 1 - function.first;
            if lines > LONGEST_FUNCTION {
                let (first, name) = (function.first, function.name);
                found.push(format!("{path}:{first}: `{name}` has {lines} lines, at most {LONGEST_FUNCTION}"));
            }
        }
    }
    found
}

#[test]
fn files_and_functions_are_short() {
    assert_none("files or functions are too long", &too_long(&root()));
}

#[test]
fn a_long_file_and_a_long_function_are_found() {
    let folder = crate::tree::Tree::new("sizes");
    let body = "    let _ = \"}\";\n".repeat(LONGEST_FUNCTION - 2);
    folder.write("fits.rs", &format!("fn fits() {{\n{body}}}\n"));
    folder.write("long.rs", &format!("impl X {{\n    /// Doc.\n    fn long() {{\n{body}\n}}\n}}\n"));
    folder.write("file.rs", &"// comment\n".repeat(LONGEST_FILE + 1));
    let found = too_long(folder.path());
    assert_eq!(found, ["file.rs:1: 451 lines, at most 450", "long.rs:3: `long` has 61 lines, at most 60"]);
}
