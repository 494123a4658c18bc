//! The modules of one target and the names that they import.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenTree};

use crate::tokens::{group, is_punct, item_end, line, parse, word};

/// A path as written, such as `super::flush::Flush`, and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub path: Vec<String>,
    /// The name it has in this module; `*` for everything.
    pub name: String,
    pub public: bool,
    pub line: usize,
}

/// A module: a file, or a part of one.
#[derive(Default)]
pub struct Module {
    pub file: PathBuf,
    pub parent: Option<usize>,
    pub children: BTreeMap<String, usize>,
    pub defined: BTreeSet<String>,
    pub imports: Vec<Import>,
    /// Everything but imports and inner modules, without tests.
    pub code: Vec<TokenTree>,
}

/// The modules of the target whose root is `file`; the first is the root.
pub fn modules(file: &Path) -> Vec<Module> {
    let mut modules = vec![Module { file: file.to_owned(), ..Module::default() }];
    let folder = file.parent().unwrap().to_owned();
    read(&mut modules, 0, &folder, tokens(file));
    modules
}

fn tokens(file: &Path) -> Vec<TokenTree> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    parse(&text).into_iter().collect()
}

/// Reads the items of a module; files of its inner modules are in `folder`.
fn read(modules: &mut Vec<Module>, id: usize, folder: &Path, tokens: Vec<TokenTree>) {
    let mut at = 0;
    let mut public = false;
    let mut path = None;
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1);
        match word(Some(token)).as_deref() {
            None if is_punct(Some(token), '#') && attribute(next).is_some() => {
                let attribute = attribute(next).unwrap_or_default();
                at += 2;
                if is_test(&attribute) {
                    at = after_item(&tokens, at);
                } else {
                    path = path_attribute(&attribute).or(path);
                }
                continue;
            }
            Some("pub") => public = true,
            Some("use") if !is_punct(next, '<') => {
                let end = (at..tokens.len()).find(|at| is_punct(tokens.get(*at), ';')).unwrap_or(tokens.len());
                use_tree(&tokens[at + 1..end], &[], public, &mut modules[id].imports);
                (at, public, path) = (end, false, None);
            }
            Some("mod") if next.is_some() => {
                let name = word(next).unwrap_or_default();
                let inline = group(tokens.get(at + 2), Delimiter::Brace);
                inner(modules, id, folder, &name, inline.map(|inline| inline.into_iter().collect()), path.take());
                (at, public) = (at + 2, false);
            }
            keyword => {
                if let Some(name) = keyword.and_then(|keyword| defined(keyword, next, tokens.get(at + 2))) {
                    modules[id].defined.insert(name);
                }
                let ends = is_punct(Some(token), ';') || group(Some(token), Delimiter::Brace).is_some();
                public &= !ends;
                modules[id].code.push(token.clone());
            }
        }
        at += 1;
    }
}

/// The items of a file that are no tests.
pub fn without_tests(tokens: Vec<TokenTree>) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if is_punct(Some(token), '#') && attribute(tokens.get(at + 1)).is_some_and(|attribute| is_test(&attribute)) {
            at = after_item(&tokens, at + 2);
        } else {
            kept.push(token.clone());
            at += 1;
        }
    }
    kept
}

fn attribute(token: Option<&TokenTree>) -> Option<String> {
    group(token, Delimiter::Bracket).map(|content| content.to_string().replace(' ', ""))
}

fn is_test(attribute: &str) -> bool {
    matches!(attribute, "test" | "tokio::test")
        || attribute.starts_with("cfg(test")
        || attribute.starts_with("cfg(all(test")
}

fn path_attribute(attribute: &str) -> Option<String> {
    Some(attribute.strip_prefix("path=\"")?.strip_suffix('"')?.to_owned())
}

/// The index after the item that begins at `start`, its further attributes included.
fn after_item(tokens: &[TokenTree], start: usize) -> usize {
    let mut at = start;
    while is_punct(tokens.get(at), '#') {
        at += 2;
    }
    let imports = tokens[at..].iter().take(3).any(|token| word(Some(token)).as_deref() == Some("use"));
    let end = item_end(tokens, at);
    let semicolon = || (at..tokens.len()).find(|at| is_punct(tokens.get(*at), ';')).unwrap_or(tokens.len());
    1 + if imports { semicolon() } else { end }
}

fn defined(keyword: &str, next: Option<&TokenTree>, after: Option<&TokenTree>) -> Option<String> {
    match keyword {
        "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" | "fn" => word(next),
        "macro_rules" => word(after),
        _ => None,
    }
}

