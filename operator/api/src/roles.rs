//! The forms in which servers run: one Deployment that does all of it, or one that takes events and one that answers.

use crate::crd::workload::{ServerRole, ServerSpec};

/// What the servers of a Deployment do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// They take events and answer.
    All,
    /// They take events.
    Ingest,
    /// They answer, and never speak to Kafka.
    Query,
}

impl Role {
    /// Each of them.
    pub const EACH: [Self; 3] = [Self::All, Self::Ingest, Self::Query];

    /// As `pingd server --role` takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Ingest => "ingest",
            Self::Query => "query",
        }
    }

    /// The component in labels, and the end of the names of what belongs to them.
    #[must_use]
    pub fn component(self) -> &'static str {
        match self {
            Self::All => "server",
            Self::Ingest | Self::Query => self.as_str(),
        }
    }

    /// Whether they take events.
    #[must_use]
    pub fn takes_events(self) -> bool {
        self != Self::Query
    }

    /// Whether they answer.
    #[must_use]
    pub fn answers(self) -> bool {
        self != Self::Ingest
    }
}

/// The Deployments that `spec` asks for, each with what holds for it.
#[must_use]
pub fn deployments(spec: &ServerSpec) -> Vec<(Role, ServerSpec)> {
    match (&spec.ingest, &spec.query) {
        (None, None) => vec![(Role::All, spec.clone())],
        (ingest, query) => vec![(Role::Ingest, with(spec, ingest.as_ref())), (Role::Query, with(spec, query.as_ref()))],
    }
}

/// The role of the servers that answer.
#[must_use]
pub fn answering(spec: &ServerSpec) -> Role {
    if spec.ingest.is_none() && spec.query.is_none() { Role::All } else { Role::Query }
}

/// The role of the servers that take events.
#[must_use]
pub fn taking(spec: &ServerSpec) -> Role {
    if spec.ingest.is_none() && spec.query.is_none() { Role::All } else { Role::Ingest }
}

/// `spec`, with what `own` says instead.
fn with(spec: &ServerSpec, own: Option<&ServerRole>) -> ServerSpec {
    let mut spec = spec.clone();
    let Some(own) = own else { return spec };
    if let Some(replicas) = own.replicas {
        (spec.replicas, spec.autoscaling) = (replicas, None);
    }
    if own.autoscaling.is_some() {
        spec.autoscaling = own.autoscaling.clone();
    }
    if let Some(resources) = &own.resources {
        spec.resources = resources.clone();
    }
    spec
}
