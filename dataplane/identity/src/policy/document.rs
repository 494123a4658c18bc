//! The policy as written, and its validation.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use serde::Deserialize;

use super::{
    AccessPolicy,
    checks::{PolicyError, all, check_callers, check_name, invalid},
    quotas::{self, QuotaEntry},
};
use crate::{
    grants::Rule,
    issuer::{Issuer, KeyLocation},
    pattern::Pattern,
    permission::Permission,
    quota::Quota,
};

/// Names of callers that are not from an issuer.
const RESERVED: [&str; 4] = ["token", "cert", "group", "anonymous"];

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Document {
    tokens: Vec<Token>,
    issuers: Vec<IssuerEntry>,
    rules: Vec<RuleEntry>,
    quotas: Vec<QuotaEntry>,
    anonymous: Vec<Permission>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    name: String,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IssuerEntry {
    name: String,
    issuer: String,
    audiences: Vec<String>,
    #[serde(default = "groups")]
    groups_claim: String,
    #[serde(default)]
    jwks: Jwks,
}

fn groups() -> String {
    "groups".to_owned()
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Jwks {
    url: Option<String>,
    file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleEntry {
    callers: Vec<String>,
    permissions: Vec<Permission>,
    #[serde(default = "all")]
    sources: Vec<String>,
    #[serde(default = "all")]
    kinds: Vec<String>,
    #[serde(default)]
    bind_source: bool,
}

pub(super) fn parse(yaml: &[u8]) -> Result<AccessPolicy, PolicyError> {
    let document: Option<Document> = yaml_serde::from_slice(yaml)?;
    let Document { tokens, issuers, rules, quotas, anonymous } = document.unwrap_or_default();
    let tokens = self::tokens(tokens)?;
    let issuers = self::issuers(issuers)?;
    let rules: Vec<_> = (1..).zip(rules).map(|(number, entry)| rule(number, entry)).collect::<Result<_, _>>()?;
    let quotas = quotas::quotas(quotas)?;
    let warnings = warnings(&rules, &quotas, &tokens, &issuers);
    Ok(AccessPolicy { tokens, issuers, rules, quotas, anonymous: anonymous.into_iter().collect(), warnings })
}

fn tokens(entries: Vec<Token>) -> Result<HashMap<[u8; 32], Box<str>>, PolicyError> {
    let mut tokens: HashMap<[u8; 32], Box<str>> = HashMap::new();
    for (index, Token { name, sha256 }) in entries.into_iter().enumerate() {
        let at = |field: &str| format!("tokens[{index}].{field}");
        check_name(&at("name"), &name)?;
        if tokens.values().any(|other| **other == *name) {
            return invalid(at("name"), format!("\"{name}\" is the name of another token; use each name once"));
        }
        let Some(digest) = hex(&sha256) else {
            let problem = "write the SHA-256 of the token as 64 hexadecimal digits: printf %s TOKEN | sha256sum";
            return invalid(at("sha256"), problem);
        };
        if let Some(other) = tokens.insert(digest, name.into()) {
            return invalid(at("sha256"), format!("token \"{other}\" has the same; give each caller its own token"));
        }
    }
    Ok(tokens)
}

/// 64 hexadecimal digits.
fn hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<_> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    let bytes: Vec<_> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| (byte << 4) | digit)).collect();
    bytes.try_into().ok().filter(|_| text.len() == 64)
}