fn inner(
    modules: &mut Vec<Module>,
    parent: usize,
    folder: &Path,
    name: &str,
    inline: Option<Vec<TokenTree>>,
    path: Option<String>,
) {
    let id = modules.len();
    modules[parent].children.insert(name.to_owned(), id);
    let mut module = Module { parent: Some(parent), file: modules[parent].file.clone(), ..Module::default() };
    if let Some(tokens) = inline {
        modules.push(module);
        return read(modules, id, &folder.join(name), tokens);
    }
    let at_path = path.map(|path| module.file.parent().unwrap().join(path));
    let candidates = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
    let Some(file) = at_path.into_iter().chain(candidates).find(|file| file.is_file()) else {
        // Generated, or for another platform: nothing to read.
        modules.push(module);
        return;
    };
    module.file = file.clone();
    modules.push(module);
    let folder = if file.ends_with("mod.rs") { file.parent().unwrap().to_owned() } else { file.with_extension("") };
    read(modules, id, &folder, tokens(&file));
}

/// The paths of a `use`, without the keyword and the semicolon.
fn use_tree(tokens: &[TokenTree], prefix: &[String], public: bool, imports: &mut Vec<Import>) {
    for branch in tokens.split(|token| is_punct(Some(token), ',')).filter(|branch| !branch.is_empty()) {
        let mut path = prefix.to_vec();
        let mut alias = None;
        let mut at = 0;
        while let Some(token) = branch.get(at) {
            if let Some(tree) = group(Some(token), Delimiter::Brace) {
                use_tree(&tree.into_iter().collect::<Vec<_>>(), &path, public, imports);
                path.clear();
            } else if is_punct(Some(token), '*') {
                alias = Some("*".to_owned());
            } else {
                match word(Some(token)).as_deref() {
                    // `as _` binds no name, and `as name` another one.
                    Some("as") => {
                        alias = word(branch.get(at + 1));
                        at += 1;
                    }
                    // `a::{self}` is `a`.
                    Some("self") if !path.is_empty() => {}
                    Some(segment) => path.push(segment.to_owned()),
                    None => {}
                }
            }
            at += 1;
        }
        let Some(last) = path.last() else { continue };
        let name = alias.unwrap_or_else(|| last.clone());
        imports.push(Import { name, public, line: branch.first().map_or(0, line), path });
    }
}

/// Every path in code, with its line: also inside macros, and of `use` inside functions.
pub fn paths(code: &[TokenTree], found: &mut Vec<(Vec<String>, usize)>) {
    let mut at = 0;
    while let Some(token) = code.get(at) {
        let begin = at;
        at += 1;
        if let TokenTree::Group(group) = token {
            paths(&group.stream().into_iter().collect::<Vec<_>>(), found);
        }
        let Some(first) = word(Some(token)) else { continue };
        if first == "use" && !is_punct(code.get(at), '<') {
            let end = (at..code.len()).find(|at| is_punct(code.get(*at), ';')).unwrap_or(code.len());
            let mut imports = Vec::new();
            use_tree(&code[at..end], &[], false, &mut imports);
            found.extend(imports.into_iter().map(|import| (import.path, import.line)));
            at = end;
            continue;
        }
        let mut path = vec![first];
        while is_punct(code.get(at), ':') && is_punct(code.get(at + 1), ':') {
            let Some(segment) = word(code.get(at + 2)) else { break };
            path.push(segment);
            at += 3;
        }
        let before = begin.checked_sub(1).and_then(|before| code.get(before));
        // A method, a field or a lifetime; or a path from another crate on.
        let other = is_punct(before, '.') || is_punct(before, '\'') || is_punct(before, ':') && is_joined(code, begin);
        // `name:` is a field or an argument, not what it shares its name with.
        let field = path.len() == 1 && is_punct(code.get(at), ':');
        if !other && !field {
            found.push((path, line(token)));
        }
    }
}

/// Whether `::` stands before `index`.
fn is_joined(code: &[TokenTree], index: usize) -> bool {
    index >= 2 && is_punct(code.get(index - 1), ':') && is_punct(code.get(index - 2), ':')
}

#[test]
fn a_use_tree_is_every_path_in_it() {
    let mut imports = Vec::new();
    let text = "crate::{a::{self, B as C}, d::*, super::e}, f";
    use_tree(&parse(text).into_iter().collect::<Vec<_>>(), &[], false, &mut imports);
    let found: Vec<_> = imports.iter().map(|import| format!("{} = {}", import.name, import.path.join("::"))).collect();
    assert_eq!(found, ["a = crate::a", "C = crate::a::B", "* = crate::d", "e = crate::super::e", "f = f"]);
}
