//! What the tokens of a Rust file say, without a full parser: enough for functions and definitions, and quick to build.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The tokens of a file; none, with a message, if it is no Rust.
pub fn parse(text: &str) -> TokenStream {
    // A script's first line is none of Rust's.
    let text = if text.starts_with("#!/") { text.replacen("#!", "//", 1) } else { text.to_owned() };
    text.parse().unwrap_or_else(|error| panic!("not Rust: {error}: {}", text.lines().next().unwrap_or_default()))
}

pub fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

pub fn word(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string().trim_start_matches("r#").to_owned()),
        _ => None,
    }
}

pub fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

pub fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<TokenStream> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group.stream()),
        _ => None,
    }
}

/// The index of the first `;` or `{…}` from `start` on: where an item ends.
pub fn item_end(tokens: &[TokenTree], start: usize) -> usize {
    let ends = |token: &TokenTree| is_punct(Some(token), ';') || group(Some(token), Delimiter::Brace).is_some();
    tokens[start..].iter().position(ends).map_or(tokens.len(), |offset| start + offset)
}

/// A function with a body, and its lines from `fn` to the closing brace.
pub struct Function {
    pub name: String,
    pub first: usize,
    pub last: usize,
}

/// All functions, methods and nested functions.
pub fn functions(tokens: &TokenStream) -> Vec<Function> {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            found.extend(functions(&group.stream()));
        }
        let Some(name) = word(tokens.get(index + 1)).filter(|_| word(Some(token)).as_deref() == Some("fn")) else {
            continue;
        };
        if let Some(TokenTree::Group(body)) = tokens.get(item_end(&tokens, index)) {
            found.push(Function { name, first: line(token), last: body.span_close().end().line });
        }
    }
    found
}

/// What a name is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Type,
    Variant,
    Function,
    Field,
    Module,
    Constant,
    Text,
}

/// A name, where it is given.
pub struct Definition {
    pub kind: Kind,
    pub name: String,
    pub line: usize,
}

/// Every type, variant, function, field, module and constant that is named, and every string (as `Kind::Text`) but for comments.
pub fn definitions(tokens: &TokenStream) -> Vec<Definition> {
    let mut found = Vec::new();
    collect(&tokens.clone().into_iter().collect::<Vec<_>>(), &mut found);
    found
}

fn collect(tokens: &[TokenTree], found: &mut Vec<Definition>) {
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) if !is_doc(tokens, index) => {
                collect(&group.stream().into_iter().collect::<Vec<_>>(), found);
            }
            TokenTree::Literal(literal) if literal.to_string().contains('"') => {
                found.push(Definition { kind: Kind::Text, name: literal.to_string(), line: line(token) });
            }
            TokenTree::Ident(keyword) => named(&keyword.to_string(), tokens, index, found),
            _ => {}
        }
    }
}

/// The `[…]` of `#[doc = "…"]`, which is what a doc comment is to a lexer.
fn is_doc(tokens: &[TokenTree], index: usize) -> bool {
    let content = group(Some(&tokens[index]), Delimiter::Bracket).and_then(|content| content.into_iter().next());
    index > 0 && word(content.as_ref()).as_deref() == Some("doc")
}

fn named(keyword: &str, tokens: &[TokenTree], index: usize, found: &mut Vec<Definition>) {
    let kind = match keyword {
        "struct" | "enum" | "union" | "trait" | "type" => Kind::Type,
        "fn" => Kind::Function,
        "mod" => Kind::Module,
        "const" | "static" => Kind::Constant,
        _ => return,
    };
    let Some(name) = word(tokens.get(index + 1)).filter(|name| !matches!(name.as_str(), "fn" | "mut" | "_")) else {
        return;
    };
    found.push(Definition { kind, name, line: line(&tokens[index + 1]) });
    if let Some(body) = group(tokens.get(item_end(tokens, index)), Delimiter::Brace) {
        let body: Vec<_> = body.into_iter().collect();
        match keyword {
            "struct" | "union" => members(&body, Kind::Field, found),
            "enum" => members(&body, Kind::Variant, found),
            _ => {}
        }
    }
}

/// The names of fields, or of variants and their fields.
fn members(body: &[TokenTree], kind: Kind, found: &mut Vec<Definition>) {
    let mut expected = true;
    for (index, token) in body.iter().enumerate() {
        match token {
            TokenTree::Ident(ident) if expected && ident != "pub" => {
                found.push(Definition { kind, name: ident.to_string(), line: line(token) });
                expected = false;
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && kind == Kind::Variant => {
                members(&group.stream().into_iter().collect::<Vec<_>>(), Kind::Field, found);
            }
            // A comma between the arguments of a generic type is none between fields.
            TokenTree::Punct(punct) if punct.as_char() == ',' => {
                let next = body[index + 1..].iter().position(|token| matches!(token, TokenTree::Ident(_)));
                let at = next.map(|offset| index + 1 + offset);
                expected = kind == Kind::Variant || at.is_some_and(|at| begins_field(body, at));
            }
            _ => {}
        }
    }
}

/// Whether `name:` or `pub … name:` stands at `index`.
fn begins_field(body: &[TokenTree], index: usize) -> bool {
    let mut at = index;
    if word(body.get(at)).as_deref() == Some("pub") {
        at += 1;
        if group(body.get(at), Delimiter::Parenthesis).is_some() {
            at += 1;
        }
    }
    is_punct(body.get(at + 1), ':') && !is_punct(body.get(at + 2), ':')
}

#[test]
fn definitions_are_found_with_their_kind() {
    let text = r##"
        /// A doc "comment".
        pub struct Cached<T> { pub(crate) seconds: Map<K, crate::V>, #[serde(rename = "x")] r#at: u64 }
        enum Outcome { First { limit: u8 }, #[default] Second(u8), Other = 3 }
        const fn apply<const N: usize>() { struct Inner; let s = "ping_events_total"; }
        mod fakes { pub static PRIMARY: &str = ""; }
    "##;
    let found: Vec<_> = definitions(&parse(text)).into_iter().map(|found| (found.kind, found.name)).collect();
    let expected = [
        (Kind::Type, "Cached"),
        (Kind::Field, "seconds"),
        (Kind::Field, "r#at"),
        (Kind::Text, "\"x\""),
        (Kind::Type, "Outcome"),
        (Kind::Variant, "First"),
        (Kind::Field, "limit"),
        (Kind::Variant, "Second"),
        (Kind::Variant, "Other"),
        (Kind::Function, "apply"),
        (Kind::Constant, "N"),
        (Kind::Type, "Inner"),
        (Kind::Text, "\"ping_events_total\""),
        (Kind::Module, "fakes"),
        (Kind::Constant, "PRIMARY"),
        (Kind::Text, "\"\""),
    ];
    assert_eq!(found, expected.map(|(kind, name)| (kind, name.to_owned())));
}