fn issuers(entries: Vec<IssuerEntry>) -> Result<HashMap<Box<str>, Arc<Issuer>>, PolicyError> {
    let mut issuers: HashMap<Box<str>, Arc<Issuer>> = HashMap::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let at = |field: &str| format!("issuers[{index}].{field}");
        check_name(&at("name"), &entry.name)?;
        if RESERVED.contains(&entry.name.as_str()) {
            return invalid(at("name"), format!("\"{}\" has a meaning in rules; choose another name", entry.name));
        }
        if issuers.values().any(|other| *other.name == *entry.name) {
            return invalid(at("name"), format!("\"{}\" is the name of another issuer; use each once", entry.name));
        }
        if entry.audiences.is_empty() || entry.audiences.iter().any(String::is_empty) {
            return invalid(at("audiences"), "name at least one audience, such as ping; tokens for others are refused");
        }
        let issuer = Issuer {
            keys: key_location(&at, &entry)?,
            name: entry.name.into(),
            issuer: entry.issuer.into(),
            audiences: entry.audiences,
            groups_claim: entry.groups_claim.into(),
            ca_file: entry.jwks.ca_file,
            token_file: entry.jwks.token_file,
        };
        if let Some(other) = issuers.insert(issuer.issuer.clone(), Arc::new(issuer)) {
            return invalid(at("issuer"), format!("issuer \"{}\" has the same; list all audiences there", other.name));
        }
    }
    Ok(issuers)
}

fn key_location(at: &dyn Fn(&str) -> String, entry: &IssuerEntry) -> Result<KeyLocation, PolicyError> {
    match (&entry.jwks.url, &entry.jwks.file) {
        (Some(_), Some(_)) => invalid(at("jwks"), "has both url and file; set one of them"),
        (None, Some(file)) => Ok(KeyLocation::File(file.clone())),
        (Some(url), None) => {
            check_url(&at("jwks.url"), url)?;
            Ok(KeyLocation::Url(url.as_str().into()))
        }
        (None, None) => {
            check_url(&at("issuer"), &entry.issuer)?;
            Ok(KeyLocation::Discovery)
        }
    }
}

/// Keys that come in plaintext could be an attacker's.
fn check_url(at: &str, url: &str) -> Result<(), PolicyError> {
    if crate::fetch::is_secure(url) {
        return Ok(());
    }
    invalid(at, "is not an https:// URL, so the keys could be forged; http:// is allowed for loopback addresses only")
}

fn rule(number: usize, entry: RuleEntry) -> Result<Arc<Rule>, PolicyError> {
    let index = number - 1;
    let lists = [("callers", &entry.callers), ("sources", &entry.sources), ("kinds", &entry.kinds)];
    if let Some((field, _)) = lists.into_iter().find(|(_, list)| list.is_empty()) {
        return invalid(
            format!("rules[{index}].{field}"),
            "is empty, so the rule matches nothing; name one, or remove the rule",
        );
    }
    if entry.permissions.is_empty() {
        return invalid(
            format!("rules[{index}].permissions"),
            "is empty; name at least one of ingest, read, admin, metrics",
        );
    }
    check_callers(&format!("rules[{index}].callers"), &entry.callers, &[])?;
    let patterns = |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect();
    Ok(Arc::new(Rule {
        number,
        callers: patterns(&entry.callers),
        permissions: entry.permissions.into_iter().collect(),
        sources: patterns(&entry.sources),
        kinds: patterns(&entry.kinds),
        bind_source: entry.bind_source,
    }))
}

