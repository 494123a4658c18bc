//! Names that confuse newcomers have better ones: `lint/names.txt`.

use std::{collections::BTreeMap, path::Path, sync::LazyLock};

use regex::Regex;

use crate::{
    rules::{Name, Scope, names, regex},
    source::{assert_none, root, sources},
    tokens::{Definition, Kind, definitions, parse},
    tree::Tree,
};

/// Files with names that are not Rust's: columns, fields, flags, metrics.
const OTHER: &[&str] = &["proto", "sql", "lua", "yaml", "yml", "json", "sh", "tpl", "txt", "Makefile", "html", "js"];

static IDENTIFIER: LazyLock<Regex> = LazyLock::new(|| regex(r"[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*").unwrap());
/// What an SQL statement has, and other strings have not.
const SQL: [&str; 7] = ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "CREATE ", "ALTER ", "WITH "];

/// How many words make a function's name a sentence, as tests have.
const SENTENCE: usize = 4;

/// `minutesTold`, `MINUTES_TOLD` and `minutes-told` are `minutes` and `told`.
fn words(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for letter in identifier.chars() {
        if !letter.is_alphanumeric() || letter.is_uppercase() && before.is_lowercase() {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a rule refuses this name. In text a name counts only where it can be no prose: as part of a longer one.
fn refuses(rule: &Name, definition: &Definition) -> bool {
    let Definition { kind, name, .. } = definition;
    match rule.scope {
        Scope::Word => words(name).contains(&rule.name),
        Scope::Short => {
            let words = words(name);
            let sentence = *kind == Kind::Function && words.len() >= SENTENCE;
            !sentence && words.contains(&rule.name)
        }
        Scope::Any => *kind != Kind::Text && *name == rule.name,
        Scope::Only(only) => *kind == only && *name == rule.name,
        Scope::Unique => false,
    }
}

/// Names in a text: all of them in code, else those that are no plain words.
fn names_in(text: &str, line: usize, code: bool) -> Vec<Definition> {
    let plain = |name: &str| words(name).len() < 2;
    let kind = if code { Kind::Field } else { Kind::Text };
    let found = IDENTIFIER.find_iter(text).filter(|found| code || !plain(found.as_str()));
    found.map(|found| Definition { kind, name: found.as_str().to_owned(), line }).collect()
}

fn in_rust(text: &str) -> Vec<Definition> {
    let mut found = Vec::new();
    for definition in definitions(&parse(text)) {
        if definition.kind == Kind::Text {
            let lines = definition.name.lines().enumerate();
            let whole = definition.name.trim_matches('"');
            // A string that is one word is a name, as of a label or a flag; one that is SQL has columns.
            let sql = SQL.iter().any(|part| whole.contains(part));
            let code = sql || IDENTIFIER.find(whole).is_some_and(|found| found.len() == whole.len());
            found.extend(lines.flat_map(|(index, line)| names_in(line, definition.line + index, code)));
        } else {
            found.push(definition);
        }
    }
    // A string's name is whatever it is: only whole words of it are refused.
    found
}

fn without_comment(line: &str) -> &str {
    let marks = ["//", "-- ", "# "];
    let begins = |at: usize| at == 0 || line[..at].ends_with([' ', '\t']);
    let at = marks.iter().flat_map(|mark| line.match_indices(mark)).map(|(at, _)| at).filter(|at| begins(*at)).min();
    &line[..at.unwrap_or(line.len())]
}

fn in_other(kind: &str, text: &str) -> Vec<Definition> {
    let code = matches!(kind, "proto" | "sql");
    let lines = text.lines().enumerate();
    lines.flat_map(|(index, line)| names_in(without_comment(line), index + 1, code)).collect()
}

/// Refused names under `root`, as `path:line: what`.
fn refused(root: &Path) -> Vec<String> {
    let rules = names();
    let mut found = Vec::new();
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources(root, &[OTHER, &["rs"]].concat()) {
        if source.path.starts_with("lint") || source.path == Path::new("tests/architecture/names.rs") {
            continue;
        }
        let rust = source.kind() == "rs";
        let definitions = if rust { in_rust(&source.text) } else { in_other(source.kind(), &source.text) };
        for definition in definitions {
            let place = format!("{}:{}", source.path.display(), definition.line);
            let Definition { name, kind, .. } = &definition;
            if let Some(rule) = rules.iter().find(|rule| refuses(rule, &definition)) {
                found.push(format!("{place}: `{name}`: write {}", rule.better));
            }
            if *kind == Kind::Type {
                types.entry(name.clone()).or_default().push(place);
            }
        }
    }
    for rule in rules.iter().filter(|rule| rule.scope == Scope::Unique) {
        if let Some(places) = types.get(&rule.name).filter(|places| places.len() > 1) {
            found.push(format!("`{}` is {} types ({}): {}", rule.name, places.len(), places.join(", "), rule.better));
        }
    }
    found.dedup();
    found
}

#[test]
fn names_are_the_standard_ones() {
    assert_none("names have better ones (lint/names.txt)", &refused(&root()));
}

/// Every rule, planted where it applies, in a tree of its own.
#[test]
fn each_replaced_name_is_found_where_it_is_planted() {
    for rule in names() {
        let name = &rule.name;
        let camel = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        let files = match rule.scope {
            Scope::Word | Scope::Short => vec![
                ("core.rs", format!("struct New{camel};")),
                ("core.rs", format!("struct S {{ pub {name}: u8 }}")),
                ("core.rs", format!("impl S {{ fn {name}(&self) {{}} }}")),
                ("core.rs", format!("const HELP: &str = \"ping_{name}_total\";")),
                ("core.rs", format!("#[arg(long = \"{name}\")] struct S;")),
                ("schema.sql", format!("CREATE TABLE t ({name} bigint);")),
                ("ping.proto", format!("message M {{ int64 {name} = 1; }}")),
                ("alerts.yaml", format!("expr: sum(rate(ping_{name}_total[5m]))")),
                ("crd.yaml", format!("status{camel}: true")),
            ],
            Scope::Any => vec![
                ("core.rs", format!("struct S {{ a: u8, {name}: u8 }}")),
                ("core.rs", format!("mod {name} {{}}")),
                ("core.rs", format!("fn {name}() {{}}")),
                ("schema.sql", format!("CREATE TABLE t ({name} bigint);")),
            ],
            Scope::Only(Kind::Type) => vec![("core.rs", format!("pub enum {name} {{ A }}"))],
            Scope::Only(Kind::Function) => vec![("core.rs", format!("trait T {{ fn {name}(&self) {{}} }}"))],
            Scope::Only(Kind::Module) => vec![("core.rs", format!("mod {name};"))],
            Scope::Only(_) => vec![("core.rs", format!("const {name}: u8 = 1;"))],
            Scope::Unique => vec![("core.rs", format!("struct {name}; mod other {{ struct {name}; }}"))],
        };
        for (path, text) in files {
            let tree = Tree::new(&format!("names-{}", path.replace('.', "-")));
            tree.write(path, &text);
            let found = refused(tree.path());
            assert!(!found.is_empty(), "`{name}` is not refused in {path}: {text}");
        }
    }
}

#[test]
fn plain_words_are_left_alone() {
    let tree = Tree::new("plain");
    // A comment may say `told`, and a method of the standard library may be called.
    tree.write("core.rs", "/// It is told.\nfn sum(v: &[u8]) -> u8 { v.iter().fold(0, |a, b| a + b) } // told\n");
    tree.write("values.yaml", "# told\nnote: a line that is left\n");
    assert_eq!(refused(tree.path()), [""; 0]);
}
