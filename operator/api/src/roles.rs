//! Roles of servers: either one Deployment ingests and answers queries, or there is one Deployment for each.

use crate::crd::workload::{ServerRole, ServerSpec};

/// Role of the servers of a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ingest events and answer queries.
    All,
    /// Ingest events only.
    Ingest,
    /// Answer queries only, without a connection to Kafka.
    Query,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::All, Self::Ingest, Self::Query];

    /// The value of `pingd server --role`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Ingest => "ingest",
            Self::Query => "query",
        }
    }

    /// The component label, and the suffix of object names.
    #[must_use]
    pub fn component(self) -> &'static str {
        match self {
            Self::All => "server",
            Self::Ingest | Self::Query => self.as_str(),
        }
    }

    /// True if the servers ingest events.
    #[must_use]
    pub fn ingests(self) -> bool {
        self != Self::Query
    }

    /// True if the servers answer queries.
    #[must_use]
    pub fn queries(self) -> bool {
        self != Self::Ingest
    }
}

/// The server Deployments that `spec` requests, each with its effective settings.
#[must_use]
pub fn deployments(spec: &ServerSpec) -> Vec<(Role, ServerSpec)> {
    match (&spec.ingest, &spec.query) {
        (None, None) => vec![(Role::All, spec.clone())],
        (ingest, query) => {
            vec![(Role::Ingest, overridden(spec, ingest.as_ref())), (Role::Query, overridden(spec, query.as_ref()))]
        }
    }
}

/// The role of the servers that answer queries.
#[must_use]
pub fn query_role(spec: &ServerSpec) -> Role {
    if spec.ingest.is_none() && spec.query.is_none() { Role::All } else { Role::Query }
}

/// The role of the servers that ingest events.
#[must_use]
pub fn ingest_role(spec: &ServerSpec) -> Role {
    if spec.ingest.is_none() && spec.query.is_none() { Role::All } else { Role::Ingest }
}

/// `spec` with the overrides of one role.
fn overridden(spec: &ServerSpec, role: Option<&ServerRole>) -> ServerSpec {
    let mut spec = spec.clone();
    let Some(role) = role else { return spec };
    if let Some(replicas) = role.replicas {
        (spec.replicas, spec.autoscaling) = (replicas, None);
    }
    if role.autoscaling.is_some() {
        spec.autoscaling = role.autoscaling.clone();
    }
    if let Some(resources) = &role.resources {
        spec.resources = resources.clone();
    }
    spec
}
