//! An authenticated caller.

use std::sync::Arc;

use crate::{
    grants::{Denied, Extent, Grants, Rule},
    identity::Identity,
    permission::Permission,
    quota::CallerQuota,
};

/// A caller, and what it may do by one version of the access policy.
#[derive(Debug)]
pub struct Caller {
    pub(crate) identity: Identity,
    name: Box<str>,
    grants: Grants,
    quotas: Box<[CallerQuota]>,
    /// When its credentials expire, in seconds since the Unix epoch; none if they do not.
    pub(crate) expires: Option<i64>,
    /// The version of the access policy.
    pub(crate) version: u64,
}

impl Caller {
    pub(crate) fn new(
        identity: Identity,
        rules: Vec<Arc<Rule>>,
        quotas: Box<[CallerQuota]>,
        expires: Option<i64>,
        version: u64,
    ) -> Self {
        Self { name: identity.name().into(), grants: Grants::new(rules), quotas, identity, expires, version }
    }

    /// The name, such as `token:ci`, `cluster:system:serviceaccount:shop:orders`, `cert:orders.shop` or `anonymous`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the caller has sent no credentials.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self.identity, Identity::Anonymous)
    }

    /// Whether the caller has the permission for some source and kind.
    #[must_use]
    pub fn has(&self, permission: Permission) -> bool {
        self.grants.has(permission)
    }

    /// Checks that the caller has the permission for `source` and `kind`.
    ///
    /// # Errors
    /// When no rule allows it.
    pub fn authorize(&self, permission: Permission, source: Extent<'_>, kind: Extent<'_>) -> Result<(), Denied> {
        let subject = self.identity.subject();
        if self.grants.allow(permission, source, kind, subject) {
            return Ok(());
        }
        Err(self.grants.denied(permission, source, kind, (&self.name, subject)))
    }

    /// Why the caller lacks the permission for all sources and kinds.
    #[must_use]
    pub fn lacks(&self, permission: Permission) -> Denied {
        self.grants.denied(permission, Extent::All, Extent::All, (&self.name, self.identity.subject()))
    }

    /// The quotas that cover it.
    #[must_use]
    pub fn quotas(&self) -> &[CallerQuota] {
        &self.quotas
    }

    /// Whether its credentials have expired at `now`, in seconds since the Unix epoch.
    pub(crate) fn is_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// About how many bytes it occupies.
    pub(crate) fn size(&self) -> usize {
        let groups = match &self.identity {
            Identity::Issued { groups, .. } => groups.iter().map(|group| group.len() + 16).sum(),
            _ => 0,
        };
        let quotas: usize = self.quotas.iter().map(CallerQuota::size).sum();
        // The subject is in the name, too.
        256 + 2 * self.name.len() + groups + quotas
    }
}
