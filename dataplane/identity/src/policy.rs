//! The access policy: which credentials are valid, and what they allow. Parsed and validated from YAML.

mod checks;
mod document;
mod quotas;

use std::{collections::HashMap, sync::Arc};

use crate::{
    caller::Caller,
    grants::Rule,
    identity::Identity,
    issuer::Issuer,
    pattern::Pattern,
    permission::Permissions,
    quota::{CallerQuota, Quota},
};

pub use checks::PolicyError;

/// A valid access policy.
#[derive(Debug)]
pub struct AccessPolicy {
    /// The names of static tokens, by SHA-256.
    tokens: HashMap<[u8; 32], Box<str>>,
    /// By the claim `iss`.
    issuers: HashMap<Box<str>, Arc<Issuer>>,
    rules: Vec<Arc<Rule>>,
    quotas: Vec<Arc<Quota>>,
    anonymous: Permissions,
    warnings: Vec<String>,
}

impl AccessPolicy {
    /// Parses a policy in YAML.
    ///
    /// # Errors
    /// When it is invalid. The message names the entry and says what to write.
    pub fn parse(yaml: &[u8]) -> Result<Self, PolicyError> {
        document::parse(yaml)
    }

    /// What is valid but probably a mistake: rules and quotas that name callers which the policy does not have.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.values()
    }

    /// All callers with a static token, by its SHA-256.
    pub(crate) fn token_callers(&self, version: u64) -> HashMap<[u8; 32], Arc<Caller>> {
        let callers = self.tokens.iter().map(|(digest, name)| {
            let identity = Identity::Token { name: name.clone(), digest: *digest };
            (*digest, Arc::new(self.caller(identity, None, version)))
        });
        callers.collect()
    }

    /// The caller with this identity. It may have no permission.
    pub(crate) fn caller(&self, identity: Identity, expires: Option<i64>, version: u64) -> Caller {
        let names = identity.names();
        let named =
            |patterns: &[Pattern]| patterns.iter().any(|pattern| names.iter().any(|name| pattern.matches(name)));
        let rules = match &identity {
            Identity::Anonymous => vec![self.anonymous_rule()],
            _ => self.rules.iter().filter(|rule| named(&rule.callers)).cloned().collect(),
        };
        let quotas = self.quotas.iter().filter(|quota| named(&quota.callers));
        let quotas = quotas.map(|quota| CallerQuota::new(Arc::clone(quota), &identity.name())).collect();
        Caller::new(identity, rules, quotas, expires, version)
    }

    /// Whether credentials that were valid by another version are valid by this one.
    pub(crate) fn accepts(&self, identity: &Identity) -> bool {
        match identity {
            Identity::Anonymous | Identity::Certificate { .. } => true,
            Identity::Token { name, digest } => self.tokens.get(digest) == Some(name),
            Identity::Issued { issuer, .. } => self.issuers.get(&issuer.issuer) == Some(issuer),
        }
    }

    fn anonymous_rule(&self) -> Arc<Rule> {
        let all = || vec![Pattern::new("*")];
        Arc::new(Rule {
            number: 0,
            callers: Vec::new(),
            permissions: self.anonymous,
            sources: all(),
            kinds: all(),
            bind_source: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        grants::Extent::{All, One},
        permission::Permission,
    };

    const POLICY: &str = r#"
tokens:
- {name: ci, sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
issuers:
- {name: cluster, issuer: "https://kubernetes.default.svc", audiences: [ping], jwks: {file: /keys.json}}
rules:
- {callers: ["token:ci"], permissions: [ingest, read]}
- {callers: ["cluster:system:serviceaccount:shop:*"], permissions: [ingest], bindSource: true}
- {callers: ["group:cluster:admins"], permissions: [admin]}
anonymous: [metrics]
"#;

    fn policy() -> AccessPolicy {
        AccessPolicy::parse(POLICY.as_bytes()).unwrap()
    }

    fn issued(policy: &AccessPolicy, subject: &str, groups: &[&str]) -> Caller {
        let issuer = Arc::clone(policy.issuers().next().unwrap());
        let groups = groups.iter().map(|group| Box::from(*group)).collect();
        policy.caller(Identity::Issued { issuer, subject: subject.into(), groups, key: [0; 32] }, None, 1)
    }

    #[test]
    fn a_static_token_is_found_by_its_digest() {
        let policy = policy();
        let callers = policy.token_callers(1);
        let caller = &callers[&crate::bearer::sha256("abc")];
        assert_eq!(caller.name(), "token:ci");
        assert!(caller.authorize(Permission::Read, All, All).is_ok());
        assert!(caller.authorize(Permission::Admin, All, All).is_err());
    }

    #[test]
    fn a_name_of_one_issuer_or_kind_is_not_that_of_another() {
        let policy = policy();
        assert!(issued(&policy, "ci", &[]).authorize(Permission::Read, All, All).is_err());
        let caller = issued(&policy, "system:serviceaccount:shop:a", &[]);
        assert!(caller.authorize(Permission::Ingest, One("system:serviceaccount:shop:a"), One("ping")).is_ok());
        assert!(caller.authorize(Permission::Ingest, One("system:serviceaccount:shop:b"), One("ping")).is_err());
        assert!(!issued(&policy, "admins", &[]).has(Permission::Admin));
        assert!(issued(&policy, "x", &["admins"]).has(Permission::Admin));
        let certificate = policy.caller(Identity::Certificate { name: "ci".into() }, None, 1);
        assert!(Permission::ALL.iter().all(|permission| !certificate.has(*permission)));
    }

    #[test]
    fn anonymous_callers_have_only_what_the_policy_gives_them() {
        let caller = policy().caller(Identity::Anonymous, None, 1);
        assert!(caller.has(Permission::Metrics) && !caller.has(Permission::Read));
        let everyone = "rules: [{callers: [\"*\"], permissions: [read]}]";
        let policy = AccessPolicy::parse(everyone.as_bytes()).unwrap();
        assert!(!policy.caller(Identity::Anonymous, None, 1).has(Permission::Read), "a rule needs credentials");
        assert!(policy.caller(Identity::Certificate { name: "x".into() }, None, 1).has(Permission::Read));
    }

    #[test]
    fn a_removed_token_and_a_changed_issuer_are_no_longer_accepted() {
        let (old, none) = (policy(), AccessPolicy::parse(b"rules: []").unwrap());
        let token = Identity::Token { name: "ci".into(), digest: crate::bearer::sha256("abc") };
        assert!(old.accepts(&token) && !none.accepts(&token));
        let other = AccessPolicy::parse(POLICY.replace("[ping]", "[pong]").as_bytes()).unwrap();
        let caller = issued(&old, "a", &[]);
        assert!(old.accepts(&caller.identity) && !other.accepts(&caller.identity));
    }
}
