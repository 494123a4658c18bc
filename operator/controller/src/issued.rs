//! A Secret that the operator issues.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;

/// A Secret whose content the operator issues: keys, certificates, passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedSecret {
    /// Its name.
    pub name: String,
    /// The component that it belongs to.
    pub component: &'static str,
    /// Its type, such as `Opaque`.
    pub type_: &'static str,
    /// Its content.
    pub data: BTreeMap<String, ByteString>,
}

impl std::fmt::Debug for IssuedSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("IssuedSecret").field("name", &self.name).finish_non_exhaustive()
    }
}
