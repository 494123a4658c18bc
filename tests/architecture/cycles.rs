//! No files of a crate import each other in a circle.
//!
//! A file depends on another when a path in it, in a `use` or in code, names something that the other defines: `use super::Store`
//! depends on the parent's file if `Store` is defined there, and on `store.rs` if the parent says `pub use store::Store`. A parent is
//! made of its children, so what it uses of them is no dependency; what children use of their parent, of each other and of other
//! folders is. Test code does not count. Methods are not seen: a call does not name the file that defines them.
//!
//! To break a circle, move what both need into a file of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    imports::{Import, Module, modules, paths},
    layers::metadata,
    source::{assert_none, root},
    tree::Tree,
};

/// What a file depends on, with the path and the line that say so first.
type Graph = BTreeMap<PathBuf, BTreeMap<PathBuf, (String, usize)>>;

enum Target {
    Module(usize),
    Item(usize),
}

struct Crate(Vec<Module>);

impl Crate {
    /// What `path` means in `module`; none for another crate's, or for a local name.
    fn resolve(&self, module: usize, path: &[String], depth: usize) -> Option<Target> {
        let mut current = module;
        let mut rest = path;
        let mut anchored = false;
        while let Some(first) = rest.first() {
            match first.as_str() {
                "crate" => current = 0,
                "self" => {}
                "super" => current = self.0[current].parent?,
                _ => break,
            }
            anchored = true;
            rest = &rest[1..];
        }
        for (position, segment) in rest.iter().enumerate() {
            match self.name(current, segment, depth) {
                Some(Target::Module(id)) => current = id,
                Some(item) => return Some(item),
                None if anchored || position > 0 => return Some(Target::Item(current)),
                None => return None,
            }
        }
        (anchored || !rest.is_empty()).then_some(Target::Module(current))
    }

    fn name(&self, id: usize, name: &str, depth: usize) -> Option<Target> {
        let module = &self.0[id];
        if let Some(child) = module.children.get(name) {
            return Some(Target::Module(*child));
        }
        if module.defined.contains(name) {
            return Some(Target::Item(id));
        }
        let deeper = depth.checked_sub(1)?;
        // `use serde::Serialize` in a module `serde` must not find itself.
        let by_name = module.imports.iter().filter(|import| import.name == name && import.path != [name]);
        let found = by_name.filter_map(|import| self.resolve(id, &import.path, deeper)).next();
        let globs = || module.imports.iter().filter(|import| import.name == "*");
        found.or_else(|| {
            globs().find_map(|import| match self.resolve(id, &import.path, deeper) {
                Some(Target::Module(other)) if other != id => self.name(other, name, deeper),
                _ => None,
            })
        })
    }

    fn depends(&self, graph: &mut Graph, id: usize, path: &[String], line: usize) {
        let target = match self.resolve(id, path, 8) {
            Some(Target::Module(target) | Target::Item(target)) => target,
            None => return,
        };
        let (from, to) = (&self.0[id].file, &self.0[target].file);
        let edges = graph.entry(from.clone()).or_default();
        if from != to && !self.is_below(target, id) {
            edges.entry(to.clone()).or_insert_with(|| (path.join("::"), line));
        }
    }

    /// Whether a module is inside another.
    fn is_below(&self, id: usize, of: usize) -> bool {
        self.0[id].parent.is_some_and(|parent| parent == of || self.is_below(parent, of))
    }

    /// A module's name alone is no value, so a local of the same name is meant.
    fn is_local(&self, id: usize, path: &[String]) -> bool {
        path.len() == 1 && !matches!(self.resolve(id, path, 8), Some(Target::Item(_)))
    }
}

fn graph(modules: Vec<Module>) -> Graph {
    let target = Crate(modules);
    let mut graph = Graph::new();
    for (id, module) in target.0.iter().enumerate() {
        for Import { path, name, line, .. } in module.imports.iter().filter(|import| !import.public) {
            // All that a module re-exports is no dependency on the module.
            let empty = |id: usize| target.0[id].defined.is_empty();
            let arranges = name == "*" && matches!(target.resolve(id, path, 8), Some(Target::Module(id)) if empty(id));
            if !arranges {
                target.depends(&mut graph, id, path, *line);
            }
        }
        let mut found = Vec::new();
        paths(&module.code, &mut found);
        for (path, line) in found.iter().filter(|(path, _)| !target.is_local(id, path)) {
            target.depends(&mut graph, id, path, *line);
        }
    }
    graph
}

