//! What the rules allow one caller.

use std::sync::Arc;

use crate::{
    pattern::Pattern,
    permission::{Permission, Permissions},
};

/// Longest part of a source or a kind in a message, in characters.
const MAX_QUOTED: usize = 64;

/// One rule of the access policy.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Its position in the file, from 1.
    pub(crate) number: usize,
    pub(crate) callers: Vec<Pattern>,
    pub(crate) permissions: Permissions,
    pub(crate) sources: Vec<Pattern>,
    pub(crate) kinds: Vec<Pattern>,
    /// Whether the source must be the caller's subject.
    pub(crate) bind_source: bool,
}

/// How much a call concerns of the sources, or of the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent<'a> {
    /// All of them, such as a total.
    All,
    /// One; events without a source have an empty one.
    One(&'a str),
}

/// A call that no rule allows. The message says which rules come closest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Denied(String);

impl Rule {
    fn covers(&self, source: Extent<'_>, kind: Extent<'_>, subject: Option<&str>) -> bool {
        let bound = match source {
            Extent::All => !self.bind_source,
            Extent::One(source) => !self.bind_source || subject == Some(source),
        };
        bound && covers(&self.sources, source) && covers(&self.kinds, kind)
    }

    /// Whether it is about all sources and kinds.
    fn is_unrestricted(&self) -> bool {
        self.covers(Extent::All, Extent::All, None)
    }

    fn describe(&self, subject: Option<&str>) -> String {
        let list = |patterns: &[Pattern]| patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ");
        let bound = match subject {
            Some(subject) if self.bind_source => format!(" that are \"{}\"", quoted(subject)),
            _ => String::new(),
        };
        format!(
            "rule {} allows it for sources {}{bound} and kinds {}",
            self.number,
            list(&self.sources),
            list(&self.kinds)
        )
    }
}

fn covers(patterns: &[Pattern], extent: Extent<'_>) -> bool {
    match extent {
        Extent::All => patterns.iter().any(Pattern::matches_all),
        Extent::One(text) => patterns.iter().any(|pattern| pattern.matches(text)),
    }
}

/// The rules that name a caller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grants {
    rules: Vec<Arc<Rule>>,
    /// Permissions for all sources and kinds, so that most events need no look at the rules.
    everywhere: Permissions,
    /// Permissions for some source and kind.
    somewhere: Permissions,
}

impl Grants {
    pub(crate) fn new(rules: Vec<Arc<Rule>>) -> Self {
        let add = |all: Permissions, rule: &Arc<Rule>| all.union(rule.permissions);
        let everywhere = rules.iter().filter(|rule| rule.is_unrestricted()).fold(Permissions::default(), add);
        let somewhere = rules.iter().fold(Permissions::default(), add);
        Self { rules, everywhere, somewhere }
    }

    /// Whether the caller has the permission for any source and kind.
    pub(crate) fn has(&self, permission: Permission) -> bool {
        self.somewhere.contains(permission)
    }

    pub(crate) fn allow(
        &self,
        permission: Permission,
        source: Extent<'_>,
        kind: Extent<'_>,
        subject: Option<&str>,
    ) -> bool {
        self.everywhere.contains(permission) || self.with(permission).any(|rule| rule.covers(source, kind, subject))
    }

    /// Why a call is not allowed, for the caller with this name.
    pub(crate) fn denied(
        &self,
        permission: Permission,
        source: Extent<'_>,
        kind: Extent<'_>,
        caller: (&str, Option<&str>),
    ) -> Denied {
        let ((name, subject), permission_name) = (caller, permission.as_str());
        let name = quoted(name);
        let closest: Vec<_> = self.with(permission).map(|rule| rule.describe(subject)).collect();
        if closest.is_empty() {
            return Denied(format!(
                "caller \"{name}\" lacks the permission \"{permission_name}\"; ask for a rule in the server's access policy with \
                 callers: [\"{name}\"] and permissions: [{permission_name}]"
            ));
        }
        let what = format!("\"{permission_name}\" for {} and {}", extent("source", source), extent("kind", kind));
        Denied(format!(
            "caller \"{name}\" lacks the permission {what}; {}. Stay within a rule, or ask for a wider one in the server's access policy",
            closest.join(", ")
        ))
    }

    fn with(&self, permission: Permission) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter().filter(move |rule| rule.permissions.contains(permission))
    }
}

fn extent(noun: &str, extent: Extent<'_>) -> String {
    match extent {
        Extent::All => format!("all {noun}s (\"*\")"),
        Extent::One(text) => format!("{noun} \"{}\"", quoted(text)),
    }
}

/// A text from outside: short, and without control characters.
fn quoted(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(MAX_QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(number: usize, sources: &[&str], kinds: &[&str], bind_source: bool) -> Arc<Rule> {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect();
        Arc::new(Rule {
            number,
            callers: Vec::new(),
            permissions: [Permission::Ingest].into_iter().collect(),
            sources: patterns(sources),
            kinds: patterns(kinds),
            bind_source,
        })
    }

    fn allow(grants: &Grants, source: Extent<'_>, kind: Extent<'_>) -> bool {
        grants.allow(Permission::Ingest, source, kind, Some("me"))
    }

    use Extent::{All, One};

    #[test]
    fn a_rule_allows_its_sources_and_kinds_only() {
        let grants = Grants::new(vec![rule(1, &["orders-*"], &["ping"], false)]);
        assert!(allow(&grants, One("orders-1"), One("ping")));
        assert!(!allow(&grants, One("orders-1"), One("login")));
        assert!(!allow(&grants, One("order"), One("ping")));
        assert!(!allow(&grants, One(""), One("ping")) && !allow(&grants, All, One("ping")));
        assert!(!grants.allow(Permission::Read, One("orders-1"), One("ping"), None));
        assert!(grants.has(Permission::Ingest) && !grants.has(Permission::Read));
    }

    #[test]
    fn rules_add_up_but_do_not_mix() {
        let grants = Grants::new(vec![rule(1, &["a"], &["x"], false), rule(2, &["b"], &["y"], false)]);
        assert!(allow(&grants, One("a"), One("x")) && allow(&grants, One("b"), One("y")));
        assert!(!allow(&grants, One("a"), One("y")));
    }

    #[test]
    fn a_bound_source_is_the_callers_subject() {
        let grants = Grants::new(vec![rule(1, &["*"], &["*"], true)]);
        assert!(allow(&grants, One("me"), One("ping")));
        assert!(!allow(&grants, One("you"), One("ping")) && !allow(&grants, One(""), One("ping")));
        assert!(!allow(&grants, All, All));
        assert!(!grants.allow(Permission::Ingest, One("me"), All, None), "anonymous callers have no subject");
    }

    #[test]
    fn a_refusal_says_what_is_missing_and_which_rules_come_closest() {
        let grants = Grants::new(vec![rule(3, &["a-*", "b"], &["*"], false)]);
        let error = grants.denied(Permission::Ingest, One("c\u{1b}"), One("ping"), ("token:ci", None)).to_string();
        assert!(error.starts_with("caller \"token:ci\" lacks the permission \"ingest\" for source \"c\" and kind \"ping\"; rule 3 allows it for sources a-*, b and kinds *."), "{error}");
        let error = grants.denied(Permission::Read, All, All, ("token:ci", None)).to_string();
        assert!(error.contains("callers: [\"token:ci\"] and permissions: [read]"), "{error}");
        assert_eq!(quoted(&"x".repeat(1000)).len(), MAX_QUOTED);
    }
}
