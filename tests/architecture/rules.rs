//! The lists in `lint/`.

use std::fs;

use regex::{Regex, RegexBuilder};

use crate::{source::own_root, tokens::Kind};

/// Lines with content, and their numbers.
fn lines(file: &str) -> Vec<(usize, String)> {
    let text = fs::read_to_string(own_root().join("lint").join(file)).unwrap();
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim().to_owned()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect()
}

/// A regular expression over ASCII: nothing here needs more, and this is the quick kind.
pub fn regex(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).case_insensitive(true).unicode(false).build()
}

/// Phrases that must not stand in the repository, and what to write instead.
pub struct Sentences {
    rules: Vec<(Regex, String)>,
    /// All of them at once.
    any: Regex,
}

impl Sentences {
    /// The list of `lint/sentences.txt`.
    pub fn read() -> Self {
        let mut rules = Vec::new();
        let mut any = Vec::new();
        for (number, line) in lines("sentences.txt") {
            let place = format!("lint/sentences.txt:{number}");
            let (pattern, better) = line.split_once(" => ").unwrap_or_else(|| panic!("{place}: no ` => `"));
            let compiled = regex(&format!("^(?:{pattern})")).unwrap_or_else(|error| panic!("{place}: {error}"));
            rules.push((compiled, better.trim().to_owned()));
            any.push(pattern.to_owned());
        }
        Self { rules, any: regex(&any.join("|")).unwrap() }
    }

    /// Where a phrase stands in `text`, the phrase, and a better one.
    pub fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, &'a str, &'a str)> {
        self.any.find_iter(text).map(|hit| {
            let better = self.rules.iter().find(|(pattern, _)| pattern.is_match(hit.as_str()));
            (hit.start(), hit.as_str(), better.map_or("another phrase", |(_, better)| better))
        })
    }
}

/// Where a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// As any word of any identifier: `told` refuses `told_minutes`, `minutesTold` and `ping_told_total`.
    Word,
    /// As any word of an identifier, but for functions whose name is a sentence.
    Short,
    /// As the whole identifier, of whatever kind.
    Any,
    /// As the whole identifier, of this kind.
    Only(Kind),
    /// As a type that stands more than once in the workspace.
    Unique,
}

/// A name that another one replaces.
pub struct Name {
    pub scope: Scope,
    pub name: String,
    pub better: String,
}

/// The list of `lint/names.txt`.
pub fn names() -> Vec<Name> {
    let parse = |(number, line): (usize, String)| {
        let mut columns = line.splitn(3, char::is_whitespace).map(str::trim);
        let mut column = || columns.next().unwrap_or_else(|| panic!("lint/names.txt:{number}: three columns, please"));
        let scope = match column() {
            "word" => Scope::Word,
            "short" => Scope::Short,
            "any" => Scope::Any,
            "type" => Scope::Only(Kind::Type),
            "fn" => Scope::Only(Kind::Function),
            "mod" => Scope::Only(Kind::Module),
            "const" => Scope::Only(Kind::Constant),
            "unique" => Scope::Unique,
            other => panic!("lint/names.txt:{number}: no scope `{other}`"),
        };
        Name { scope, name: column().to_owned(), better: column().to_owned() }
    };
    lines("names.txt").into_iter().map(parse).collect()
}