/// Everything that `from` reaches.
fn reach<'a>(graph: &'a Graph, from: &Path) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<_> = graph.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(graph.get(file).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}

/// The circles: files that all reach each other.
fn circles(graph: &Graph) -> Vec<BTreeSet<PathBuf>> {
    let reached: BTreeMap<_, _> = graph.keys().map(|file| (file, reach(graph, file))).collect();
    let mut found = BTreeSet::new();
    for (file, to) in &reached {
        if to.contains(file) {
            let circle = to.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)));
            found.insert(circle.map(|file| (*file).clone()).collect::<BTreeSet<_>>());
        }
    }
    found.into_iter().collect()
}

/// The circles of the target whose root is `file`, one a line, with the imports that close them.
fn report(file: &Path, root: &Path) -> Vec<String> {
    let graph = graph(modules(file));
    let short = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
    let mut found = Vec::new();
    for circle in circles(&graph) {
        let mut text = format!("{} files import each other:", circle.len());
        for file in &circle {
            for (to, (path, line)) in graph[file].iter().filter(|(to, _)| circle.contains(*to)) {
                text += &format!("\n  {}:{line}: `{path}` is in {}", short(file), short(to));
            }
        }
        found.push(text);
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = root();
    let mut found = BTreeSet::new();
    for package in metadata(&root)["packages"].as_array().unwrap() {
        for target in package["targets"].as_array().unwrap() {
            let file = Path::new(target["src_path"].as_str().unwrap());
            if target["kind"][0] != "custom-build" {
                found.extend(report(file, &root));
            }
        }
    }
    assert_none("import cycles", &found.into_iter().collect::<Vec<_>>());
}

fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let tree = Tree::new(files[0].1.split_whitespace().last().unwrap());
    for (path, text) in files {
        tree.write(path, text);
    }
    report(&tree.path().join("lib.rs"), tree.path())
}

#[test]
fn a_circle_is_found_with_the_lines_that_close_it() {
    let found = circles_of(&[
        ("lib.rs", "mod a; mod b; // circle"),
        ("a.rs", "use crate::b::run;\npub struct A;\nfn f() { run(); }"),
        ("b.rs", "pub fn run() -> Option<super::a::A> { None }"),
    ]);
    let expected =
        "2 files import each other:\n  a.rs:1: `crate::b::run` is in b.rs\n  b.rs:1: `super::a::A` is in a.rs";
    assert_eq!(found, [expected]);
}

#[test]
fn a_circle_through_a_parent_and_a_re_export_is_found() {
    let found = circles_of(&[
        ("lib.rs", "mod load; mod args; pub use args::Args; // through"),
        ("args.rs", "pub struct Args(crate::load::plan::Plan);"),
        ("load.rs", "pub mod plan; pub struct Run(crate::Args);"),
        ("load/plan.rs", "pub struct Plan(Box<super::Run>);"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("3 files"), "{found:?}");
}

#[test]
fn a_parent_may_use_its_children_and_they_may_use_it() {
    let parent = "mod child; pub use child::Child; pub struct Parent(Child); fn f() { child::g(); } // parent";
    let child = "pub struct Child(Box<dyn Fn(super::Parent)>); pub fn g() {}";
    let found = circles_of(&[("lib.rs", parent), ("child.rs", child)]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn inside_a_macro_counts_too() {
    let found = circles_of(&[
        ("lib.rs", "mod a; mod b; // macro"),
        ("a.rs", "pub fn f() { println!(\"{}\", super::b::g()); } pub const X: u8 = 1;"),
        ("b.rs", "pub fn g() -> u8 { assert!(crate::a::X > 0); 1 }"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn arranging_names_is_no_dependency() {
    let found = circles_of(&[
        ("lib.rs", "mod a; mod b; pub use a::A; pub(crate) use b::{B, make}; // arranged"),
        ("a.rs", "use super::B;\npub struct A(B);\nimpl A { fn lib(make: u8) { self.make(make, a); } }"),
        ("b.rs", "pub struct B; pub fn make() {}\n#[cfg(test)]\nmod tests { use super::super::A; }"),
    ]);
    assert!(found.is_empty(), "{found:?}");
}
