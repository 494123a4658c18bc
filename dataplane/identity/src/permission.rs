//! What a caller may be allowed to do.

use serde::Deserialize;

/// One permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Send events.
    Ingest,
    /// Query counts, sources and statuses.
    Read,
    /// Call the admin service, and everything else on the admin port.
    Admin,
    /// Read the metrics on the admin port.
    Metrics,
}

impl Permission {
    /// All permissions.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Read, Self::Admin, Self::Metrics];

    /// The name, as in the access policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Permissions(u8);

impl Permissions {
    pub(crate) fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | (1 << permission as u8)))
    }
}