/// Callers in rules and quotas that do not exist. No error: to revoke a token or an issuer, removing its entry must be enough.
fn warnings(
    rules: &[Arc<Rule>],
    quotas: &[Arc<Quota>],
    tokens: &HashMap<[u8; 32], Box<str>>,
    issuers: &HashMap<Box<str>, Arc<Issuer>>,
) -> Vec<String> {
    let has_issuer = |name: &str| issuers.values().any(|issuer| *issuer.name == *name);
    let exists = |caller: &str| match caller.split_once(':') {
        Some(("token", name)) => name.contains('*') || tokens.values().any(|token| **token == *name),
        Some(("cert", _)) => true,
        Some(("group", rest)) => {
            let issuer = rest.split_once(':').map_or(rest, |(issuer, _)| issuer);
            issuer.contains('*') || has_issuer(issuer)
        }
        Some((issuer, _)) => issuer.contains('*') || has_issuer(issuer),
        None => true,
    };
    let of_rules = rules.iter().map(|rule| (format!("rule {}", rule.number), &rule.callers));
    let of_quotas = quotas.iter().map(|quota| (format!("quota \"{}\"", quota.name), &quota.callers));
    let mut warnings = Vec::new();
    for (entry, callers) in of_rules.chain(of_quotas) {
        for caller in callers.iter().map(Pattern::as_str).filter(|caller| !exists(caller)) {
            warnings.push(format!("{entry} names \"{caller}\", which is neither in tokens nor in issuers"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn error(yaml: &str) -> String {
        AccessPolicy::parse(yaml.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_policy_allows_nothing_and_is_valid() {
        for yaml in ["", "# nothing\n", "rules: []", "{}"] {
            let policy = AccessPolicy::parse(yaml.as_bytes()).unwrap();
            assert!(Permission::ALL.iter().all(|permission| !policy.anonymous.contains(*permission)), "{yaml}");
        }
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let token = |sha256: &str| format!("tokens: [{{name: ci, sha256: \"{sha256}\"}}]");
        let issuer = |rest: &str| format!("issuers: [{{name: a, issuer: \"https://a\", {rest}}}]");
        let cases = [
            ("rules: [{callers: [\"token:a\"], permissions: [write]}]".to_owned(), "rules[0].permissions[0]"),
            ("tokenz: []".to_owned(), "unknown field `tokenz`"),
            (
                "rules: [{callers: [\"token:a\"], permissions: [read], source: [a]}]".to_owned(),
                "unknown field `source`",
            ),
            (token("abc"), "tokens[0].sha256: write the SHA-256 of the token as 64"),
            (token(&format!("{DIGEST}00")), "tokens[0].sha256"),
            (token(&DIGEST.replace('b', "g")), "tokens[0].sha256"),
            (format!("tokens: [{{name: \"a b\", sha256: {DIGEST}}}]"), "tokens[0].name: \"a b\" is not a name"),
            (
                format!("tokens: [{{name: a, sha256: {DIGEST}}}, {{name: b, sha256: {DIGEST}}}]"),
                "tokens[1].sha256: token \"a\" has the same",
            ),
            (issuer("audiences: []"), "issuers[0].audiences: name at least one"),
            (
                issuer("audiences: [x], jwks: {url: \"http://a.example/keys\"}"),
                "issuers[0].jwks.url: is not an https:// URL",
            ),
            (issuer("audiences: [x], jwks: {url: \"https://a\", file: /a}"), "issuers[0].jwks: has both"),
            (
                "issuers: [{name: cert, issuer: \"https://a\", audiences: [x]}]".to_owned(),
                "issuers[0].name: \"cert\" has a meaning",
            ),
            (
                "issuers: [{name: a, issuer: me, audiences: [x]}]".to_owned(),
                "issuers[0].issuer: is not an https:// URL",
            ),
            ("rules: [{callers: [ci], permissions: [read]}]".to_owned(), "rules[0].callers[0]: \"ci\" is not a caller"),
            ("rules: [{callers: [], permissions: [read]}]".to_owned(), "rules[0].callers: is empty"),
            ("rules: [{callers: [\"*\"], permissions: []}]".to_owned(), "rules[0].permissions: is empty"),
        ];
        for (yaml, expected) in cases {
            let found = error(&yaml);
            assert!(found.contains(expected), "{yaml}\n{found}");
        }
    }

    #[test]
    fn a_rule_about_an_unknown_caller_is_a_warning_so_that_removing_a_token_revokes_it() {
        let yaml = "rules: [{callers: [\"token:ci\", \"cert:x\", \"token:*\", \"gone:a\", \"group:gone:a\", \"*\"], permissions: [read]}]";
        let policy = AccessPolicy::parse(yaml.as_bytes()).unwrap();
        assert_eq!(policy.warnings().len(), 3, "{:?}", policy.warnings());
        assert!(policy.warnings()[0].starts_with("rule 1 names \"token:ci\""));
    }
}
